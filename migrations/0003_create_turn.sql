-- Creates the hot path: one call of a runner that settles what has ended and claims what is due.
--
-- A function, not one statement of CTEs: settle and claim are separate statements inside, so the claim sees what
-- the settle freed and the children it made, and no row is both deleted and claimed. Plans stay cached in the
-- server whatever the driver. The name carries a version and the function is never replaced, so that old and new
-- runners work side by side during a deployment.
--
-- The planner settings pin index plans whatever the statistics of a table that is empty one moment and full the
-- next. Up to Postgres 17 a plan that cannot avoid what they forbid (the queues are read in full) seems so expensive
-- that it is compiled, 100 ms for each call: hence no jit. search_path keeps other schemas' operators out.
--
-- Arguments: p_ … the ended tasks, by position; c_ … the children of finished ones, whose c_parents are positions
-- in p_ids, and c_look_back: their ids may have been used before; p_watch: running tasks whose cancellation is asked for;
-- p_floors_ms: in that queue and priority nothing is looked for that was due before. Index entries of dead rows pile up
-- there while a transaction elsewhere keeps vacuum from clearing them away.
--
-- Kinds of outcome, and what becomes of the task:
--   finish   finished, with the result in the body      retry    due after the delay, one attempt more
--   fail     failed, one attempt more                   defer    due after the delay, no attempt
--   drop     failed without an attempt                  release  due again as it was, no attempt
--   cancel   cancelled                                  retry-after-lease  retry, but not before the lease's end:
--                                                         its handler ignores its signal and still runs
-- A task marked for cancellation becomes cancelled whatever its kind, except when it finished.
--
-- Arrays of one group may be shorter than the first of it: what is missing is as their own first element, or null where
-- a task may have none (bodies, delays of p_, run_at, keys, key_until, traces).
--
-- Rows returned, told apart by "row"; all but the first have only id, queue, job and key:
--   (null)     a claimed task to run. Null stands for a column's default, and in created_ms for due_ms
--   cancel     a watched task that is to be cancelled
--   unsettled  an outcome whose lease is no longer held: it changed nothing
--   skipped    a child that was not made: its key is held by another unfinished task, or its id is taken
--   wake       another queue that children made due, and that wants a runner
--
-- Locks: none that matters, the function is new.

create function izta.turn_1(
  p_lease uuid, p_lease_ms bigint, p_queues text[], p_limit integer, p_reply_bytes bigint,
  p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[], p_keep_seconds bigint[],
  p_watch uuid[], p_floor_queues text[], p_floor_priorities smallint[], p_floors_ms bigint[],
  c_parents integer[], c_ids uuid[], c_queues text[], c_jobs text[], c_payloads text[], c_priorities smallint[],
  c_max_attempts smallint[], c_delays_ms bigint[], c_run_at timestamptz[], c_keys text[], c_key_until text[], c_traces text[],
  c_look_back boolean)
returns table (
  "row" text, id uuid, queue text, job text, key text, payload json, priority smallint, attempt smallint,
  max_attempts smallint, losses smallint, claims integer, cancel boolean, skip_overlap boolean, parent uuid,
  schedule text, slot_ms bigint, created_ms bigint, due_ms bigint, waited_ms bigint,
  trace text)
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
as $turn$
#variable_conflict use_column
declare
  v_now constant timestamptz not null := izta.now();
  -- Error entries get their instant here, from the only clock; 25 of them are kept.
  v_entry constant text not null := '{"at":' || (date_part('epoch', v_now) * 1000)::bigint || ',';
  v_finished_ns integer[] not null := '{}';
  v_ns integer[] not null := '{}';
  v_ids uuid[] not null := '{}';
  v_kinds text[] not null := '{}';
  v_bodies text[];
  v_delays_ms bigint[];
  v_keep_seconds bigint[];
  v_finished boolean[];
  v_tids tid[];
  v_sizes bigint[];
  v_bytes bigint;
  v_made uuid[];
  v_ended uuid[];
  v_queues text[];
  v_priorities smallint[];
  v_floors timestamptz[];
begin
  if cardinality(p_ids) > 0 then
    -- What has finished goes at once, whatever its marks say, in the order of ids: a copy of this call waits its turn.
    if p_kinds && array['finish'] then
      begin
        with gone as (
          delete from izta.task t
          using (
            select i.id, coalesce(i.claims, p_claims[1]) as claims, i.body,
              coalesce(i.keep_seconds, p_keep_seconds[1]) as keep_seconds, i.n
            from unnest(p_ids, p_claims, p_kinds, p_bodies, p_keep_seconds)
              with ordinality as i(id, claims, kind, body, keep_seconds, n)
            where coalesce(i.kind, p_kinds[1]) = 'finish'
            order by i.id) i
          where t.id = i.id and t.lease = p_lease and t.claims = i.claims
          returning i.n, i.body, i.keep_seconds, t.id, t.queue, t.job, t.payload, t.errors, t.priority, t.attempt,
            t.max_attempts, t.losses, t.claims, t.key, t.key_until, t.parent, t.schedule, t.slot, t.created_at, t.due_at),
        kept as (
          insert into izta.history (id, queue, job, status, payload, result, errors, priority, attempt, max_attempts,
            losses, claims, key, key_until, parent, schedule, slot, created_at, due_at, finished_at, expires_at)
          select id, queue, job, 'finished',
            case when keep_seconds > 0 then payload end, case when keep_seconds > 0 then body::json end,
            errors, priority, attempt + 1, max_attempts, losses, claims, key, key_until, parent, schedule, slot,
            created_at, due_at, v_now,
            v_now + case when keep_seconds > 0 then keep_seconds * interval '1 second' else interval '1 day' end
          from gone)
        select coalesce(array_agg(n), '{}') into v_finished_ns from gone;
      exception when unique_violation then
        -- A task that has ended already, which nothing should allow: below it goes without a second end.
        v_finished_ns := '{}';
      end;
    end if;

    if cardinality(v_finished_ns) < cardinality(p_ids) then
      -- Waits for other locks (only the claim skips): a skipped settle would run a finished task again.
      select coalesce(array_agg(s.n), '{}'), coalesce(array_agg(s.id), '{}'), coalesce(array_agg(s.kind), '{}'),
        array_agg(s.body), array_agg(s.delay_ms), array_agg(s.keep_seconds)
      into v_ns, v_ids, v_kinds, v_bodies, v_delays_ms, v_keep_seconds
      from (
        select i.n, t.id, i.delay_ms, i.keep_seconds,
          case when t.cancel and i.kind <> 'finish' then 'cancel' else i.kind end as kind,
          case when t.cancel and i.kind not in ('finish', 'cancel') then null else i.body end as body
        from (
          select o.id, coalesce(o.claims, p_claims[1]) as claims, coalesce(o.kind, p_kinds[1]) as kind, o.body, o.delay_ms,
            coalesce(o.keep_seconds, p_keep_seconds[1]) as keep_seconds, o.n
          from unnest(p_ids, p_claims, p_kinds, p_bodies, p_delays_ms, p_keep_seconds)
            with ordinality as o(id, claims, kind, body, delay_ms, keep_seconds, n)) i
        join izta.task t on t.id = i.id
        where t.lease = p_lease and t.claims = i.claims
        order by t.id
        for update of t) s;
    end if;

    if v_kinds && array['finish', 'fail', 'drop', 'cancel'] then
      with gone as (
        delete from izta.task t
        using unnest(v_ids, v_kinds, v_bodies, v_keep_seconds) as i(id, kind, body, keep_seconds)
        where t.id = i.id and i.kind in ('finish', 'fail', 'drop', 'cancel')
        returning t.*, i.kind, i.body, i.keep_seconds, i.kind = 'finish' and i.keep_seconds = 0 as bare)
      insert into izta.history (id, queue, job, status, payload, result, errors, priority, attempt, max_attempts,
        losses, claims, key, key_until, parent, schedule, slot, created_at, due_at, finished_at, expires_at)
      select id, queue, job,
        case kind when 'finish' then 'finished' when 'cancel' then 'cancelled' else 'failed' end,
        case when not bare then payload end,
        case when kind = 'finish' and not bare then body::json end,
        case
          when kind = 'finish' or body is null then errors
          else (coalesce(errors, '{}') || (v_entry || substr(body, 2))::json)
            [greatest(1, coalesce(cardinality(errors), 0) - 23):]
        end,
        priority, attempt + (kind in ('finish', 'fail'))::integer, max_attempts, losses, claims, key, key_until,
        parent, schedule, slot, created_at, due_at, v_now,
        v_now + case when bare then interval '1 day' else keep_seconds * interval '1 second' end
      from gone
      on conflict on constraint history_pkey do nothing;
    end if;

    if v_kinds && array['retry', 'retry-after-lease', 'defer', 'release'] then
      update izta.task t set
        lease = null,
        (run_at, due_at) = (
          select w.at, w.at
          from (select case i.kind
            when 'release' then t.due_at
            -- The run_at of a leased task is its lease's end.
            when 'retry-after-lease' then greatest(t.run_at, v_now + i.delay_ms * interval '1 ms')
            else v_now + i.delay_ms * interval '1 ms'
          end as at) w),
        attempt = t.attempt + (i.kind in ('retry', 'retry-after-lease'))::integer,
        errors = case
          when i.kind in ('retry', 'retry-after-lease')
          then (coalesce(t.errors, '{}') || (v_entry || substr(i.body, 2))::json)
            [greatest(1, coalesce(cardinality(t.errors), 0) - 23):]
          else t.errors
        end
      from unnest(v_ids, v_kinds, v_bodies, v_delays_ms) as i(id, kind, body, delay_ms)
      where t.id = i.id and i.kind in ('retry', 'retry-after-lease', 'defer', 'release');
    end if;

    if cardinality(c_ids) > 0 then
      v_finished := array_fill(false, array[cardinality(p_ids)]);
      for n in 1 .. cardinality(v_finished_ns) loop
        v_finished[v_finished_ns[n]] := true;
      end loop;
      for n in 1 .. cardinality(v_ns) loop
        v_finished[v_ns[n]] := v_kinds[n] = 'finish';
      end loop;
      with made as (
        insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, key, key_until,
          parent, created_at, trace)
        select c.id, coalesce(c.queue, c_queues[1]), coalesce(c.job, c_jobs[1]), c.payload::json,
          coalesce(c.priority, c_priorities[1]), coalesce(c.max_attempts, c_max_attempts[1]), w.at, w.at, c.key,
          c.key_until, p_ids[c.parent], v_now, c.trace
        from unnest(c_parents, c_ids, c_queues, c_jobs, c_payloads, c_priorities, c_max_attempts, c_delays_ms,
          c_run_at, c_keys, c_key_until, c_traces)
          as c(parent, id, queue, job, payload, priority, max_attempts, delay_ms, run_at, key, key_until, trace)
        cross join lateral (
          select coalesce(c.run_at, v_now + coalesce(c.delay_ms, c_delays_ms[1]) * interval '1 ms') as at) w
        where v_finished[c.parent] and not (c_look_back and exists (select from izta.history h where h.id = c.id))
        -- One order for everybody, or two inserts of mixed keys deadlock.
        order by coalesce(c.job, c_jobs[1]), c.key, c.id
        on conflict do nothing
        returning id, queue, run_at)
      select coalesce(array_agg(id), '{}'), array_agg(distinct queue) filter (where run_at <= v_now)
      into v_made, v_queues from made;

      if c_look_back then
        v_ended := izta.unmake_ended_1(v_made);
        v_made := array(select m.id from unnest(v_made) m(id) where m.id <> all (v_ended));
      end if;

      if cardinality(v_made) < cardinality(c_ids) then
        for "row", id, queue, job, key in
          select 'skipped', c.id, coalesce(c.queue, c_queues[1]), coalesce(c.job, c_jobs[1]), c.key
          from unnest(c_parents, c_ids, c_queues, c_jobs, c_keys) as c(parent, id, queue, job, key)
          where v_finished[c.parent] and c.id <> all (v_made)
        loop
          return next;
        end loop;
      end if;

      insert into izta.queue (name) select distinct q.name from unnest(c_queues) q(name)
      where not exists (select from izta.queue o where o.name = q.name)
      order by q.name on conflict do nothing;

      -- A runner of all queues, or of the child's, finds the child itself.
      if cardinality(p_queues) > 0 and v_queues is not null then
        for "row", id, queue, job, key in
          with stale as materialized (
            select q.name from izta.queue q
            where q.name = any (v_queues) and q.name <> all (p_queues) and not q.paused
              and q.woken_at < v_now - interval '1 second'),
          marked as (
            update izta.queue q set woken_at = v_now
            where q.name = any (array(
              select l.name from izta.queue l where l.name in (select s.name from stale s)
              order by l.name for no key update skip locked)))
          select 'wake', null, s.name, null, null from stale s
        loop
          return next;
        end loop;
      end if;
    end if;

    v_ns := v_ns || v_finished_ns;
    if cardinality(v_ns) < cardinality(p_ids) then
      for "row", id, queue, job, key in
        select 'unsettled', i.id, null, null, null
        from unnest(p_ids) with ordinality as i(id, n)
        where i.n <> all (v_ns)
      loop
        return next;
      end loop;
    end if;
  end if;

  if cardinality(p_watch) > 0 then
    for "row", id, queue, job, key in
      select 'cancel', t.id, null, null, null
      from unnest(p_watch) w(id)
      join izta.task t on t.id = w.id
      where t.cancel and t.lease = p_lease
    loop
      return next;
    end loop;
  end if;

  if p_limit > 0 then
    -- One probe per priority and queue, priorities outermost; queues in another order each time, so that none starves.
    select array_agg(q.name order by p.priority, q.place), array_agg(p.priority::smallint order by p.priority, q.place),
      array_agg(coalesce(timestamptz 'epoch' + f.ms * interval '1 ms', '-infinity') order by p.priority, q.place)
    into v_queues, v_priorities, v_floors
    from (
      select q.name, random() as place from izta.queue q where cardinality(p_queues) = 0 and not q.paused
      union all
      select n.name, random() from unnest(p_queues) n(name)
      where not exists (select from izta.queue q where q.name = n.name and q.paused)) q
    cross join generate_series(0, 9) p(priority)
    left join unnest(p_floor_queues, p_floor_priorities, p_floors_ms) f(queue, priority, ms)
      on f.queue = q.name and f.priority = p.priority;

    -- Their places in the table are good as long as they are locked, and spare a look into the primary key.
    select array_agg(d.tid), array_agg(d.bytes), sum(d.bytes)
    into v_tids, v_sizes, v_bytes
    from (
      select x.tid, x.bytes
      from unnest(v_queues, v_priorities, v_floors) p(queue, priority, floor)
      cross join lateral (
        select t.ctid as tid, octet_length(t.payload::text)::bigint as bytes
        from izta.task t
        where t.queue = p.queue and t.priority = p.priority and t.run_at <= v_now and t.run_at >= p.floor
        order by t.run_at
        limit p_limit
        for no key update of t skip locked) x
      limit p_limit) d;

    if v_bytes > p_reply_bytes then
      v_tids := array(
        select s.tid
        from (
          select u.tid, u.n, sum(u.bytes) over (order by u.n rows unbounded preceding) as bytes
          from unnest(v_tids, v_sizes) with ordinality as u(tid, bytes, n)) s
        -- The first goes whatever its size, or it would never go.
        where s.bytes <= p_reply_bytes or s.n = 1);
    end if;

    return query
      update izta.task t set
        lease = p_lease,
        run_at = v_now + p_lease_ms * interval '1 ms',
        -- Bounded, since one overflow would fail the claim of its neighbours.
        losses = least(t.losses + (t.lease is not null)::integer, 32767),
        claims = t.claims + 1,
        key_freed = t.key_freed or coalesce(t.key_until = 'started', false)
      where t.ctid = any (v_tids)
      -- What is as usual stays out of the reply. Instants as milliseconds: the text of a timestamp depends on settings
      -- of the session.
      returning null, t.id, t.queue, t.job, t.key, t.payload, nullif(t.priority, 5), nullif(t.attempt, 0),
        nullif(t.max_attempts, 3), nullif(t.losses, 0), t.claims, nullif(t.cancel, false), nullif(t.skip_overlap, false),
        t.parent, t.schedule, (date_part('epoch', t.slot) * 1000)::bigint,
        case when t.created_at <> t.due_at then (date_part('epoch', t.created_at) * 1000)::bigint end,
        (date_part('epoch', t.due_at) * 1000)::bigint, (date_part('epoch', v_now - t.due_at) * 1000)::bigint, t.trace;

    -- Nothing due: the next enqueue must wake a runner again. Never waits behind somebody else's lock. Nested, because a
    -- condition that holds a query is run as a query, even when "found" decides it.
    if not found then
      if exists (
        select from izta.queue q
        where (cardinality(p_queues) = 0 or q.name = any (p_queues)) and q.woken_at > '-infinity'
      ) then
        update izta.queue q set woken_at = '-infinity'
        where q.name = any (array(
          select l.name from izta.queue l
          where (cardinality(p_queues) = 0 or l.name = any (p_queues)) and l.woken_at > '-infinity'
          order by l.name for no key update skip locked));
      end if;
    end if;
  end if;
end
$turn$;
