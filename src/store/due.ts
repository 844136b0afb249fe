// What is due next, and which alarm has been set for it.
import type { Row, Statement } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { epochMs, instant, integer, optionalInstant } from './encode.ts'

// What the next alarm must be set for. Paused queues and schedules are left out, or alarms would go off for nothing,
// again and again. What is due already is told apart, since it may stay so: a queue without a runner must not hide the
// future of the others. Served by task_ready, task_later and schedule_plan_at.
const nextDue = `
with ready as (
  select min(t.run_at) as at
  from pg_catalog.unnest(izta.ready_queues_1('{}'::text[], '', 100000)) r(name)
  cross join lateral (
    select o.run_at from izta.task o
    where o.ready and o.queue = r.name order by o.priority, o.run_at limit 1) t),
tasks as (
  select
    (select t.run_at from izta.task t
    where not t.ready and t.run_at <= izta.now()
      and not exists (select from izta.queue q where q.name = t.queue and q.paused)
    order by t.run_at limit 1) as overdue,
    (select t.run_at from izta.task t
    where not t.ready and t.run_at > izta.now()
      and not exists (select from izta.queue q where q.name = t.queue and q.paused)
    order by t.run_at limit 1) as later),
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
  ${epochMs('least(r.at, t.overdue, p.overdue)')} as overdue_ms,
  ${epochMs('least(t.later, p.later, a.later)')} as later_ms,
  (select ${epochMs('w.armed_at')} from izta.wake w where isfinite(w.armed_at)) as armed_ms
from ready r
cross join tasks t
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
export const { marginSeconds: alarmMarginSeconds } = defaults.alarm

// Records an alarm that exists, unless an earlier one is still to go off.
const record = `
select izta.record_alarm_1($1::timestamptz)`

export const recordAlarmStatement = (armedAt: Date): Statement => ({
  lane: 'may-wait',
  text: record,
  values: [armedAt.toISOString()],
})

// The next due instant of unpaused queues, leases of dead runners included. Served by task_ready and task_later.
const nextDueOfQueues = `
select ${epochMs('min(d.at)')} as at_ms, ${epochMs('izta.now()')} as now_ms
from (
  select t.run_at as at
  from pg_catalog.unnest(izta.ready_queues_1($1::text[], '', 100000)) r(name)
  cross join lateral (
    select o.run_at from izta.task o
    where o.ready and o.queue = r.name order by o.priority, o.run_at limit 1) t
  union all
  (select l.run_at
  from izta.task l
  where not l.ready and (pg_catalog.cardinality($1::text[]) = 0 or l.queue = any ($1::text[]))
    and not exists (select from izta.queue q where q.name = l.queue and q.paused)
  order by l.run_at limit 1)) d`

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
