-- Creates the hot path: one call of a runner that settles what has ended and claims what is due.
--
-- izta.turn_1 is the call; it consists of izta.settle_1, izta.insert_tasks_1 and izta.pick_1. These are separate
-- statements of one transaction: the claim sees what the settle freed and the children it made. Settings and rights as
-- in the migration of the enqueue.
--
-- Never join a set with izta.task or izta.history freely. A plan is kept for the life of a session, and one that was
-- made while the statistics said "no rows" may read the whole table for each call later. Each row is found by a lateral
-- subquery with "offset 0", which can only be a look into the index, and changed by its place, ctid. A place is good
-- only within one snapshot: whoever changes a row by its place repeats the conditions that the row must meet.
--
-- Locks: none that matters, the functions are new.

-- Ends tasks: moves them from izta.task to izta.history. The tasks are fenced: each must still have the lease and the number
-- of claims. Without a lease the tasks must be waiting, with any number of claims.
--
-- Kinds: finish, fail (an attempt counts), drop (failed, no attempt counts) and cancel. Any other kind ends the task only if
-- it is marked for cancellation, and then as cancelled. A body is the result of finish, else the entry of errors. A
-- finished task that is kept for 0 seconds leaves a tombstone: a row for a day that only tells that the id has been used.
--
-- Returns the positions of the tasks that have ended.
create function izta.end_tasks_1(
  p_lease uuid, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_keep_seconds bigint[])
returns bigint[] language plpgsql as $end$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_ended bigint[];
  v_unmade uuid[];
begin
  for v_try in 1 .. 2 loop
    begin
      with gone as (
        delete from izta.task t
        using (
          select i.*, h.place
          from unnest(p_ids, p_claims, p_kinds, p_bodies, p_keep_seconds)
            with ordinality as i(id, claims, kind, body, keep_seconds, n)
          cross join lateral (
            select o.ctid as place from izta.task o where o.id = i.id offset 0) h
          -- One order for all callers: a copy of this call waits its turn.
          order by i.id) x
        where t.ctid = x.place
          and case when p_lease is null then t.lease is null or t.ready or t.run_at <= v_now
            else t.lease = p_lease and t.claims = x.claims end
          and (t.cancel or x.kind in ('finish', 'fail', 'drop', 'cancel'))
        returning x.n, x.body, x.keep_seconds, t.*,
          case when x.kind = 'finish' or not t.cancel then x.kind else 'cancel' end as kind,
          x.kind = 'finish' and x.keep_seconds = 0 as is_tombstone),
      kept as (
        insert into izta.history (id, queue, job, status, payload, result, errors, priority, attempt, max_attempts,
          losses, claims, key, key_until, parent, schedule, slot, created_at, due_at, finished_at, expires_at)
        select id, queue, job, case kind when 'finish' then 'finished' when 'cancel' then 'cancelled' else 'failed' end,
          case when not is_tombstone then payload end,
          case when kind = 'finish' and not is_tombstone then body::json end,
          case when kind = 'finish' or body is null or cancel then errors else izta.add_error_1(errors, body) end,
          priority, attempt + (kind in ('finish', 'fail'))::integer, max_attempts, losses, claims, key, key_until, parent,
          schedule, slot, created_at, due_at, v_now,
          v_now + case when is_tombstone then interval '1 day' else keep_seconds * interval '1 second' end
        from gone)
      select coalesce(array_agg(n), '{}') into v_ended from gone;
      exit;
    exception when unique_violation then
      -- A task that has ended already, which nothing should allow: it goes without a second end.
      v_unmade := izta.unmake_ended_1(p_ids);
    end;
  end loop;
  if v_unmade is not null then
    v_ended := v_ended || array(select i.n from unnest(p_ids) with ordinality as i(id, n) where i.id = any (v_unmade));
  end if;
  return v_ended;
end
$end$;

-- Appends an error entry, with its instant from the only clock; the last 25 are kept. Not in SQL: its expressions would be
-- set up by each statement that names it, whether it has errors or not.
create function izta.add_error_1(p_errors json[], p_body text) returns json[] language plpgsql stable as $error$
begin
  return (coalesce(p_errors, '{}') || ('{"at":' || izta.epoch_ms(izta.now()) || ',' || substr(p_body, 2))::json)
    [greatest(1, coalesce(cardinality(p_errors), 0) - 23):];
end
$error$;

-- Settles outcomes of one lease. Kinds, besides those of izta.end_tasks_1:
--   retry              due after the delay, one attempt more
--   retry-after-lease  the same, but not before the lease's end: its handler ignores its signal and still runs
--   defer              due after the delay, no attempt
--   release            due again as it was, no attempt
-- A task marked for cancellation becomes cancelled whatever its kind, except when it has finished.
--
-- Waits for the locks of others, since a skipped settle would run a finished task again. A row that somebody changed
-- since the snapshot (its mark) is not found by its place: it is tried again with the next snapshot.
--
-- Returns the positions of what was settled. The rest is not held by this lease any more.
create function izta.settle_1(
  p_lease uuid, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[],
  p_keep_seconds bigint[])
returns bigint[] language plpgsql as $settle$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_may_continue constant boolean not null := p_kinds && '{retry,retry-after-lease,defer,release}'::text[];
  v_continued bigint[];
  v_settled bigint[] not null := '{}';
begin
  loop
    if v_may_continue then
      with moved as (
        update izta.task t set
          lease = null, ready = x.at <= v_now, run_at = x.at, due_at = x.at,
          attempt = t.attempt + (x.kind in ('retry', 'retry-after-lease'))::integer,
          errors = case when x.kind in ('retry', 'retry-after-lease') then izta.add_error_1(t.errors, x.body) else t.errors end
        from (
          select i.*, h.place, case i.kind
            when 'release' then h.due_at
            -- The run_at of a leased task is its lease's end.
            when 'retry-after-lease' then greatest(h.run_at, v_now + i.delay_ms * interval '1 ms')
            else v_now + i.delay_ms * interval '1 ms' end as at
          from unnest(p_ids, p_claims, p_kinds, p_bodies, p_delays_ms)
            with ordinality as i(id, claims, kind, body, delay_ms, n)
          cross join lateral (
            select o.ctid as place, o.due_at, o.run_at from izta.task o where o.id = i.id offset 0) h
          where i.kind in ('retry', 'retry-after-lease', 'defer', 'release')
          order by i.id) x
        where t.ctid = x.place and t.lease = p_lease and t.claims = x.claims and not t.cancel
        returning x.n)
      select coalesce(array_agg(n), '{}') into v_continued from moved;
      v_settled := v_settled || v_continued;
    end if;
    if cardinality(v_settled) < cardinality(p_ids) then
      v_settled := v_settled || izta.end_tasks_1(p_lease, p_ids, p_claims, p_kinds, p_bodies, p_keep_seconds);
    end if;
    exit when cardinality(v_settled) = cardinality(p_ids) or not exists (
      select from unnest(p_ids, p_claims) as i(id, claims)
      cross join lateral (
        select from izta.task o where o.id = i.id and o.lease = p_lease and o.claims = i.claims offset 0) h);
  end loop;
  return v_settled;
end
$settle$;

-- Makes ready what time has brought: delayed tasks that are due, and tasks whose lease is over. These keep their lease: an
-- outcome that comes late still counts if no other runner has claimed the task. Bounded, so that no claim waits for all.
create function izta.make_ready_1() returns void language plpgsql as $ready$
declare
  v_now constant timestamptz not null := izta.now();
begin
  if exists (select from izta.task t where not t.ready and t.run_at <= v_now) then
    update izta.task t set ready = true
    where t.ctid = any (array(
      select o.ctid from izta.task o
      where not o.ready and o.run_at <= v_now
      order by o.run_at limit 2000
      for no key update of o skip locked));
  end if;
end
$ready$;

-- The queues that have ready tasks and are not paused, in the order of their names, beginning after p_after and then from
-- the first: hops from name to name, so that only queues with ready tasks are seen. Without p_queues all queues count.
create function izta.ready_queues_1(p_queues text[], p_after text, p_limit integer) returns text[]
language plpgsql stable set search_path = pg_catalog, pg_temp as $queues$
declare
  v_paused constant text[] := array(select q.name from izta.queue q where q.paused);
  v_from text := p_after;
  v_name text;
  v_found text[] := '{}';
begin
  if cardinality(p_queues) > 0 then
    return array(
      select n.name
      from unnest(p_queues) n(name)
      where n.name <> all (v_paused)
        and exists (select from izta.task t where t.ready and t.queue = n.name order by t.priority, t.run_at limit 1)
      order by n.name <= p_after, n.name
      limit p_limit);
  end if;
  for v_round in 1 .. 2 loop
    while cardinality(v_found) < p_limit loop
      select t.queue into v_name from izta.task t
      where t.ready and t.queue > v_from order by t.queue, t.priority, t.run_at limit 1;
      exit when not found or (v_round = 2 and v_name > p_after);
      if v_name <> all (v_paused) then
        v_found := v_found || v_name;
      end if;
      v_from := v_name;
    end loop;
    exit when p_after = '';
    v_from := '';
  end loop;
  return v_found;
end
$queues$;

-- Lets eight claims look at the same time. A claim that looks while many others commit does not skip the rows that they lock,
-- but follows and waits for them. Any user of the database may hold such a lock, and for long: a claim waits for a moment,
-- then it goes on without the lock.
create function izta.wait_in_line_1() returns void language plpgsql as $line$
declare
  v_lock constant bigint := 'izta.task'::regclass::oid::bigint * 8 + floor(random() * 8)::bigint;
begin
  if pg_try_advisory_xact_lock(v_lock) then
    return;
  end if;
  begin
    perform set_config('lock_timeout', '200ms', true);
    perform pg_advisory_xact_lock(v_lock);
  exception when lock_not_available then
    null;
  end;
  perform set_config('lock_timeout', '2s', true);
end
$line$;

-- Locks the ready tasks that a claim takes, and returns their places and the ids of those whose last lease was lost. Queues
-- take turns: each gets an equal share of the limit, what
-- some of them leave goes to the others. p_after is the queue that was served last, null for the first claim of a runner,
-- which begins anywhere. Within a queue priority comes first, then the due time.
--
-- p_ranges: where a claim looks in a backlog: ranges of priorities of queues, each from a due time on (null: from the
-- first). While a transaction elsewhere keeps vacuum from clearing away dead rows, index entries of claimed tasks pile up,
-- and a look from the beginning passes all of them. Without ranges all queues with ready tasks are looked into.
--
create function izta.pick_1(
  p_queues text[], p_limit integer, p_reply_bytes bigint, p_after text,
  p_range_queues text[], p_lowest smallint[], p_highest smallint[], p_from_ms bigint[],
  out places tid[], out lost uuid[])
language plpgsql as $pick$
declare
  -- A few tasks for each visited queue.
  v_visits constant integer := least(p_limit, greatest(8, p_limit / 5));
  -- The ranges: those that are given, or one for each queue.
  v_queues text[];
  v_lowest smallint[];
  v_highest smallint[];
  v_from timestamptz[];
  v_found integer[];
  v_queue_count integer;
  v_share integer;
  v_left integer;
  v_queue text;
  v_low smallint;
  v_high smallint;
  v_from_at timestamptz;
  v_offset integer;
  v_new_places tid[];
  v_new_lost uuid[];
  v_new_bytes bigint;
  v_stored_bytes bigint not null := 0;
begin
  places := '{}';
  lost := '{}';
  perform izta.wait_in_line_1();
  perform izta.make_ready_1();
  if p_range_queues is null then
    v_queues := izta.ready_queues_1(p_queues, coalesce(p_after, ''), greatest(v_visits, case when p_after is null then 64 end));
    if p_after is null and cardinality(v_queues) > 1 then
      v_queues := array(select q.name from unnest(v_queues) q(name) order by random() limit v_visits);
    end if;
    v_queue_count := cardinality(v_queues);
  else
    select array_agg(r.queue), array_agg(r.lowest), array_agg(r.highest), array_agg(r.from_at), count(distinct r.queue)
    into v_queues, v_lowest, v_highest, v_from, v_queue_count
    from (
      select g.queue, g.lowest, g.highest, coalesce(timestamptz 'epoch' + g.ms * interval '1 ms', '-infinity') as from_at
      from unnest(p_range_queues, p_lowest, p_highest, p_from_ms) as g(queue, lowest, highest, ms)
      where not exists (select from izta.queue q where q.name = g.queue and q.paused)
      order by g.queue <= p_after, g.queue, g.lowest) r;
  end if;
  if v_queue_count = 0 then
    return;
  end if;

  v_share := ceil(p_limit::float8 / v_queue_count);
  v_found := array_fill(0, array[cardinality(v_queues)]);
  for v_round in 1 .. 2 loop
    v_queue := null;
    for v_n in 1 .. cardinality(v_queues) loop
      if v_queue is distinct from v_queues[v_n] then
        v_queue := v_queues[v_n];
        v_left := least(v_share, p_limit - cardinality(places));
      end if;
      continue when v_left = 0;
      v_low := coalesce(v_lowest[v_n], 0);
      v_high := coalesce(v_highest[v_n], 9);
      v_from_at := coalesce(v_from[v_n], '-infinity');
      -- The second round passes over the rows of the first. Where others came before these meanwhile, a place is named
      -- twice and claimed once.
      v_offset := v_found[v_n];
      select array_agg(x.place), sum(x.bytes), array_agg(x.id) filter (where x.is_lost)
      into v_new_places, v_new_bytes, v_new_lost
      from (
        select t.ctid as place, pg_column_size(t.payload) as bytes, t.id, t.lease is not null as is_lost
        from izta.task t
        where t.ready and t.queue = v_queue and (t.priority, t.run_at) >= (v_low, v_from_at) and t.priority <= v_high
        order by t.priority, t.run_at
        limit v_left offset v_offset
        for no key update skip locked) x;
      if v_new_places is not null then
        -- Good as long as the rows are locked.
        places := places || v_new_places;
        lost := lost || v_new_lost;
        v_stored_bytes := v_stored_bytes + v_new_bytes;
        v_found[v_n] := v_offset + cardinality(v_new_places);
        v_left := v_left - cardinality(v_new_places);
      end if;
    end loop;
    exit when v_queue_count = 1 or cardinality(places) >= p_limit;
    v_share := p_limit;
  end loop;
  -- Stored payloads may be compressed, rarely to less than a hundredth.
  if v_stored_bytes * 100 > p_reply_bytes then
    places := izta.fitting_1(places, p_reply_bytes);
  end if;
end
$pick$;

-- The first of the rows whose payloads fit together into the bytes. The very first goes whatever its size, or it would never
-- go. Reads no more payloads than fit.
create function izta.fitting_1(p_places tid[], p_bytes bigint) returns tid[] language plpgsql stable as $fitting$
declare
  v_bytes bigint := 0;
begin
  for v_n in 1 .. cardinality(p_places) loop
    select v_bytes + octet_length(t.payload::text) into v_bytes from izta.task t where t.ctid = p_places[v_n];
    if v_bytes > p_bytes and v_n > 1 then
      return p_places[1:v_n - 1];
    end if;
  end loop;
  return p_places;
end
$fitting$;

-- Nothing is due: clears the marks of these queues, so that the next enqueue wakes a runner again. Never waits for the lock of
-- another transaction.
create function izta.note_empty_1(p_queues text[]) returns void language plpgsql as $empty$
begin
  if exists (
    select from izta.queue q
    where q.woken_at > '-infinity' and (cardinality(p_queues) = 0 or q.name = any (p_queues)))
  then
    update izta.queue q set woken_at = '-infinity'
    where q.name = any (array(
      select l.name from izta.queue l
      where l.woken_at > '-infinity' and (cardinality(p_queues) = 0 or l.name = any (p_queues))
      order by l.name for no key update skip locked));
  end if;
end
$empty$;

-- Tells the first task of these queues that is due within the time, and takes the place of the one runner that waits for the
-- next task of its queue. Leased tasks are no reason to wait: their runners settle them long before.
create function izta.linger_1(p_queues text[], p_within_ms bigint, out queue text, out wait_ms bigint)
language plpgsql as $linger$
declare
  v_now constant timestamptz not null := izta.now();
  v_at timestamptz;
begin
  select t.queue, t.run_at into queue, v_at
  from izta.task t
  left join lateral (select * from izta.queue o where o.name = t.queue offset 0) q on true
  where not t.ready and t.run_at > v_now and t.run_at <= v_now + p_within_ms * interval '1 ms' and t.lease is null
    and (cardinality(p_queues) = 0 or t.queue = any (p_queues))
    and (q.name is null or (not q.paused and (q.lingers_until <= v_now or q.lingers_until > t.run_at)))
  order by t.run_at limit 1;
  if queue is null then
    return;
  end if;
  perform izta.make_queues_1(array[queue], null);
  update izta.queue q set lingers_until = v_at
  where q.name = any (array(
    select l.name from izta.queue l
    where l.name = linger_1.queue and (l.lingers_until <= v_now or l.lingers_until > v_at)
    for no key update skip locked));
  if found then
    wait_ms := greatest(1, izta.epoch_ms(v_at) - izta.epoch_ms(v_now));
  else
    queue := null;
  end if;
end
$linger$;

-- One turn of a runner: settles the outcomes p_ids, p_claims, p_kinds, p_bodies, p_delays_ms, p_keep_seconds (arrays of one
-- length, or null), inserts the children of those that have finished, claims up to p_limit tasks: reserves them for the time
-- of the lease. p_watch: running tasks whose cancellation is asked for. p_linger_ms: nothing is due and the runner would leave,
-- but it waits for a task that is due within this time. Children are objects as izta.new_tasks_1 takes them.
--
-- No argument has a default: decoding defaults costs each call more than sending nulls.
--
-- Rows returned, told apart by kind; all but claimed ones have only what is named:
--   claimed    a task to run; lost tells that its last lease ran out
--   cancel     a watched task that is to be cancelled: id
--   unsettled  an outcome whose lease is no longer held: id. It changed nothing
--   skipped    a child that was not made, since its key is held or its id is taken: id, job, key
--   wake       a queue in which children are due, and that wants a runner: queue
--   wait       the next task is due soon: queue, waited_ms
create function izta.turn_1(
  p_lease uuid, p_lease_ms bigint, p_queues text[], p_limit integer, p_reply_bytes bigint, p_after text,
  p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[], p_keep_seconds bigint[],
  p_children json, p_children_may_exist boolean, p_watch uuid[],
  p_range_queues text[], p_lowest smallint[], p_highest smallint[], p_from_ms bigint[], p_linger_ms bigint)
returns table (
  kind text, id uuid, queue text, job text, payload json, priority smallint, attempt smallint, max_attempts smallint,
  losses smallint, claims integer, created_ms float8, due_ms float8, waited_ms float8, key text, parent uuid, schedule text,
  slot_ms float8, trace text, cancel boolean, skip_overlap boolean, lost boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
set lock_timeout = '2s'
as $turn$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_settled bigint[];
  v_finished uuid[];
  v_children record;
  v_picked record;
begin
  if p_ids is not null then
    v_settled := izta.settle_1(p_lease, p_ids, p_claims, p_kinds, p_bodies, p_delays_ms, p_keep_seconds);
    if cardinality(v_settled) < cardinality(p_ids) then
      kind := 'unsettled';
      for id in
        select i.id from unnest(p_ids) with ordinality as i(id, n) where i.n not in (select s.n from unnest(v_settled) s(n))
      loop
        return next;
      end loop;
    end if;
    if p_children is not null then
      v_finished := array(select p_ids[s.n] from unnest(v_settled) s(n) where p_kinds[s.n] = 'finish');
      v_children := izta.insert_tasks_1(p_children, null, null, null, null, 0, p_children_may_exist, v_finished, true);
      kind := 'skipped';
      for id, job, key in
        select c.id, c.job, c.key
        from json_to_recordset(p_children) as c(id uuid, job text, key text, parent uuid)
        where c.parent = any (v_finished) and c.id not in (select m.id from unnest(v_children.made) m(id))
      loop
        return next;
      end loop;
      -- A runner of all queues, or of the child's, finds the child itself.
      kind := 'wake';
      id := null; job := null; key := null;
      foreach queue in array coalesce(izta.wake_queues_1(v_children.queues, array(
        select d.name from unnest(v_children.due) d(name)
        where cardinality(p_queues) > 0 and d.name <> all (p_queues)), izta.is_late_1()), '{}')
      loop
        return next;
      end loop;
      queue := null;
    end if;
  end if;

  if p_watch is not null then
    kind := 'cancel';
    for id in
      select t.id
      from unnest(p_watch) w(id)
      cross join lateral (
        select o.id from izta.task o where o.id = w.id and o.cancel and o.lease = p_lease offset 0) t
    loop
      return next;
    end loop;
    id := null;
  end if;

  if p_limit > 0 then
    v_picked := izta.pick_1(p_queues, p_limit, p_reply_bytes, p_after, p_range_queues, p_lowest, p_highest, p_from_ms);
    if cardinality(v_picked.places) > 0 then
      return query
        update izta.task t set
          lease = p_lease,
          ready = false,
          run_at = v_now + p_lease_ms * interval '1 ms',
          -- Bounded, since one overflow would fail the claim of its neighbours.
          losses = least(t.losses + (t.lease is not null)::integer, 32767),
          claims = t.claims + 1,
          key_freed = t.key_freed or coalesce(t.key_until = 'started', false)
        where t.ctid = any (v_picked.places)
        -- Instants as milliseconds: the text of a timestamp depends on settings of the session. Not as whole numbers: an
        -- instant that is too large for them would fail the claim of the others.
        returning 'claimed', t.id, t.queue, t.job, t.payload, t.priority, t.attempt, t.max_attempts, t.losses, t.claims,
          date_part('epoch', t.created_at) * 1000, date_part('epoch', t.due_at) * 1000,
          date_part('epoch', v_now - t.due_at) * 1000, t.key, t.parent, t.schedule, date_part('epoch', t.slot) * 1000,
          t.trace, t.cancel, t.skip_overlap, t.id = any (v_picked.lost);
    else
      perform izta.note_empty_1(p_queues);
      if p_linger_ms is not null then
        kind := 'wait';
        select l.queue, l.wait_ms into queue, waited_ms from izta.linger_1(p_queues, p_linger_ms) l;
        if queue is not null then
          return next;
        end if;
      end if;
    end if;
  end if;
end
$turn$;
