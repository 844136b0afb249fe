-- What the harness knows on its own: runs of handlers, accepted enqueues, and a journal of what happens to the rows.
create schema ledger;

create table ledger.accepted (
  task uuid primary key,
  job text not null,
  cancelled boolean not null default false
);

create table ledger.run (
  id uuid primary key,
  task uuid not null,
  job text not null,
  attempt integer not null,
  losses integer not null,
  -- Of the process, whose number another may have after it.
  process uuid not null,
  -- When its signal aborts at the latest.
  may_run_until timestamptz not null,
  -- By the machine's clock, as all instants of the ledger but those of takeovers. The row may come later.
  started_at timestamptz not null,
  -- Until when the lease of this very claim lasts; null: somebody else's by the time the handler started.
  lease_until timestamptz,
  ended_at timestamptz,
  outcome text
);
create index on ledger.run (task);
create index on ledger.run (process);
create index on ledger.run (started_at) where ended_at is null;

create table ledger.made (
  n bigint generated always as identity primary key,
  task uuid not null, job text not null, parent uuid, schedule text, slot timestamptz,
  at timestamptz not null default clock_timestamp(),
  transaction_id xid8 not null default pg_current_xact_id()
);
create index on ledger.made (task);
create index on ledger.made (parent) where parent is not null;

create table ledger.ended (
  n bigint generated always as identity primary key,
  task uuid not null, job text not null, lease uuid, lease_until timestamptz not null,
  at timestamptz not null default clock_timestamp()
);
create index on ledger.ended (task);

create table ledger.takeover (
  n bigint generated always as identity primary key,
  task uuid not null, attempt integer not null, losses_before integer not null, losses_after integer not null,
  lease_until timestamptz not null, claimed_at timestamptz not null,
  at timestamptz not null default clock_timestamp()
);
create index on ledger.takeover (task);

-- Evidence, which no rule reads: every claim, what a runner says became of its tasks, and leases that were given back,
-- with the call that did.
create table ledger.claimed (
  n bigint generated always as identity primary key,
  task uuid not null, lease uuid not null, claims integer not null,
  at timestamptz not null default clock_timestamp()
);
create index on ledger.claimed (task);
create table ledger.said (
  task uuid not null, event text not null, attempt integer not null, process uuid not null, at timestamptz not null
);
create index on ledger.said (task);

create table ledger.freed (
  n bigint generated always as identity primary key,
  task uuid not null, lease uuid not null, claims integer not null, attempt_before integer not null,
  attempt_after integer not null, call text not null,
  at timestamptz not null default clock_timestamp()
);
create index on ledger.freed (task);

-- How far the clock of izta is behind that of the machine.
create table ledger.clock (behind interval not null);
insert into ledger.clock values ('0');
grant usage on schema ledger to izta_app;
grant select on ledger.clock to izta_app;
create or replace function izta.now() returns timestamptz language sql stable parallel safe
  as 'select pg_catalog.now() - (select c.behind from ledger.clock c)';
-- The machine's instant of one on izta's clock, or an earlier one: the clock only falls behind.
create function ledger.real(at timestamptz) returns timestamptz language sql stable
  as 'select at + (select c.behind from ledger.clock c)';

create table ledger.trouble (sqlstate text not null, share real not null, until_at timestamptz not null);

-- By pattern: the operators of json refuse the whole value for a \u0000 in the message, which izta stores.
create function ledger.code(entry json) returns text language sql immutable
  return substring(entry::text from '"code":"([a-z-]+)"');
create function ledger.attempt(entry json) returns integer language sql immutable
  return substring(entry::text from '"attempt":(\d+)')::integer;
create function ledger.last_code(errors json[]) returns text language sql immutable
  return ledger.code(errors[cardinality(errors)]);

create function ledger.note_made() returns trigger language plpgsql security definer as $$
begin
  insert into ledger.made (task, job, parent, schedule, slot)
  values (new.id, new.job, new.parent, new.schedule, new.slot);
  return null;
end $$;
create function ledger.note_ended() returns trigger language plpgsql security definer as $$
begin
  -- Made and taken back by one statement: nobody has ever seen it.
  delete from ledger.made where task = old.id and transaction_id = pg_current_xact_id();
  if found then
    return null;
  end if;
  insert into ledger.ended (task, job, lease, lease_until) values (old.id, old.job, old.lease, ledger.real(old.run_at));
  return null;
end $$;
create function ledger.note_takeover() returns trigger language plpgsql security definer as $$
begin
  insert into ledger.takeover (task, attempt, losses_before, losses_after, lease_until, claimed_at)
  values (new.id, old.attempt, old.losses, new.losses, old.run_at, izta.now());
  return null;
end $$;
create function ledger.note_claimed() returns trigger language plpgsql security definer as $$
begin
  insert into ledger.claimed (task, lease, claims) values (new.id, new.lease, new.claims);
  return null;
end $$;
create function ledger.note_freed() returns trigger language plpgsql security definer as $$
begin
  insert into ledger.freed (task, lease, claims, attempt_before, attempt_after, call)
  values (new.id, old.lease, old.claims, old.attempt, new.attempt,
    left(regexp_replace(trim(current_query()), '\s+', ' ', 'g'), 60));
  return null;
end $$;
create function ledger.make_trouble() returns trigger language plpgsql security definer as $$
declare
  v_state text;
begin
  select sqlstate into v_state from ledger.trouble where until_at > clock_timestamp() and random() < share limit 1;
  if v_state is not null then
    raise exception 'trouble on purpose' using errcode = v_state;
  end if;
  return null;
end $$;

create trigger note_made after insert on izta.task for each row execute function ledger.note_made();
create trigger note_ended after delete on izta.task for each row execute function ledger.note_ended();
create trigger note_takeover after update on izta.task for each row
  when (old.lease is not null and new.lease is not null and new.claims > old.claims)
  execute function ledger.note_takeover();
create trigger note_claimed after update on izta.task for each row
  when (new.claims > old.claims)
  execute function ledger.note_claimed();
create trigger note_freed after update on izta.task for each row
  when (old.lease is not null and new.lease is null)
  execute function ledger.note_freed();
-- Once after the rows were changed, so that the rest of the statement is undone with them.
create trigger make_trouble after insert or update or delete on izta.task
  for each statement execute function ledger.make_trouble();
