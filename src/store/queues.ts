// Queues: their rows, pause and resume, and the mark that says when a runner was last woken.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, flag, integer, optionalInstant, text, textArray } from './encode.ts'

// Makes the rows of named queues, and of queues that only statements inside applications' transactions have used:
// those are found by hopping from name to name through task_due.
const register = `
with recursive used as (
  (select queue from izta.task order by queue limit 1)
  union all
  select (select t.queue from izta.task t where t.queue > u.queue order by t.queue limit 1)
  from used u where u.queue is not null)
insert into izta.queue (name)
select n.name from (
  select pg_catalog.unnest($1::text[]) as name
  union
  select queue from used where queue is not null) n
where not exists (select from izta.queue q where q.name = n.name)
order by n.name
on conflict do nothing`

export const registerQueuesStatement = (names: readonly string[]): Statement => ({
  lane: 'may-wait',
  text: register,
  values: [textArray(names)],
})

// Every queue, with what waits in it. Served by task_due.
const list = `
select q.name, q.paused, d.due, ${epochMs('d.oldest')} as oldest_ms
from izta.queue q
cross join lateral (
  select coalesce(sum(x.due), 0) as due, min(x.oldest) as oldest
  from generate_series(0, 9) p(priority)
  cross join lateral (
    select count(*) as due, min(t.run_at) as oldest
    from izta.task t
    where t.queue = q.name and t.priority = p.priority and t.run_at <= izta.now()) x) d
order by q.name`

export const listQueuesStatement: Statement = { lane: 'quick', text: list, values: [] }

/** A queue, and the tasks in it that are due and not running. */
export interface QueueInfo {
  readonly name: string
  readonly paused: boolean
  readonly due: number
  /** Since when the oldest of them is due. */
  readonly oldestDueAt: Date | undefined
}

export const readQueues = (rows: readonly Row[]): QueueInfo[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    paused: flag(row, 'paused'),
    due: integer(row, 'due'),
    oldestDueAt: optionalInstant(row, 'oldest_ms'),
  }))

const setPaused = `
insert into izta.queue (name, paused) values ($1::text, $2::boolean)
on conflict (name) do update set paused = excluded.paused, woken_at = '-infinity'`

export const setQueuePausedStatement = (name: string, paused: boolean): Statement => ({
  lane: 'may-wait',
  text: setPaused,
  values: [name, String(paused)],
})

// Marks a queue as woken after a commit elsewhere. A mark that somebody else has locked counts as old.
const wake = `
with known as (
  insert into izta.queue (name, woken_at) select $1::text, izta.now()
  where not exists (select from izta.queue where name = $1)
  on conflict do nothing),
stale as materialized (
  select n.name
  from (select $1::text as name) n
  left join izta.queue q on q.name = n.name
  where q.name is null or (not q.paused and q.woken_at < izta.now() - interval '1 second')),
marked as (
  update izta.queue q set woken_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name in (select s.name from stale s) for no key update skip locked)))
select name from stale`

export const wakeQueueStatement = (name: string): Statement => ({
  lane: 'quick',
  text: wake,
  values: [name],
})

// Queues with tasks that no runner was woken for lately and that are due, as a tick finds them after lost wakes, or due
// so soon that a runner waits for them ($1), if none does so already; and what waits in every queue. Counts end at
// 10,000 a priority, or a backlog would be read in full each time. Also records that a tick has come, without waiting for
// another that does the same. Served by task_due.
const wakeDue = `
with due as materialized (
  select q.name from izta.queue q
  where not q.paused and q.woken_at < izta.now() - interval '1 second'
    and exists (
      select from generate_series(0, 9) p(priority)
      cross join lateral (
        -- The order makes the index the cheapest way whatever the statistics say.
        select t.run_at from izta.task t
        where t.queue = q.name and t.priority = p.priority
          and t.run_at <= izta.now() + $1::float8 * interval '1 second'
          -- The runner of a leased task settles it long before.
          and (t.run_at <= izta.now() or t.lease is null)
        order by t.run_at limit 1) x
      where x.run_at <= izta.now() or q.lingers_until <= izta.now() or q.lingers_until > x.run_at)),
marked as (
  update izta.queue q set woken_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name in (select d.name from due d)
    order by l.name for no key update skip locked))),
ticked as (
  update izta.wake w set ticked_at = izta.now()
  where w.singleton = any (array(
    select k.singleton from izta.wake k where k.ticked_at < izta.now() - interval '1 second'
    for no key update skip locked))),
waiting as (
  select q.name, q.paused, sum(x.due) as due, min(x.oldest) as oldest
  from izta.queue q
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select count(*) as due, min(y.run_at) as oldest
    from (
      select t.run_at from izta.task t
      where t.queue = q.name and t.priority = p.priority and t.run_at <= izta.now()
      order by t.run_at limit 10000) y) x
  group by q.name, q.paused)
select w.name, w.paused, w.due, coalesce(${epochMs('izta.now() - w.oldest')}, 0) as oldest_due_ms,
  w.name in (select d.name from due d) as wake
from waiting w
where w.due > 0::numeric or w.name in (select d.name from due d)
order by w.name`

export const wakeDueStatement = (aheadSeconds: number): Statement => ({
  lane: 'quick',
  text: wakeDue,
  values: [String(aheadSeconds)],
})

/** Queues with due tasks, and those that want a runner. */
export const readWaiting = (rows: readonly Row[]) =>
  rows.map((row) => ({
    queue: text(row, 'name'),
    paused: flag(row, 'paused'),
    due: integer(row, 'due'),
    oldestDueMs: integer(row, 'oldest_due_ms'),
    wake: flag(row, 'wake'),
  }))

export const readNames = (rows: readonly Row[]): string[] => rows.map((row) => text(row, 'name'))
