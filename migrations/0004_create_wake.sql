-- Creates the record of the alarm that is set for when nothing runs, of the last tick, and of runners that wait for a
-- queue's next task.
--
-- armed_at is written after the alarm exists: arm first, record second. So it may lag behind, which costs one alarm
-- too many, but it never promises an alarm that nobody has made.
--
-- Locks: access exclusive on izta.queue, for an instant: a column with a constant default rewrites nothing.

create table izta.wake (
  singleton boolean not null default true,
  armed_at timestamptz not null default '-infinity',
  ticked_at timestamptz not null default '-infinity',
  constraint wake_pkey primary key (singleton),
  constraint wake_singleton_check check (singleton)
);
insert into izta.wake default values;

-- Until when a runner waits for the queue's next task, so that others need not.
alter table izta.queue add column lingers_until timestamptz not null default '-infinity';
