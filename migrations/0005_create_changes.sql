-- Creates the functions that change tasks and queues one by one, and those that keep the tables in order. Settings and
-- rights as in the migration of the enqueue.
--
-- Locks: none that matters, the functions are new.

-- Cancels tasks. One that waits ends at once; one that runs is marked, and its runner is told. p_jobs and p_keep_seconds:
-- how long ended tasks of these jobs are kept, those of other jobs for p_other_seconds.
--
-- Returns a row for each id: cancelled, cancelling (it runs), already-finished, already-failed, already-cancelled,
-- moving (it changes hands again and again), or null when there is no such task.
create function izta.cancel_tasks_1(p_ids uuid[], p_jobs text[], p_keep_seconds bigint[], p_other_seconds bigint)
returns table (id uuid, outcome text)
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
as $cancel$
#variable_conflict use_column
declare
  v_open uuid[] := p_ids;
  v_keep_seconds bigint[];
  v_ended bigint[];
  v_marked uuid[];
begin
  for v_try in 1 .. 10 loop
    v_keep_seconds := array(
      select coalesce(k.seconds, p_other_seconds)
      from unnest(v_open) with ordinality as o(id, n)
      left join lateral (select t.job from izta.task t where t.id = o.id offset 0) t on true
      left join lateral (
        select r.seconds from unnest(p_jobs, p_keep_seconds) r(job, seconds) where r.job = t.job limit 1) k on true
      order by o.n);
    v_ended := izta.end_tasks_1(null, v_open, array_fill(0, array[cardinality(v_open)]),
      array_fill('cancel'::text, array[cardinality(v_open)]), array_fill(null::text, array[cardinality(v_open)]),
      v_keep_seconds);
    outcome := 'cancelled';
    foreach id in array array(select v_open[e.n] from unnest(v_ended) e(n)) loop
      return next;
    end loop;
    v_open := array(select o.id from unnest(v_open) with ordinality as o(id, n)
      where o.n not in (select e.n from unnest(v_ended) e(n)) order by o.id);

    with marked as (
      update izta.task t set cancel = true
      from (
        select h.place from unnest(v_open) as o(id)
        cross join lateral (select c.ctid as place from izta.task c where c.id = o.id offset 0) h) x
      where t.ctid = x.place and t.lease is not null and not t.ready and t.run_at > izta.now()
      returning t.id)
    select coalesce(array_agg(m.id), '{}') into v_marked from marked m;
    outcome := 'cancelling';
    foreach id in array v_marked loop
      return next;
    end loop;
    v_open := array(select o.id from unnest(v_open) o(id) where o.id <> all (v_marked) order by o.id);

    for id, outcome in
      select o.id, 'already-' || h.status
      from unnest(v_open) as o(id)
      cross join lateral (select e.status from izta.history e where e.id = o.id offset 0) h
    loop
      v_open := array_remove(v_open, id);
      return next;
    end loop;
    for id, outcome in
      select o.id, null from unnest(v_open) as o(id) where not exists (select from izta.task t where t.id = o.id)
    loop
      v_open := array_remove(v_open, id);
      return next;
    end loop;
    exit when cardinality(v_open) = 0;
  end loop;
  outcome := 'moving';
  foreach id in array v_open loop
    return next;
  end loop;
end
$cancel$;

-- Runs an ended task again, with the same id, attempts counted anew and errors kept: requeued. One that has failed and
-- waits for its next attempt becomes due: due-now. Finished tasks only with p_force. Claims go on counting, so that no
-- old outcome fits the new claim, and from 1: to its schedule it is no longer a task that never started.
--
-- Returns outcome (null: nothing was done), queue, the status of a task that was left as it is, whether only its tombstone is
-- left, whether the queue wants a runner, and who holds its key.
create function izta.retry_task_1(
  p_id uuid, p_force boolean,
  out outcome text, out queue text, out status text, out is_tombstone boolean, out wake boolean, out holder uuid)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
set lock_timeout = '2s'
as $retry$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_old izta.history;
begin
  begin
    delete from izta.history h
    where h.id = p_id and h.payload is not null and (h.status <> 'finished' or p_force)
    returning h.* into v_old;
    if found then
      perform izta.insert_tasks_1(
        json_build_array(json_build_object('id', p_id, 'payload', v_old.payload::text, 'key', v_old.key,
          'keyUntil', v_old.key_until, 'parent', v_old.parent, 'schedule', v_old.schedule, 'slot', v_old.slot)),
        v_old.queue, v_old.job, v_old.priority, v_old.max_attempts, 0, true, null, true);
      update izta.task t set claims = greatest(v_old.claims, 1), errors = v_old.errors, created_at = v_old.created_at
      where t.id = p_id
      returning 'requeued', t.queue into outcome, queue;
      if not found then
        raise unique_violation;
      end if;
    end if;
  exception when unique_violation then
    -- Its key is held: the delete is undone.
    select t.id into holder from izta.task t
    where t.job = v_old.job and t.key = v_old.key and t.key_until is not null and not t.key_freed;
    status := v_old.status;
    return;
  end;
  if outcome is null then
    -- Its lease stays if that is over: the next claim counts the loss.
    update izta.task t set ready = true, run_at = v_now, due_at = v_now
    where t.id = p_id and (t.lease is null or t.ready or t.run_at <= v_now) and t.attempt > 0
    returning 'due-now', t.queue into outcome, queue;
    if not found then
      select h.status, h.payload is null into status, is_tombstone from izta.history h where h.id = p_id;
      if not found then
        select izta.status_1(t), t.queue into status, queue from izta.task t where t.id = p_id;
      end if;
    end if;
  end if;
  wake := outcome is not null and izta.wake_queues_1(array[queue], array[queue], false) is not null;
end
$retry$;

-- Hands back what a lease holds, except tasks whose handlers still run: after an answer was lost. All leases of one lease id
-- end close to p_lease_ms from now.
create function izta.release_lease_1(p_lease uuid, p_lease_ms bigint, p_except uuid[]) returns setof uuid
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
as $release$
declare
  v_now constant timestamptz not null := izta.now();
begin
  return query update izta.task t set lease = null, run_at = t.due_at, ready = true
  where t.id = any (array(
      select o.id from izta.task o
      where not o.ready and o.lease = p_lease
        and o.run_at between v_now + (p_lease_ms - 60000) * interval '1 ms' and v_now + (p_lease_ms + 60000) * interval '1 ms'
      order by o.id))
    and t.lease = p_lease and t.id <> all (p_except)
    returning t.id;
end
$release$;

-- Pauses or resumes a queue. A resumed queue wants a runner: its mark is cleared.
create function izta.pause_queue_1(p_name text, p_paused boolean) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $pause$
begin
  if izta.is_name(p_name) is not true then
    raise exception 'Queue "%" is no name.', p_name using errcode = 'invalid_parameter_value';
  end if;
  insert into izta.queue (name, paused) values (p_name, p_paused)
  on conflict (name) do update set paused = excluded.paused, woken_at = '-infinity', used_at = excluded.used_at;
end
$pause$;

-- Marks a queue as woken after a commit elsewhere; whether it wants a runner.
create function izta.wake_queue_1(p_name text) returns boolean
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $wake$
begin
  if izta.is_name(p_name) is not true then
    raise exception 'Queue "%" is no name.', p_name using errcode = 'invalid_parameter_value';
  end if;
  return izta.wake_queues_1(array[p_name], array[p_name], false) is not null;
end
$wake$;

-- Makes the rows of the queues that definitions use, and keeps them from being removed as unused.
create function izta.register_queues_1(p_names text[]) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $register$
begin
  perform izta.make_queues_1(array(select n.name from unnest(p_names) n(name) where izta.is_name(n.name)), null);
  update izta.queue q set used_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name = any (p_names) and l.used_at < izta.now() - interval '1 hour'
    order by l.name for no key update skip locked));
end
$register$;

-- The queues with due tasks, as a tick finds them after lost wakes: how many are due (counted up to 10,000), for how long the
-- oldest is, and whether the queue wants a runner. p_ahead_seconds: queues whose next task is due within this time want one
-- too, unless a runner waits for it. Also records that a tick has come.
create function izta.tick_queues_1(p_ahead_seconds float8)
returns table (name text, paused boolean, due bigint, oldest_due_ms bigint, wake boolean)
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
as $tick$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_waiting text[];
  v_soon text[];
  v_wanted text[];
begin
  update izta.wake w set ticked_at = v_now
  where w.singleton = any (array(
    select k.singleton from izta.wake k where k.ticked_at not between v_now - interval '1 second' and v_now
    for no key update skip locked));
  for v_round in 1 .. 50 loop
    perform izta.make_ready_1();
    exit when not exists (select from izta.task t where not t.ready and t.run_at <= v_now);
  end loop;
  v_waiting := izta.ready_queues_1('{}', '', 100000) || array(
    select q.name from izta.queue q where q.paused
      and exists (select from izta.task t where t.ready and t.queue = q.name order by t.priority, t.run_at limit 1));
  if p_ahead_seconds > 0 then
    v_soon := array(
      select distinct t.queue
      from izta.task t
      left join lateral (select * from izta.queue o where o.name = t.queue offset 0) q on true
      where not t.ready and t.run_at > v_now and t.run_at <= v_now + p_ahead_seconds * interval '1 second'
        -- The runner of a leased task settles it long before.
        and t.lease is null
        and (q.name is null or (not q.paused and (q.lingers_until <= v_now or q.lingers_until > t.run_at))));
  end if;
  v_wanted := izta.wake_queues_1(
    array(select distinct n.name from unnest(v_waiting || v_soon) n(name)), v_waiting || v_soon, false);
  return query
    select n.name, coalesce(q.paused, false), d.due, coalesce(izta.epoch_ms(v_now) - izta.epoch_ms(d.oldest), 0),
      n.name = any (coalesce(v_wanted, '{}'))
    from (select distinct u.name from unnest(v_waiting || v_wanted) u(name)) n
    left join lateral (select * from izta.queue o where o.name = n.name offset 0) q on true
    cross join lateral (
      select count(*) as due, min(r.run_at) as oldest from (
        select t.run_at from izta.task t where t.ready and t.queue = n.name
        order by t.priority, t.run_at limit 10000) r) d
    order by n.name;
end
$tick$;

-- Records an alarm that exists, unless an earlier one is still to go off.
create function izta.record_alarm_1(p_at timestamptz) returns void
language sql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '2s' as $alarm$
  update izta.wake set armed_at = p_at
  where p_at < timestamptz '10000-01-01 00:00:00+00'
    and (armed_at <= izta.now() + izta.alarm_margin() or armed_at > p_at)
$alarm$;

-- Removes up to p_limit rows of the history whose time is over, and rows of queues that were not used for a day. Returns
-- how many rows of the history.
create function izta.prune_1(p_limit integer) returns bigint
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
as $prune$
declare
  v_now constant timestamptz not null := izta.now();
  v_pruned bigint;
begin
  delete from izta.history h
  where h.ctid = any (array(
    select o.ctid from izta.history o where o.expires_at <= v_now order by o.expires_at limit p_limit
    for update skip locked));
  get diagnostics v_pruned = row_count;
  delete from izta.queue q
  where q.name = any (array(
    select l.name from izta.queue l
    where l.used_at < v_now - interval '1 day' and not l.paused and l.lingers_until <= v_now
      and not exists (select from izta.task t where t.ready and t.queue = l.name)
    order by l.name limit 1000 for update skip locked));
  return v_pruned;
end
$prune$;

-- Postgres lets everybody execute a new function. Users get what they need from the owner: `izta migrate --roles`.
revoke execute on all functions in schema izta from public;
