-- Creates the schedules and the record of which deployment synced them last.
--
-- made_until is a cursor: every slot up to it has been dealt with. Advancing it by compare-and-set in the very
-- statement that inserts the tasks is what makes a slot give exactly one task, whatever ticks run at once.
--
-- Locks: none that matters, all objects are new.

create table izta.schedule (
  name text not null,
  app text,                                -- whose definitions it belongs to; null: made by schedules.put
  job text not null,
  payload json not null,
  queue text not null,
  priority smallint not null,
  max_attempts smallint not null,
  rule json not null,
  missed text not null,
  overlap text not null,
  hash text not null,                      -- of the definition: tells whether it has changed
  paused boolean not null default false,
  made_until timestamptz not null,
  plan_at timestamptz not null,            -- when the next slots must be made
  -- When they were made last: tasks of later slots whose time has passed before the next time were made ahead.
  planned_at timestamptz not null default '-infinity',
  -- [instant, time by the wall clock] in ms: the last slot that had passed when they were made, then those made ahead.
  ahead json not null default '[]',
  -- The version of the data of time zones that they were made with; null: they depend on none, or none was made yet.
  zone_data text collate "C",
  created_at timestamptz not null,
  updated_at timestamptz not null,
  constraint schedule_pkey primary key (name),
  constraint schedule_priority_check check (priority between 0 and 9),
  constraint schedule_missed_check check (missed in ('once', 'skip', 'all')),
  constraint schedule_overlap_check check (overlap in ('allow', 'skip'))
);

create index schedule_plan_at on izta.schedule (plan_at) where not paused;
comment on index izta.schedule_plan_at is 'schedules whose slots must be made';
create index schedule_zone_data on izta.schedule (zone_data) where not paused and zone_data is not null;
comment on index izta.schedule_zone_data is 'schedules whose slots were made with older data of time zones';

-- The deployment whose definitions are stored, so that an older one does not undo them while this one lives.
create table izta.app (
  name text not null,
  deployed_at timestamptz not null,        -- of that deployment; -infinity: unknown
  seen_at timestamptz not null,            -- when it synced last
  -- How often the app was synced: a sync that finds another number than it saw has waited for another one, and starts anew.
  syncs bigint not null,
  -- What the last sync has left otherwise than its code says: objects of name, reason and owner. Null: nothing.
  left_out json,
  left_out_at timestamptz,
  left_out_by timestamptz,                 -- deployed_at of an older deployment that was refused
  constraint app_pkey primary key (name)
);
