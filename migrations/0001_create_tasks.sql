-- Creates the hot table of unfinished tasks, the history of ended ones, and the queues.
--
-- A task is a row of izta.task until it ends; the statement that settles it moves it to izta.history.
-- Claiming moves run_at to the lease's expiry, so the index of due tasks is also the index of expired leases:
-- a task whose runner died is simply due again. due_at keeps the true due instant.
--
-- Locks: none that matters, all objects are new.

-- The only clock of due times, leases and slots. Test databases replace it.
create function izta.now() returns timestamptz language sql stable parallel safe as 'select pg_catalog.now()';

create table izta.task (
  id uuid not null,
  queue text not null,
  job text not null,
  -- json, not jsonb: jsonb refuses \u0000 and lone surrogates, and one refused row would fail its whole group.
  payload json not null,
  priority smallint not null default 5,
  run_at timestamptz not null,             -- due instant; while leased: the lease's expiry
  due_at timestamptz not null,             -- the due instant that the lease overwrote
  attempt smallint not null default 0,     -- runs that ended in success or failure
  max_attempts smallint not null default 3,
  losses smallint not null default 0,      -- leases that ran out
  claims integer not null default 0,       -- how often claimed; with id and lease the fence of every settle
  lease uuid,
  cancel boolean not null default false,   -- to be cancelled while it runs
  skip_overlap boolean not null default false,
  key text,
  key_until text,                          -- until when the key is held
  key_freed boolean not null default false, -- it is held no longer: the task has started
  parent uuid,
  schedule text,
  slot timestamptz,
  created_at timestamptz not null,
  errors json[],
  trace text,                              -- W3C traceparent of what enqueued it
  constraint task_pkey primary key (id),
  constraint task_priority_check check (priority between 0 and 9),
  constraint task_key_until_check check (key_until is null or (key_until in ('started', 'finished') and key is not null))
);

create index task_due on izta.task (queue, priority, run_at);
comment on index izta.task_due is 'claims, recovery of claims, due counts';
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
  queue text not null,
  job text not null,
  status text not null,
  payload json,                            -- null: only the bare row is kept
  result json,
  errors json[],
  priority smallint not null,
  attempt smallint not null,
  max_attempts smallint not null,
  losses smallint not null,
  claims integer not null,                 -- a retried task counts on, or an old runner's outcome would fit it again
  key text,
  key_until text,
  parent uuid,
  schedule text,
  slot timestamptz,
  created_at timestamptz not null,
  due_at timestamptz not null,
  finished_at timestamptz not null,
  expires_at timestamptz not null,
  constraint history_pkey primary key (id),
  constraint history_status_check check (status in ('finished', 'failed', 'cancelled'))
);

create index history_expires_at on izta.history (expires_at);
comment on index izta.history_expires_at is 'pruning';
-- Rows come in this order: ranges of pages are enough, at next to no cost for each settle.
create index history_finished_at on izta.history using brin (finished_at) with (autosummarize = on);
comment on index izta.history_finished_at is 'counts since an instant';
create index history_job on izta.history (job, id);
comment on index izta.history_job is 'lists by job';
create index history_unsuccessful on izta.history (status, id) where status <> 'finished';
comment on index izta.history_unsuccessful is 'lists of failed and cancelled tasks';

create table izta.queue (
  name text not null,
  paused boolean not null default false,
  -- When a runner was last woken; cleared by the runner that finds nothing due.
  woken_at timestamptz not null default '-infinity',
  constraint queue_pkey primary key (name)
);
