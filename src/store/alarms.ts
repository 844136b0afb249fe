// What is due next, and which alarm has been set for it.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, instant, optionalInstant } from './encode.ts'

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
    where not s.paused and s.plan_at > izta.now() order by s.plan_at limit 1) as later)
select ${epochMs('izta.now()')} as now_ms,
  ${epochMs('least(t.overdue, p.overdue)')} as overdue_ms,
  ${epochMs('least(t.later, p.later)')} as later_ms,
  (select ${epochMs('w.armed_at')} from izta.wake w where isfinite(w.armed_at)) as armed_ms
from tasks t
cross join plans p`

export const nextAlarmStatement: Statement = { text: nextDue, values: [] }

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
  text: record,
  values: [armedAt.toISOString()],
})
