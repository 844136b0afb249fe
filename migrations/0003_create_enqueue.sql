-- Creates the functions that insert tasks. Every task comes into izta.task by izta.insert_tasks_1, whatever makes it:
-- a call of a client, a handler, a schedule, a trigger. izta.enqueue_task_1 is a shorter way for one task, which falls
-- back to the same function.
--
-- The names carry a version, and a released function is never replaced, so that old and new code work side by side
-- during a deployment. Functions that roles may execute run with the rights of their owner and are the only way to
-- write: they check what they are given. The other functions are parts of them. Reading statements call functions with
-- a body that is parsed when they are made ("return"): these look up nothing in the caller's path, and are inlined.
--
-- Functions, not single statements: each statement inside sees what was committed while the one before waited for a
-- lock. Their plans are kept by the session, whatever the driver. The planner settings pin index plans, whatever the
-- statistics of a table that is empty one moment and full the next. Up to Postgres 17 a plan that cannot avoid what the
-- settings forbid seems so expensive that it is compiled, which takes 100 ms for each call: hence no jit.
--
-- Locks: none that matters, the functions are new.

-- An alarm within this time may go off before the insert that relies on it has committed.
create function izta.alarm_margin() returns interval language sql immutable parallel safe as
$$select interval '5 seconds'$$;

-- Refuses a task. Returns a uuid so that it can stand where an id is expected.
create function izta.refuse_task_1(p_id uuid) returns uuid language plpgsql stable as $refuse$
begin
  raise exception 'Task % is refused.', p_id using errcode = 'invalid_parameter_value',
    hint = 'Names: 1 to 100 of A-Z a-z 0-9 . _ : -. Priority: 0 to 9. Attempts: 1 to 32767. Due: 1970 to 9999. '
      || 'Key: 1 to 512 bytes, held until ''started'' or ''finished''. Payload: JSON of at most 64 MiB. Trace: at most '
      || '512 bytes. No parent, schedule, slot or skipOverlap.';
end
$refuse$;

-- Whether a name of a queue or a job is well formed.
create function izta.is_name(p_name text) returns boolean language sql immutable parallel safe as
$$select p_name ~ '^[A-Za-z0-9._:-]{1,100}$'::text$$;

-- The rows of new tasks. p_tasks is an array of objects with id and payload; the payload is JSON text in a string, or
-- Postgres could not read \u0000 in it. Everything else is optional; queue, job, priority, maxAttempts and delayMs
-- have the common value that is given beside them. p_is_own: izta makes the tasks, and so may say which parent or
-- schedule they belong to.
create function izta.new_tasks_1(
  p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint,
  p_now timestamptz, p_is_own boolean)
returns setof izta.task language sql stable as $new$
  select
    case
      when c.priority between 0 and 9 and c.max_attempts > 0
        and w.at >= timestamptz 'epoch' and w.at < timestamptz '10000-01-01 00:00:00+00'
        and octet_length(i.payload) <= 67108864
        and (i.queue is null or izta.is_name(i.queue)) and (i.job is null or izta.is_name(i.job))
        and (i.key is null) = (i."keyUntil" is null)
        and (i.key is null or (octet_length(i.key) between 1 and 512 and i."keyUntil" in ('started', 'finished')))
        and (i.trace is null or octet_length(i.trace) <= 512)
        and (p_is_own or coalesce(i.parent::text, i.schedule, i.slot::text, i."skipOverlap"::text) is null)
      then i.id
      else izta.refuse_task_1(i.id)
    end,
    coalesce(i.queue, p_queue), coalesce(i.job, p_job), i.payload::json, c.priority, w.at <= p_now, w.at, w.at, 0::smallint,
    c.max_attempts, 0::smallint, 0, null::uuid, false, coalesce(i."skipOverlap", false), i.key, i."keyUntil", false,
    i.parent, i.schedule, i.slot, p_now, null::json[], i.trace
  from json_to_recordset(p_tasks) as i(
    id uuid, payload text, queue text, job text, priority smallint, "maxAttempts" smallint, "delayMs" bigint,
    "runAt" timestamptz, key text, "keyUntil" text, parent uuid, schedule text, slot timestamptz,
    "skipOverlap" boolean, trace text)
  cross join lateral (
    select coalesce(i.priority, p_priority) as priority, coalesce(i."maxAttempts", p_max_attempts) as max_attempts) c
  cross join lateral (
    select coalesce(i."runAt", p_now + coalesce(i."delayMs", p_delay_ms) * interval '1 ms') as at) w
$new$;

-- Takes back those of the tasks just made that have ended before, and returns their ids. Their insert may have waited
-- for the very transaction that moved the task to the history: then it found the id free, and did not see the history.
create function izta.unmake_ended_1(p_ids uuid[]) returns uuid[]
language plpgsql security definer set search_path = pg_catalog, pg_temp as $unmake$
declare
  v_ended uuid[];
begin
  with ended as (
    delete from izta.task t
    using (
      select m.place from unnest(p_ids) as i(id)
      cross join lateral (select from izta.history o where o.id = i.id offset 0) h
      cross join lateral (select o.ctid as place from izta.task o where o.id = i.id offset 0) m) e
    where t.ctid = e.place and t.id = any (p_ids)
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
    where h.ctid = any (array(
      select m.place from unnest(p_ids) as i(id)
      cross join lateral (select o.ctid as place from izta.history o where o.id = i.id offset 0) m
      where i.id <> all (v_ended)));
  end if;
  return v_ended;
end
$unmake$;

-- Inserts tasks, all or none. Identity is decided here: a task whose id exists or has existed, or whose key another
-- unfinished task holds, is left out. p_may_exist only chooses which insert is tried first: the one that checks each
-- row for conflicts, or the one that is a quarter faster and starts again at the first conflict. p_parents: only
-- children of these tasks are inserted; null for all. p_is_own as for izta.new_tasks_1.
--
-- Returns the ids that were made, their queues, those of the queues in which something is due now, and the first
-- instant at which something is due later.
create function izta.insert_tasks_1(
  p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint,
  p_may_exist boolean, p_parents uuid[], p_is_own boolean,
  out made uuid[], out queues text[], out due text[], out later_at timestamptz)
language plpgsql as $insert$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  v_ended uuid[];
begin
  if not (izta.is_name(coalesce(p_queue, 'none')) and izta.is_name(coalesce(p_job, 'none'))) then
    perform izta.refuse_task_1(null);
  end if;
  if not p_may_exist then
    begin
      with made as (
        insert into izta.task
        select * from izta.new_tasks_1(p_tasks, p_queue, p_job, p_priority, p_max_attempts, p_delay_ms, v_now, p_is_own) n
        where p_parents is null or n.parent = any (p_parents)
        returning id, queue, ready, run_at)
      select array_agg(m.id order by m.id), array_agg(distinct m.queue), array_agg(distinct m.queue) filter (where m.ready),
        min(m.run_at) filter (where not m.ready)
      into made, queues, due, later_at from made m;
    exception when unique_violation then
      p_may_exist := true;
    end;
  end if;
  if p_may_exist then
    with made as (
      insert into izta.task
      select * from izta.new_tasks_1(p_tasks, p_queue, p_job, p_priority, p_max_attempts, p_delay_ms, v_now, p_is_own) n
      where p_parents is null or n.parent = any (p_parents)
      -- One order for all callers, or two inserts of mixed keys deadlock.
      order by n.job, n.key, n.id
      on conflict do nothing
      returning id, queue, ready, run_at)
    select array_agg(m.id order by m.id), array_agg(distinct m.queue), array_agg(distinct m.queue) filter (where m.ready),
      min(m.run_at) filter (where not m.ready)
    into made, queues, due, later_at from made m;
  end if;

  -- After the insert, since it may have waited for the transaction that ended one of them. Ids that izta has chosen are
  -- neighbours: one look tells that none of them has ended.
  if made is not null then
    if exists (select from izta.history h where h.id between made[1] and made[cardinality(made)])
      or current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    then
      v_ended := izta.unmake_ended_1(made);
      if cardinality(v_ended) > 0 then
        select array_agg(t.id order by t.id), array_agg(distinct t.queue), array_agg(distinct t.queue) filter (where t.ready),
          min(t.run_at) filter (where not t.ready)
        into made, queues, due, later_at
        from unnest(made) m(id)
        cross join lateral (select * from izta.task o where o.id = m.id offset 0) t;
      end if;
    end if;
  end if;
end
$insert$;

-- Why tasks were left out, in their order: [{ index, id, status }], with the id and status of the task that has the id or
-- holds the key. The id is null when that task has ended just now. Identity comes before the key: a repeat is told of
-- its own task, not of a later one with the same key.
create function izta.refused_1(p_tasks json, p_job text, p_made uuid[]) returns json language plpgsql stable as $refused$
begin
  return (
    select json_agg(json_build_object('index', i.n - 1, 'id', f.id, 'status', f.status) order by i.n)
    from rows from (json_to_recordset(p_tasks) as (id uuid, job text, key text)) with ordinality as i(id, job, key, n)
    left join lateral (
      select t.id, izta.status_1(t) as status from izta.task t where t.id = i.id
      union all
      select h.id, h.status from izta.history h where h.id = i.id
      union all
      select t.id, izta.status_1(t) from izta.task t
      where t.job = coalesce(i.job, p_job) and t.key = i.key and t.key_until is not null and not t.key_freed
      limit 1) f on true
    where i.id not in (select m.id from unnest(p_made) m(id)));
end
$refused$;

-- The status of an unfinished task.
create function izta.status_1(p_task izta.task) returns text language sql stable
return case
  when p_task.lease is not null and not p_task.ready and p_task.run_at > izta.now() then 'running'
  when p_task.attempt > 0 then 'failing'
  else 'pending'
end;

-- Whether this call has taken so long that a runner may have cleared the mark of a queue since it began, looked once more
-- and left without its tasks. Less than the pause before the last look of a runner.
create function izta.is_late_1() returns boolean language sql volatile as
$$select clock_timestamp() > statement_timestamp() + interval '40 ms'$$;

-- Makes the rows of queues that have none, those in which something is due marked as woken. Never waits for a transaction
-- that makes the same rows and stays open: the queues stay without rows, which they do not need. The locks are few,
-- since there may be many queues.
create function izta.make_queues_1(p_names text[], p_due text[]) returns void language plpgsql as $make$
declare
  v_now constant timestamptz not null := izta.now();
begin
  insert into izta.queue (name, woken_at, used_at)
  select n.name, case when n.name in (select d.name from unnest(p_due) d(name)) then v_now else '-infinity' end, v_now
  from (
    select k.part from generate_series(0, 15) k(part)
    where k.part in (select hashtext(u.name) & 15 from unnest(p_names) u(name))
      and pg_try_advisory_xact_lock('izta.queue'::regclass::oid::bigint * 16 + k.part)
    offset 0) p
  join unnest(p_names) n(name) on hashtext(n.name) & 15 = p.part
  where not exists (select from izta.queue q where q.name = n.name)
  order by n.name
  on conflict do nothing;
end
$make$;

-- Marks queues as woken in which something is due, returns those that want a runner, and makes the rows of queues that
-- have none. A mark of the last second stands for a runner that is on its way. A mark in the future is old: the clock
-- was set back. A mark that another transaction has locked counts as old as well, since waiting for it could take as
-- long as that transaction. So does any mark of a call that is late (izta.is_late_1).
create function izta.wake_queues_1(p_queues text[], p_due text[], p_is_late boolean) returns text[] language plpgsql as $wake$
declare
  v_now constant timestamptz not null := izta.now();
  v_wanted text[];
  v_unknown text[];
begin
  select array_agg(n.name) filter (where n.name in (select d.name from unnest(p_due) d(name))
      and (q.name is null or (not q.paused and (p_is_late
        or q.woken_at not between v_now - interval '1 second' and v_now + interval '1 second')))),
    array_agg(n.name) filter (where q.name is null)
  into v_wanted, v_unknown
  from unnest(p_queues) n(name)
  left join lateral (select * from izta.queue o where o.name = n.name offset 0) q on true;
  if v_wanted is not null then
    update izta.queue q set woken_at = v_now, used_at = v_now
    where q.name = any (array(
      select l.name from izta.queue l where l.name = any (v_wanted) order by l.name for no key update skip locked));
  end if;
  if v_unknown is not null then
    perform izta.make_queues_1(v_unknown, p_due);
  end if;
  return v_wanted;
end
$wake$;

-- The instant in milliseconds if no alarm is set that covers it.
create function izta.unarmed_1(p_at timestamptz) returns bigint language sql stable as $unarmed$
  select izta.epoch_ms(p_at)
  where not exists (
    select from izta.wake w
    where w.armed_at > izta.now() + izta.alarm_margin() + (clock_timestamp() - statement_timestamp())
      and w.armed_at <= greatest(
        date_trunc('minute', p_at), date_trunc('minute', izta.now() + izta.alarm_margin()) + interval '1 minute'))
$unarmed$;

-- Inserts tasks and says which queues want a runner. Arguments as those of izta.insert_tasks_1. Without p_wake the rows of
-- queues stay untouched: inside a transaction of the application they would stay locked until it ends.
--
-- Returns null when there is nothing to say, else an object with refused, as izta.refused_1 makes it; wake, the queues that
-- want a runner; laterMs, the first due instant to come if no alarm is set for it.
create function izta.enqueue_1(
  p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint,
  p_may_exist boolean, p_wake boolean)
returns json
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
as $enqueue$
declare
  v record;
  v_refused json;
  v_wake text[];
  v_later_ms bigint;
begin
  v := izta.insert_tasks_1(p_tasks, p_queue, p_job, p_priority, p_max_attempts, p_delay_ms, p_may_exist, null, false);
  if coalesce(cardinality(v.made), 0) < json_array_length(p_tasks) then
    v_refused := izta.refused_1(p_tasks, p_job, v.made);
  end if;
  if p_wake and v.made is not null then
    v_wake := izta.wake_queues_1(v.queues, v.due, izta.is_late_1());
    if v.later_at is not null then
      v_later_ms := izta.unarmed_1(v.later_at);
    end if;
  end if;
  if v_refused is null and v_wake is null and v_later_ms is null then
    return null;
  end if;
  return json_build_object('refused', v_refused, 'wake', v_wake, 'laterMs', v_later_ms);
end
$enqueue$;

-- The short way for one task. What it cannot do in one insert goes the long way: a task that exists, one whose key is
-- held, and transactions whose snapshot is older than the insert.
create function izta.enqueue_task_1(
  p_id uuid, p_queue text, p_job text, p_payload text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint,
  p_run_at timestamptz, p_key text, p_key_until text, p_trace text)
returns json
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set lock_timeout = '2s'
as $task$
declare
  v_now constant timestamptz not null := izta.now();
  v_at constant timestamptz := coalesce(p_run_at, v_now + p_delay_ms * interval '1 ms');
  v_ready constant boolean := v_at <= v_now;
  v_is_new boolean;
  v_paused boolean;
  v_woken_at timestamptz;
  v_wake text[];
  v_later_ms bigint;
begin
  -- Small statements: each one costs what it contains, not what it uses.
  if (p_priority between 0 and 9 and p_max_attempts > 0 and octet_length(p_payload) <= 67108864
    and v_at >= timestamptz 'epoch' and v_at < timestamptz '10000-01-01 00:00:00+00'
    and izta.is_name(p_queue) and izta.is_name(p_job) and (p_key is null) = (p_key_until is null)
    and (p_key is null or (octet_length(p_key) between 1 and 512 and p_key_until in ('started', 'finished')))
    and (p_trace is null or octet_length(p_trace) <= 512)) is not true
  then
    perform izta.refuse_task_1(p_id);
  end if;
  insert into izta.task (id, queue, job, payload, priority, ready, run_at, due_at, max_attempts, key, key_until,
    created_at, trace)
  values (p_id, p_queue, p_job, p_payload::json, p_priority, v_ready, v_at, v_at, p_max_attempts, p_key, p_key_until,
    v_now, p_trace)
  on conflict do nothing;
  v_is_new := found;
  if v_is_new then
    if exists (select from izta.history h where h.id = p_id)
      or current_setting('transaction_isolation') in ('repeatable read', 'serializable')
    then
      v_is_new := cardinality(izta.unmake_ended_1(array[p_id])) = 0;
    end if;
  end if;
  if not v_is_new then
    return izta.enqueue_1(
      json_build_array(json_build_object('id', p_id, 'payload', p_payload, 'runAt', p_run_at, 'key', p_key,
        'keyUntil', p_key_until, 'trace', p_trace)),
      p_queue, p_job, p_priority, p_max_attempts, p_delay_ms, true, true);
  end if;

  select q.paused, q.woken_at into v_paused, v_woken_at from izta.queue q where q.name = p_queue;
  -- A mark of the last second: a runner is on its way (izta.wake_queues_1).
  if not found or (v_ready and not v_paused and (izta.is_late_1()
    or v_woken_at not between v_now - interval '1 second' and v_now + interval '1 second'))
  then
    v_wake := izta.wake_queues_1(array[p_queue], case when v_ready then array[p_queue] end, izta.is_late_1());
  end if;
  if not v_ready then
    v_later_ms := izta.unarmed_1(v_at);
  end if;
  if v_wake is null and v_later_ms is null then
    return null;
  end if;
  return json_build_object('wake', v_wake, 'laterMs', v_later_ms);
end
$task$;

-- The task that holds a key, and its status; null when none does.
create function izta.key_holder_1(p_job text, p_key text, out id uuid, out status text)
language plpgsql stable security definer set search_path = pg_catalog, pg_temp set enable_seqscan = off as $holder$
begin
  select t.id, izta.status_1(t) into key_holder_1.id, key_holder_1.status from izta.task t
  where t.job = p_job and t.key = p_key and t.key_until is not null and not t.key_freed;
end
$holder$;
