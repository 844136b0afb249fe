// What is due next, and which alarm has been set for it.
import type { Row, Statement } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { epochMs, instant, integer, optionalInstant, textArray } from './encode.ts'

// What the next alarm must be set for. Paused queues and schedules are left out, or alarms would go off for nothing,
// again and again. What is due already is told apart, since it may stay so: a queue that nobody works on must not hide
// the future of the others. Served by task_due and schedule_plan_at.
const nextDue = `
with tasks as (
  select min(o.run_at) as overdue, min(l.run_at) as later
  from izta.queue q
  cross join generate_series(0, 9) p(priority)
  left join lateral (
    select t.run_at from izta.task t
    where t.queue = q.name and t.priority = p.priority and t.run_at <= izta.now()
    order by t.run_at limit 1) o on true
  left join lateral (
    select t.run_at from izta.task t
    where t.queue = q.name and t.priority = p.priority and t.run_at > izta.now()
    order by t.run_at limit 1) l on true
  where not q.paused),
plans as (
  select
    (select s.plan_at from izta.schedule s
    where not s.paused and s.plan_at <= izta.now() order by s.plan_at limit 1) as overdue,
    (select s.plan_at from izta.schedule s
    where not s.paused and s.plan_at > izta.now() order by s.plan_at limit 1) as later),
-- Where a newer deployment holds the schedules, an older one looks again once it may be gone.
silences as (
  select min(a.seen_at + interval '${defaults.schedule.silenceSeconds} seconds') as later
  from izta.app a
  where a.left_out_by is not null and a.seen_at > izta.now() - interval '${defaults.schedule.silenceSeconds} seconds')
select ${epochMs('izta.now()')} as now_ms,
  ${epochMs('least(t.overdue, p.overdue)')} as overdue_ms,
  ${epochMs('least(t.later, p.later, a.later)')} as later_ms,
  (select ${epochMs('w.armed_at')} from izta.wake w where isfinite(w.armed_at)) as armed_ms
from tasks t
cross join plans p
cross join silences a`

export const nextAlarmStatement: Statement = { lane: 'quick', text: nextDue, values: [] }

/** By the database's clock. */
export interface NextAlarm {
  readonly now: Date
  /** Since when the oldest of what is due already is due. */
  readonly overdueSince: Date | undefined
  /** When the next task, slot or lease of a runner comes after now. */
  readonly laterAt: Date | undefined
  /** The alarm that was recorded last. */
  readonly armedAt: Date | undefined
}

export function readNextAlarm(rows: readonly Row[]): NextAlarm {
  const row = rows[0] ?? {}
  return {
    now: instant(row, 'now_ms'),
    overdueSince: optionalInstant(row, 'overdue_ms'),
    laterAt: optionalInstant(row, 'later_ms'),
    armedAt: optionalInstant(row, 'armed_ms'),
  }
}

/** An alarm that goes off within these seconds may do so before an insert that relies on it has committed. */
export const alarmMarginSeconds = 5

// Records an alarm that exists, unless an earlier one is still to go off.
const record = `
update izta.wake set armed_at = $1::timestamptz
where armed_at <= izta.now() + interval '${alarmMarginSeconds} seconds' or armed_at > $1::timestamptz`

export const recordAlarmStatement = (armedAt: Date): Statement => ({
  lane: 'may-wait',
  text: record,
  values: [armedAt.toISOString()],
})

// The last look of a runner. What is due now and held by nobody: a row that somebody has locked could not be claimed.
// If nothing is, takes the place of the one runner that waits for the next task of its queue, if that is due soon. Leased
// tasks are no reason to wait: their runners settle them long before. Served by task_due.
const look = `
with due as materialized (
  select from (
    select q.name from izta.queue q where pg_catalog.cardinality($1::text[]) = 0 and not q.paused
    union all
    select n.name from pg_catalog.unnest($1::text[]) n(name)
    where not exists (select from izta.queue q where q.name = n.name and q.paused)) q
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select from izta.task t
    where t.queue = q.name and t.priority = p.priority and t.run_at <= izta.now()
    order by t.run_at limit 1
    for no key update of t skip locked) t
  limit 1),
soon as materialized (
  select q.name, t.run_at
  from izta.queue q
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select o.run_at from izta.task o
    where o.queue = q.name and o.priority = p.priority and o.lease is null
      and o.run_at > izta.now() and o.run_at <= izta.now() + $2::float8 * interval '1 ms'
    order by o.run_at limit 1) t
  where not q.paused and (pg_catalog.cardinality($1::text[]) = 0 or q.name = any ($1::text[]))
    and (q.lingers_until <= izta.now() or q.lingers_until > t.run_at)
    and not exists (select from due)
  order by t.run_at
  limit 1),
waiting as (
  update izta.queue q set lingers_until = s.run_at
  from soon s
  where q.name = any (array(
    select l.name from izta.queue l
    join soon o on o.name = l.name
    where l.lingers_until <= izta.now() or l.lingers_until > o.run_at
    for no key update of l skip locked))
  returning s.run_at)
select ${epochMs('izta.now()')} as now_ms, null::bigint as due_ms from due
union all
select ${epochMs('izta.now()')}, ${epochMs('run_at')} from waiting`

export const lastLookStatement = (queues: readonly string[], withinMs: number): Statement => ({
  lane: 'turn',
  text: look,
  values: [textArray(queues), String(Math.floor(withinMs))],
})

/** Milliseconds to wait, 0 when a task is due; undefined when none is due soon, or another runner waits for it. */
export function readLastLook(rows: readonly Row[]): number | undefined {
  const row = rows[0]
  if (row === undefined) return undefined
  const dueAt = optionalInstant(row, 'due_ms')
  // Both are rounded to milliseconds: one more, and it is never early.
  return dueAt === undefined ? 0 : dueAt.getTime() - instant(row, 'now_ms').getTime() + 1
}

// The next due instant of unpaused queues, leases of dead runners included: one probe per queue and priority.
// Served by task_due.
const nextDueOfQueues = `
select ${epochMs('min(t.run_at)')} as at_ms,
  ${epochMs('izta.now()')} as now_ms
from izta.queue q
cross join generate_series(0, 9) p(priority)
cross join lateral (
  select o.run_at from izta.task o where o.queue = q.name and o.priority = p.priority order by o.run_at limit 1) t
where not q.paused and (pg_catalog.cardinality($1::text[]) = 0 or q.name = any ($1::text[]))`

export const nextDueStatement = (queues: string): Statement => ({
  lane: 'quick',
  text: nextDueOfQueues,
  values: [queues],
})

/** In how many milliseconds the next task is due (0 or less: now); undefined when there is none. */
export function readNextDue(rows: readonly Row[]): number | undefined {
  const row = rows[0] ?? {}
  const at = optionalInstant(row, 'at_ms')
  return at && at.getTime() - integer(row, 'now_ms')
}
