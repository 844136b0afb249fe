-- Creates the enqueue: inserts tasks, refuses what exists or has its key taken, and says which queues want a runner.
--
-- A function, as the turn is and with its settings (0003): several statements in one round trip, each of which sees
-- what was committed while the one before waited for a lock.
--
-- Locks: none that matters, all objects are new.

-- Takes back those of the tasks just made that have ended before, and returns their ids. Their insert may have waited
-- for the very transaction that moved the task to the history: then it found the id free, and did not see the history.
create function izta.unmake_ended_1(p_ids uuid[]) returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $unmake$
declare
  v_ended uuid[];
begin
  with ended as (
    delete from izta.task t
    using unnest(p_ids) as i(id) join izta.history h on h.id = i.id
    where t.id = i.id
    returning t.id)
  select coalesce(array_agg(e.id), '{}') into v_ended from ended e;

  -- Here the look above sees no more than the insert did. An insert, though, fails with 40001 on a row that it cannot
  -- see, and the call is sent again.
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    insert into izta.history (id, queue, job, status, priority, attempt, max_attempts, losses, claims, created_at,
      due_at, finished_at, expires_at)
    select i.id, '', '', 'cancelled', 0, 0, 0, 0, 0, now(), now(), now(), now()
    from unnest(p_ids) as i(id) where i.id <> all (v_ended)
    order by i.id
    on conflict on constraint history_pkey do nothing;
    delete from izta.history h
    using unnest(p_ids) as i(id)
    where h.id = i.id and i.id <> all (v_ended);
  end if;
  return v_ended;
end
$unmake$;

-- Arguments: the columns of the tasks; of an array that is shorter than the ids the first element stands for those that
-- are missing, or null where tasks may have none (run_at, key, key_until, trace). p_least and p_greatest: the bounds of
-- the ids, which may have been used before and are looked up in the history; null when they have not. p_wake: marks the
-- queues as woken; inside an application's transaction those rows would stay locked.
--
-- Returns one row: refused [{ index, id, status }], where id is null if the holder of the key ended just now; the
-- queues that want a runner; and the first due instant to come, when no alarm is set for it.
create function izta.enqueue_1(
  p_ids uuid[], p_queues text[], p_jobs text[], p_payloads text[], p_priorities smallint[], p_max_attempts smallint[],
  p_delays_ms bigint[], p_run_at timestamptz[], p_keys text[], p_key_until text[], p_traces text[],
  p_least uuid, p_greatest uuid, p_wake boolean, p_alarm_margin interval)
returns table (refused json, wake json, later_ms bigint)
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
-- Less than the clients wait for an answer, or they would come again while this one still waits.
set lock_timeout = '10s'
as $enqueue$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_made uuid[];
  v_ended uuid[] not null := '{}';
  v_queues text[];
  v_due text[];
  v_stale text[];
  v_new text[];
  v_first timestamptz;
  v_later timestamptz;
  v_mixed constant boolean not null := cardinality(p_queues) > 1;
  v_looks_back boolean not null := false;
begin
  -- Conditions are nested where one has a query in it: such a condition is run as a query, whatever stands before it.
  -- Ids that nobody has chosen are neighbours: one look tells that none of them has ended, of almost every call.
  if p_least is not null then
    v_looks_back := exists (select from izta.history h where h.id between p_least and p_greatest);
  end if;

  with made as (
    insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, key, key_until, created_at,
      trace)
    select i.id, coalesce(i.queue, p_queues[1]), coalesce(i.job, p_jobs[1]), i.payload::json,
      coalesce(i.priority, p_priorities[1]), coalesce(i.max_attempts, p_max_attempts[1]), w.at, w.at, i.key, i.key_until,
      v_now, i.trace
    from unnest(p_ids, p_queues, p_jobs, p_payloads, p_priorities, p_max_attempts, p_delays_ms, p_run_at, p_keys,
      p_key_until, p_traces)
      as i(id, queue, job, payload, priority, max_attempts, delay_ms, run_at, key, key_until, trace)
    cross join lateral (
      select coalesce(i.run_at, v_now + coalesce(i.delay_ms, p_delays_ms[1]) * interval '1 ms') as at) w
    where not (v_looks_back and exists (select from izta.history h where h.id = i.id))
    -- One order for everybody, or two inserts of mixed keys deadlock.
    order by coalesce(i.job, p_jobs[1]), i.key, i.id
    on conflict do nothing
    returning id, queue, run_at)
  select coalesce(array_agg(m.id), '{}'), min(m.run_at), min(m.run_at) filter (where m.run_at > v_now),
    array_agg(m.queue) filter (where v_mixed), array_agg(m.queue) filter (where v_mixed and m.run_at <= v_now)
  into v_made, v_first, v_later, v_queues, v_due from made m;
  -- Nearly always there is one queue, whose name need not be sorted once a task.
  if v_mixed then
    v_queues := array(select distinct q.name from unnest(v_queues) q(name));
    v_due := array(select distinct q.name from unnest(v_due) q(name));
  else
    v_queues := p_queues;
    v_due := case when v_first <= v_now then p_queues end;
  end if;

  -- Looked at again, since the insert may have waited for whoever was ending one of them.
  if p_least is not null and cardinality(v_made) > 0 then
    if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
      or exists (select from izta.history h where h.id between p_least and p_greatest)
    then
      v_ended := izta.unmake_ended_1(v_made);
    end if;
  end if;

  -- Identity goes before the key: a repeat is told of its own task, not of a later one with the same key.
  if cardinality(v_made) - cardinality(v_ended) < cardinality(p_ids) then
    select json_agg(json_build_object('index', i.n - 1, 'id', f.id, 'status', case
      when f.status is not null or f.id is null then f.status
      when f.leased and f.run_at > v_now then 'running'
      when f.attempt > 0 then 'failing'
      else 'pending'
    end) order by i.n) into refused
    from unnest(p_ids, p_jobs, p_keys, p_key_until) with ordinality as i(id, job, key, key_until, n)
    left join lateral (
      select t.id, null as status, t.lease is not null as leased, t.run_at, t.attempt from izta.task t where t.id = i.id
      union all
      select h.id, h.status, null, null, null from izta.history h where p_least is not null and h.id = i.id
      union all
      select t.id, null, t.lease is not null, t.run_at, t.attempt from izta.task t
      where i.key_until is not null and t.job = coalesce(i.job, p_jobs[1]) and t.key = i.key
        and t.key_until is not null and not t.key_freed
      limit 1) f on true
    where i.id not in (select m.id from unnest(v_made) m(id)) or i.id in (select e.id from unnest(v_ended) e(id));
  end if;

  if p_wake and cardinality(v_made) > 0 then
    -- A mark that somebody else has locked counts as old: waiting for it could take as long as a stranger's
    -- transaction. So does any mark when the insert took long, for the lock on a key or for its size: meanwhile the
    -- runner may have cleared the mark, looked once more and left. 40 ms is less than it waits before its last look.
    select array_agg(d.name) filter (where d.is_due and (q.name is null or (not q.paused and (
        q.woken_at < v_now - interval '1 second'
        or clock_timestamp() > statement_timestamp() + interval '40 ms')))),
      array_agg(d.name) filter (where q.name is null)
    into v_stale, v_new
    from (select n.name, n.name = any (v_due) as is_due from unnest(v_queues) n(name)) d
    left join izta.queue q on q.name = d.name;
    if v_stale is not null then
      wake := array_to_json(v_stale);
      update izta.queue q set woken_at = v_now
      where q.name = any (array(
        select l.name from izta.queue l where l.name = any (v_stale) order by l.name for no key update skip locked));
    end if;
    if v_new is not null then
      insert into izta.queue (name, woken_at)
      select n.name, case when n.name = any (v_due) then v_now else '-infinity' end
      from unnest(v_new) n(name)
      order by n.name
      on conflict do nothing;
    end if;

    if v_later is not null then
      select (date_part('epoch', v_later) * 1000)::bigint into later_ms
      where not exists (
        select from izta.wake w
        where w.armed_at > v_now + p_alarm_margin + (clock_timestamp() - statement_timestamp())
          and w.armed_at <= greatest(
            date_trunc('minute', v_later), date_trunc('minute', v_now + p_alarm_margin) + interval '1 minute'));
    end if;
  end if;
  return next;
end
$enqueue$;
