-- Creates the hot table of unfinished tasks, the history of ended ones, the queues, and the record of alarms.
--
-- A task is a row of izta.task until it ends; the statement that settles it moves it to izta.history.
--
-- ready says which of two indexes has the task. A ready task is due and waits for a claim: task_ready has it, in the
-- order of claims. Every other task has an instant to wait for: its due time, its next attempt, or the end of its
-- lease. task_later has it, in the order of time. A claim first makes ready what time has brought: delayed tasks, and
-- tasks whose runner died. So the cost of a claim follows the work that is due, and not the number of queues, of
-- waiting tasks or of running ones.
--
-- The functions of later migrations are the only way to write. They check what they are given, so these tables have
-- few constraints, which would be checked again for each row.
--
-- Locks: none that matters, all objects are new.

-- The only clock of due times, leases and slots. Test databases replace it.
create function izta.now() returns timestamptz language sql stable parallel safe as 'select pg_catalog.now()';

-- Milliseconds since 1970. Never fails, or one row with an instant out of range would fail the claim of the others.
create function izta.epoch_ms(p_at timestamptz) returns bigint language sql stable parallel safe
return case when p_at is not null then
  (date_part('epoch', greatest(timestamptz 'epoch', least(p_at, timestamptz '9999-12-31 23:59:59.999+00'))) * 1000::float8)::bigint end;

create table izta.task (
  id uuid not null,
  queue text collate "C" not null,
  job text collate "C" not null,
  -- json, not jsonb: jsonb refuses \u0000 and lone surrogates, and one refused row would fail its whole group.
  payload json not null,
  priority smallint not null,              -- 0 to 9, 0 first
  ready boolean not null default false,    -- due, and leased by no runner
  run_at timestamptz not null,             -- due instant; while leased: the lease's end
  due_at timestamptz not null,             -- the due instant that the lease has overwritten in run_at
  attempt smallint not null default 0,     -- runs that ended in success or failure
  max_attempts smallint not null,
  losses smallint not null default 0,      -- leases that ran out
  claims integer not null default 0,       -- how often claimed; with id and lease the fence of every settle
  lease uuid,
  cancel boolean not null default false,   -- to be cancelled while it runs
  skip_overlap boolean not null default false,
  key text collate "C",
  key_until text,                          -- 'started' or 'finished': until when the key is held
  key_freed boolean not null default false, -- the key is no longer held: the task has started
  parent uuid,
  schedule text,
  slot timestamptz,
  created_at timestamptz not null,
  errors json[],
  trace text,                              -- W3C traceparent of the enqueue
  constraint task_pkey primary key (id)
);

create index task_ready on izta.task (queue, priority, run_at) where ready;
comment on index izta.task_ready is 'claims, due counts';
create index task_later on izta.task (run_at) where not ready;
comment on index izta.task_later is 'tasks that have become due, expired leases, the next due instant';
create unique index task_key on izta.task (job, key) where key_until is not null and not key_freed;
comment on index izta.task_key is 'one unfinished task per job and key';
create index task_schedule on izta.task (schedule, slot) where schedule is not null;
comment on index izta.task_schedule is 'tasks of a changed, paused or removed schedule; overlap';

-- Rows come and go all the time: vacuum by number, not by share of a table that may be large for a while.
alter table izta.task set (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0.2);

create table izta.history (
  id uuid not null,
  queue text collate "C" not null,
  job text collate "C" not null,
  status text not null,                    -- 'finished', 'failed' or 'cancelled'
  payload json,                            -- null: only a tombstone is kept
  result json,
  errors json[],
  priority smallint not null,
  attempt smallint not null,
  max_attempts smallint not null,
  losses smallint not null,
  claims integer not null,                 -- a retried task counts on, or an old runner's outcome would fit it again
  key text collate "C",
  key_until text,
  parent uuid,
  schedule text,
  slot timestamptz,
  created_at timestamptz not null,
  due_at timestamptz not null,
  finished_at timestamptz not null,
  expires_at timestamptz not null,
  constraint history_pkey primary key (id)
);

create index history_expires_at on izta.history (expires_at);
comment on index izta.history_expires_at is 'pruning';
-- Rows come in this order: ranges of pages are enough, at next to no cost for each settle.
create index history_finished_at on izta.history using brin (finished_at) with (autosummarize = on);
comment on index izta.history_finished_at is 'counts since an instant';
-- The condition is true for every row. It keeps looks for an id, which name no job, away from this index: while statistics say
-- that the table is empty, older versions of Postgres take either index for as cheap, and read all of this one.
create index history_job on izta.history (job, id) where job is not null;
comment on index izta.history_job is 'lists by job';
create index history_unsuccessful on izta.history (status, id) where status <> 'finished';
comment on index izta.history_unsuccessful is 'lists of failed and cancelled tasks';

alter table izta.history set (
  autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 50000,
  autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.05);

-- What is known of a queue beyond its tasks. A queue needs no row to be worked on.
create table izta.queue (
  name text collate "C" not null,
  paused boolean not null default false,
  -- When a runner was last woken; cleared by the runner that finds nothing due.
  woken_at timestamptz not null default '-infinity',
  -- Until when a runner waits for the queue's next task, so that others need not.
  lingers_until timestamptz not null default '-infinity',
  -- When a runner was last woken, or a definition named the queue: rows of unused queues are removed.
  used_at timestamptz not null default izta.now(),
  constraint queue_pkey primary key (name)
);

create index queue_paused on izta.queue (name) where paused;
comment on index izta.queue_paused is 'the queues that no claim looks into';
create index queue_woken on izta.queue (name) where woken_at > '-infinity';
comment on index izta.queue_woken is 'the marks that an empty claim clears';

-- One row: the alarm that is set for when nothing runs, and the last tick.
-- armed_at is written after the alarm exists: arm first, record second. So it may lag behind, which costs one alarm
-- too many, but it never promises an alarm that does not exist.
create table izta.wake (
  singleton boolean not null default true,
  armed_at timestamptz not null default '-infinity',
  ticked_at timestamptz not null default '-infinity',
  constraint wake_pkey primary key (singleton),
  constraint wake_singleton_check check (singleton)
);
insert into izta.wake default values;
