-- What the migrations make, read back from the catalogs. Written by test/schema.test.ts.

create table izta.app (
  name text not null,
  deployed_at timestamp with time zone not null,
  seen_at timestamp with time zone not null,
  syncs bigint not null,
  left_out json,
  left_out_at timestamp with time zone,
  left_out_by timestamp with time zone,
  constraint app_pkey PRIMARY KEY (name)
);

create table izta.history (
  id uuid not null,
  queue text not null,
  job text not null,
  status text not null,
  payload json,
  result json,
  errors json[],
  priority smallint not null,
  attempt smallint not null,
  max_attempts smallint not null,
  losses smallint not null,
  claims integer not null,
  key text,
  key_until text,
  parent uuid,
  schedule text,
  slot timestamp with time zone,
  created_at timestamp with time zone not null,
  due_at timestamp with time zone not null,
  finished_at timestamp with time zone not null,
  expires_at timestamp with time zone not null,
  constraint history_pkey PRIMARY KEY (id),
  constraint history_status_check CHECK ((status = ANY (ARRAY['finished'::text, 'failed'::text, 'cancelled'::text])))
);

create table izta.migration (
  id integer not null,
  name text not null,
  checksum text not null,
  breaking boolean not null,
  applied_at timestamp with time zone not null default now(),
  constraint migration_pkey PRIMARY KEY (id)
);

create table izta.queue (
  name text not null,
  paused boolean not null default false,
  woken_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  lingers_until timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint queue_pkey PRIMARY KEY (name)
);

create table izta.schedule (
  name text not null,
  app text,
  job text not null,
  payload json not null,
  queue text not null,
  priority smallint not null,
  max_attempts smallint not null,
  rule json not null,
  missed text not null,
  overlap text not null,
  hash text not null,
  paused boolean not null default false,
  made_until timestamp with time zone not null,
  plan_at timestamp with time zone not null,
  planned_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  ahead json not null default '[]'::json,
  zone_data text,
  created_at timestamp with time zone not null,
  updated_at timestamp with time zone not null,
  constraint schedule_pkey PRIMARY KEY (name),
  constraint schedule_missed_check CHECK ((missed = ANY (ARRAY['once'::text, 'skip'::text, 'all'::text]))),
  constraint schedule_overlap_check CHECK ((overlap = ANY (ARRAY['allow'::text, 'skip'::text]))),
  constraint schedule_priority_check CHECK (((priority >= 0) AND (priority <= 9)))
);

create table izta.task (
  id uuid not null,
  queue text not null,
  job text not null,
  payload json not null,
  priority smallint not null default 5,
  run_at timestamp with time zone not null,
  due_at timestamp with time zone not null,
  attempt smallint not null default 0,
  max_attempts smallint not null default 3,
  losses smallint not null default 0,
  claims integer not null default 0,
  lease uuid,
  cancel boolean not null default false,
  skip_overlap boolean not null default false,
  key text,
  key_until text,
  key_freed boolean not null default false,
  parent uuid,
  schedule text,
  slot timestamp with time zone,
  created_at timestamp with time zone not null,
  errors json[],
  trace text,
  constraint task_pkey PRIMARY KEY (id),
  constraint task_key_until_check CHECK (((key_until IS NULL) OR ((key_until = ANY (ARRAY['started'::text, 'finished'::text])) AND (key IS NOT NULL)))),
  constraint task_priority_check CHECK (((priority >= 0) AND (priority <= 9)))
) with (autovacuum_vacuum_scale_factor=0, autovacuum_vacuum_threshold=10000, autovacuum_vacuum_cost_delay=0, autovacuum_analyze_scale_factor=0.2);

create table izta.wake (
  singleton boolean not null default true,
  armed_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  ticked_at timestamp with time zone not null default '-infinity'::timestamp with time zone,
  constraint wake_pkey PRIMARY KEY (singleton),
  constraint wake_singleton_check CHECK (singleton)
);

CREATE INDEX history_expires_at ON izta.history USING btree (expires_at);
comment on index izta.history_expires_at is 'pruning';

CREATE INDEX history_finished_at ON izta.history USING brin (finished_at) WITH (autosummarize='on');
comment on index izta.history_finished_at is 'counts since an instant';

CREATE INDEX history_job ON izta.history USING btree (job, id);
comment on index izta.history_job is 'lists by job';

CREATE INDEX history_unsuccessful ON izta.history USING btree (status, id) WHERE (status <> 'finished'::text);
comment on index izta.history_unsuccessful is 'lists of failed and cancelled tasks';

CREATE INDEX schedule_plan_at ON izta.schedule USING btree (plan_at) WHERE (NOT paused);
comment on index izta.schedule_plan_at is 'schedules whose slots must be made';

CREATE INDEX schedule_zone_data ON izta.schedule USING btree (zone_data) WHERE ((NOT paused) AND (zone_data IS NOT NULL));
comment on index izta.schedule_zone_data is 'schedules whose slots were made with older data of time zones';

CREATE INDEX task_due ON izta.task USING btree (queue, priority, run_at);
comment on index izta.task_due is 'claims, recovery of claims, due counts';

CREATE UNIQUE INDEX task_key ON izta.task USING btree (job, key) WHERE ((key_until IS NOT NULL) AND (NOT key_freed));
comment on index izta.task_key is 'one unfinished task per job and key';

CREATE INDEX task_schedule ON izta.task USING btree (schedule, slot) WHERE (schedule IS NOT NULL);
comment on index izta.task_schedule is 'tasks of a changed, paused or removed schedule; overlap';

CREATE OR REPLACE FUNCTION izta.enqueue_1(p_ids uuid[], p_queues text[], p_jobs text[], p_payloads text[], p_priorities smallint[], p_max_attempts smallint[], p_delays_ms bigint[], p_run_at timestamp with time zone[], p_keys text[], p_key_until text[], p_traces text[], p_least uuid, p_greatest uuid, p_wake boolean, p_alarm_margin interval)
 RETURNS TABLE(refused json, wake json, later_ms bigint)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '10s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.now()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$select pg_catalog.now()$function$
;

CREATE OR REPLACE FUNCTION izta.turn_1(p_lease uuid, p_lease_ms bigint, p_queues text[], p_limit integer, p_reply_bytes bigint, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[], p_keep_seconds bigint[], p_watch uuid[], p_floor_queues text[], p_floor_priorities smallint[], p_floors_ms bigint[], c_parents integer[], c_ids uuid[], c_queues text[], c_jobs text[], c_payloads text[], c_priorities smallint[], c_max_attempts smallint[], c_delays_ms bigint[], c_run_at timestamp with time zone[], c_keys text[], c_key_until text[], c_traces text[], c_look_back boolean)
 RETURNS TABLE("row" text, id uuid, queue text, job text, key text, payload json, priority smallint, attempt smallint, max_attempts smallint, losses smallint, claims integer, cancel boolean, skip_overlap boolean, parent uuid, schedule text, slot_ms bigint, created_ms bigint, due_ms bigint, waited_ms bigint, trace text)
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '10s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.unmake_ended_1(p_ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
AS $function$
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
$function$
;
