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
  constraint history_pkey PRIMARY KEY (id)
) with (autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_threshold=50000, autovacuum_vacuum_insert_scale_factor=0.2, autovacuum_analyze_scale_factor=0.05);

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
  used_at timestamp with time zone not null default izta.now(),
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
  priority smallint not null,
  ready boolean not null default false,
  run_at timestamp with time zone not null,
  due_at timestamp with time zone not null,
  attempt smallint not null default 0,
  max_attempts smallint not null,
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
  constraint task_pkey PRIMARY KEY (id)
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

CREATE INDEX history_job ON izta.history USING btree (job, id) WHERE (job IS NOT NULL);
comment on index izta.history_job is 'lists by job';

CREATE INDEX history_unsuccessful ON izta.history USING btree (status, id) WHERE (status <> 'finished'::text);
comment on index izta.history_unsuccessful is 'lists of failed and cancelled tasks';

CREATE INDEX queue_paused ON izta.queue USING btree (name) WHERE paused;
comment on index izta.queue_paused is 'the queues that no claim looks into';

CREATE INDEX queue_woken ON izta.queue USING btree (name) WHERE (woken_at > '-infinity'::timestamp with time zone);
comment on index izta.queue_woken is 'the marks that an empty claim clears';

CREATE INDEX schedule_plan_at ON izta.schedule USING btree (plan_at) WHERE (NOT paused);
comment on index izta.schedule_plan_at is 'schedules whose slots must be made';

CREATE INDEX schedule_zone_data ON izta.schedule USING btree (zone_data) WHERE ((NOT paused) AND (zone_data IS NOT NULL));
comment on index izta.schedule_zone_data is 'schedules whose slots were made with older data of time zones';

CREATE UNIQUE INDEX task_key ON izta.task USING btree (job, key) WHERE ((key_until IS NOT NULL) AND (NOT key_freed));
comment on index izta.task_key is 'one unfinished task per job and key';

CREATE INDEX task_later ON izta.task USING btree (run_at) WHERE (NOT ready);
comment on index izta.task_later is 'tasks that have become due, expired leases, the next due instant';

CREATE INDEX task_ready ON izta.task USING btree (queue, priority, run_at) WHERE ready;
comment on index izta.task_ready is 'claims, due counts';

CREATE INDEX task_schedule ON izta.task USING btree (schedule, slot) WHERE (schedule IS NOT NULL);
comment on index izta.task_schedule is 'tasks of a changed, paused or removed schedule; overlap';

CREATE OR REPLACE FUNCTION izta.add_error_1(p_errors json[], p_body text)
 RETURNS json[]
 LANGUAGE plpgsql
 STABLE
AS $function$
begin
  return (coalesce(p_errors, '{}') || ('{"at":' || izta.epoch_ms(izta.now()) || ',' || substr(p_body, 2))::json)
    [greatest(1, coalesce(cardinality(p_errors), 0) - 23):];
end
$function$
;

CREATE OR REPLACE FUNCTION izta.alarm_margin()
 RETURNS interval
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$select interval '5 seconds'$function$
;

CREATE OR REPLACE FUNCTION izta.cancel_tasks_1(p_ids uuid[], p_jobs text[], p_keep_seconds bigint[], p_other_seconds bigint)
 RETURNS TABLE(id uuid, outcome text)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.end_tasks_1(p_lease uuid, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_keep_seconds bigint[])
 RETURNS bigint[]
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.enqueue_1(p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint, p_may_exist boolean, p_wake boolean)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.enqueue_task_1(p_id uuid, p_queue text, p_job text, p_payload text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint, p_run_at timestamp with time zone, p_key text, p_key_until text, p_trace text)
 RETURNS json
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.epoch_ms(p_at timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 STABLE PARALLEL SAFE
RETURN CASE WHEN (p_at IS NOT NULL) THEN ((date_part('epoch'::text, GREATEST('1970-01-01 00:00:00+00'::timestamp with time zone, LEAST(p_at, '9999-12-31 23:59:59.999+00'::timestamp with time zone))) * (1000)::double precision))::bigint ELSE NULL::bigint END
;

CREATE OR REPLACE FUNCTION izta.fitting_1(p_places tid[], p_bytes bigint)
 RETURNS tid[]
 LANGUAGE plpgsql
 STABLE
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.insert_tasks_1(p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint, p_may_exist boolean, p_parents uuid[], p_is_own boolean, OUT made uuid[], OUT queues text[], OUT due text[], OUT later_at timestamp with time zone)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.is_late_1()
 RETURNS boolean
 LANGUAGE sql
AS $function$select clock_timestamp() > statement_timestamp() + interval '40 ms'$function$
;

CREATE OR REPLACE FUNCTION izta.is_name(p_name text)
 RETURNS boolean
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$select p_name ~ '^[A-Za-z0-9._:-]{1,100}$'::text$function$
;

CREATE OR REPLACE FUNCTION izta.key_holder_1(p_job text, p_key text, OUT id uuid, OUT status text)
 RETURNS record
 LANGUAGE plpgsql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET enable_seqscan TO 'off'
AS $function$
begin
  select t.id, izta.status_1(t) into key_holder_1.id, key_holder_1.status from izta.task t
  where t.job = p_job and t.key = p_key and t.key_until is not null and not t.key_freed;
end
$function$
;

CREATE OR REPLACE FUNCTION izta.linger_1(p_queues text[], p_within_ms bigint, OUT queue text, OUT wait_ms bigint)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.make_queues_1(p_names text[], p_due text[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.make_ready_1()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.new_tasks_1(p_tasks json, p_queue text, p_job text, p_priority smallint, p_max_attempts smallint, p_delay_ms bigint, p_now timestamp with time zone, p_is_own boolean)
 RETURNS SETOF izta.task
 LANGUAGE sql
 STABLE
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.note_empty_1(p_queues text[])
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.now()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$select pg_catalog.now()$function$
;

CREATE OR REPLACE FUNCTION izta.pause_queue_1(p_name text, p_paused boolean)
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
begin
  if izta.is_name(p_name) is not true then
    raise exception 'Queue "%" is no name.', p_name using errcode = 'invalid_parameter_value';
  end if;
  insert into izta.queue (name, paused) values (p_name, p_paused)
  on conflict (name) do update set paused = excluded.paused, woken_at = '-infinity', used_at = excluded.used_at;
end
$function$
;

CREATE OR REPLACE FUNCTION izta.pick_1(p_queues text[], p_limit integer, p_reply_bytes bigint, p_after text, p_range_queues text[], p_lowest smallint[], p_highest smallint[], p_from_ms bigint[], OUT places tid[], OUT lost uuid[])
 RETURNS record
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.prune_1(p_limit integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.ready_queues_1(p_queues text[], p_after text, p_limit integer)
 RETURNS text[]
 LANGUAGE plpgsql
 STABLE
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.record_alarm_1(p_at timestamp with time zone)
 RETURNS void
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
  update izta.wake set armed_at = p_at
  where p_at < timestamptz '10000-01-01 00:00:00+00'
    and (armed_at <= izta.now() + izta.alarm_margin() or armed_at > p_at)
$function$
;

CREATE OR REPLACE FUNCTION izta.refuse_task_1(p_id uuid)
 RETURNS uuid
 LANGUAGE plpgsql
 STABLE
AS $function$
begin
  raise exception 'Task % is refused.', p_id using errcode = 'invalid_parameter_value',
    hint = 'Names: 1 to 100 of A-Z a-z 0-9 . _ : -. Priority: 0 to 9. Attempts: 1 to 32767. Due: 1970 to 9999. '
      || 'Key: 1 to 512 bytes, held until ''started'' or ''finished''. Payload: JSON of at most 64 MiB. Trace: at most '
      || '512 bytes. No parent, schedule, slot or skipOverlap.';
end
$function$
;

CREATE OR REPLACE FUNCTION izta.refused_1(p_tasks json, p_job text, p_made uuid[])
 RETURNS json
 LANGUAGE plpgsql
 STABLE
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.register_queues_1(p_names text[])
 RETURNS void
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
begin
  perform izta.make_queues_1(array(select n.name from unnest(p_names) n(name) where izta.is_name(n.name)), null);
  update izta.queue q set used_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name = any (p_names) and l.used_at < izta.now() - interval '1 hour'
    order by l.name for no key update skip locked));
end
$function$
;

CREATE OR REPLACE FUNCTION izta.release_lease_1(p_lease uuid, p_lease_ms bigint, p_except uuid[])
 RETURNS SETOF uuid
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.retry_task_1(p_id uuid, p_force boolean, OUT outcome text, OUT queue text, OUT status text, OUT is_tombstone boolean, OUT wake boolean, OUT holder uuid)
 RETURNS record
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.settle_1(p_lease uuid, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[], p_keep_seconds bigint[])
 RETURNS bigint[]
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.status_1(p_task izta.task)
 RETURNS text
 LANGUAGE sql
 STABLE
RETURN CASE WHEN (((p_task).lease IS NOT NULL) AND (NOT (p_task).ready) AND ((p_task).run_at > izta.now())) THEN 'running'::text WHEN ((p_task).attempt > 0) THEN 'failing'::text ELSE 'pending'::text END
;

CREATE OR REPLACE FUNCTION izta.tick_queues_1(p_ahead_seconds double precision)
 RETURNS TABLE(name text, paused boolean, due bigint, oldest_due_ms bigint, wake boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.turn_1(p_lease uuid, p_lease_ms bigint, p_queues text[], p_limit integer, p_reply_bytes bigint, p_after text, p_ids uuid[], p_claims integer[], p_kinds text[], p_bodies text[], p_delays_ms bigint[], p_keep_seconds bigint[], p_children json, p_children_may_exist boolean, p_watch uuid[], p_range_queues text[], p_lowest smallint[], p_highest smallint[], p_from_ms bigint[], p_linger_ms bigint)
 RETURNS TABLE(kind text, id uuid, queue text, job text, payload json, priority smallint, attempt smallint, max_attempts smallint, losses smallint, claims integer, created_ms double precision, due_ms double precision, waited_ms double precision, key text, parent uuid, schedule text, slot_ms double precision, trace text, cancel boolean, skip_overlap boolean, lost boolean)
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET plan_cache_mode TO 'force_generic_plan'
 SET enable_seqscan TO 'off'
 SET enable_bitmapscan TO 'off'
 SET enable_hashjoin TO 'off'
 SET enable_mergejoin TO 'off'
 SET jit TO 'off'
 SET lock_timeout TO '2s'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.unarmed_1(p_at timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 STABLE
AS $function$
  select izta.epoch_ms(p_at)
  where not exists (
    select from izta.wake w
    where w.armed_at > izta.now() + izta.alarm_margin() + (clock_timestamp() - statement_timestamp())
      and w.armed_at <= greatest(
        date_trunc('minute', p_at), date_trunc('minute', izta.now() + izta.alarm_margin()) + interval '1 minute'))
$function$
;

CREATE OR REPLACE FUNCTION izta.unmake_ended_1(p_ids uuid[])
 RETURNS uuid[]
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.wait_in_line_1()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
$function$
;

CREATE OR REPLACE FUNCTION izta.wake_queue_1(p_name text)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
begin
  if izta.is_name(p_name) is not true then
    raise exception 'Queue "%" is no name.', p_name using errcode = 'invalid_parameter_value';
  end if;
  return izta.wake_queues_1(array[p_name], array[p_name], false) is not null;
end
$function$
;

CREATE OR REPLACE FUNCTION izta.wake_queues_1(p_queues text[], p_due text[], p_is_late boolean)
 RETURNS text[]
 LANGUAGE plpgsql
AS $function$
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
$function$
;
