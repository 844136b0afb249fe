// Turns slots of schedules into tasks, each exactly once.
import type { Row, Statement } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { epochMs, flag, instant, instantArray, integer, json, plainArray, text, textArray } from './encode.ts'

// Schedules whose next slots must be made, in pages by name: those that cannot be read stay due for ever, and must not
// stand in the way of the others. Served by schedule_plan_at.
const toPlan = `
select name, rule, missed, hash, ${epochMs('made_until')} as made_until_ms,
  plan_at < izta.now() - $3::float8 * interval '1 second' as late, ${epochMs('izta.now()')} as now_ms
from izta.schedule
where not paused and plan_at <= izta.now() and name > $2::text
order by name
limit $1::integer`

/** `afterName`: the last name of the page before, '' for the first page. */
export const toPlanStatement = (limit: number, afterName: string): Statement => ({
  lane: 'quick',
  text: toPlan,
  values: [String(limit), afterName, String(defaults.schedule.lateSeconds)],
})

export interface PlannableSchedule {
  readonly name: string
  readonly rule: unknown
  readonly missed: 'once' | 'skip' | 'all'
  readonly hash: string
  readonly madeUntil: Date
  /** Nothing has planned it for longer than `defaults.schedule.lateSeconds` since that was due. */
  readonly isLate: boolean
  readonly now: Date
}

export const readToPlan = (rows: readonly Row[]): PlannableSchedule[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    rule: json<unknown>(row, 'rule', undefined),
    missed: text(row, 'missed') as PlannableSchedule['missed'],
    hash: text(row, 'hash'),
    madeUntil: instant(row, 'made_until_ms'),
    isLate: flag(row, 'late'),
    now: instant(row, 'now_ms'),
  }))

// Advances cursors by compare-and-set and makes the tasks of the slots in between; whoever comes second finds the
// cursor moved and makes none. Rows are locked in the order of their names, as sync does. Tasks that were made ahead
// and not started before their slots had passed go, but for the latest of them ("waiting_kept"). A runner that claims
// one at the same moment has it: the delete waits for that and looks again. Served by schedule_pkey and task_schedule.
const plan = `
with given as materialized (
  select *
  from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
    $7::integer[])
    as g(name, hash, was_made_until, made_until, plan_at, planned_at, waiting_kept)),
locked as materialized (
  select s.name, s.planned_at
  from izta.schedule s
  join given g on g.name = s.name and g.hash = s.hash and g.was_made_until = s.made_until
  where not s.paused
  order by s.name
  for no key update of s),
planned as (
  update izta.schedule s set made_until = g.made_until, plan_at = g.plan_at, planned_at = g.planned_at
  from given g
  join locked l on l.name = g.name
  where s.name = g.name
  returning s.*),
missed as materialized (
  select w.id
  from given g
  join locked l on l.name = g.name
  cross join lateral (
    select t.id from izta.task t
    where t.schedule = g.name and t.slot > l.planned_at and t.slot <= g.planned_at and t.claims = 0
    order by t.slot desc
    offset g.waiting_kept) w
  where g.waiting_kept is not null),
dropped as (
  delete from izta.task t
  where t.id = any (array(select m.id from missed m)) and t.claims = 0
  returning t.schedule),
made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, schedule, slot, skip_overlap,
    created_at)
  select i.id, s.queue, s.job, s.payload, s.priority, s.max_attempts, i.slot, i.slot, s.name, i.slot,
    s.overlap = 'skip', izta.now()
  from unnest($8::uuid[], $9::text[], $10::timestamptz[]) as i(id, schedule, slot)
  join planned s on s.name = i.schedule
  order by s.job, i.id
  on conflict do nothing
  returning queue, schedule),
known as (
  insert into izta.queue (name)
  select distinct m.queue from made m where not exists (select from izta.queue q where q.name = m.queue)
  order by m.queue
  on conflict do nothing)
select p.name, (select pg_catalog.count(*) from made m where m.schedule = p.name) as made,
  (select pg_catalog.count(*) from dropped d where d.schedule = p.name) as dropped
from planned p`

export interface SchedulePlan {
  readonly name: string
  readonly hash: string
  readonly wasMadeUntil: Date
  readonly madeUntil: Date
  readonly planAt: Date
  /** The instant by which this was planned. */
  readonly plannedAt: Date
  /** See `SlotPlan`. */
  readonly waitingKept: number | undefined
  readonly tasks: readonly { id: string; slot: Date }[]
}

export function planStatement(plans: readonly SchedulePlan[]): Statement {
  const tasks = plans.flatMap((schedule) =>
    schedule.tasks.map((task) => ({ ...task, schedule: schedule.name })),
  )
  return {
    lane: 'may-wait',
    text: plan,
    values: [
      textArray(plans.map((schedule) => schedule.name)),
      textArray(plans.map((schedule) => schedule.hash)),
      instantArray(plans.map((schedule) => schedule.wasMadeUntil)),
      instantArray(plans.map((schedule) => schedule.madeUntil)),
      instantArray(plans.map((schedule) => schedule.planAt)),
      instantArray(plans.map((schedule) => schedule.plannedAt)),
      plainArray(plans.map((schedule) => schedule.waitingKept ?? null)),
      plainArray(tasks.map((task) => task.id)),
      textArray(tasks.map((task) => task.schedule)),
      instantArray(tasks.map((task) => task.slot)),
    ],
  }
}

/** Tasks that a plan has made, and those made ahead that it has taken away. */
export interface PlanReply {
  readonly made: number
  readonly dropped: number
}

/** By the name of each schedule that nobody else has planned meanwhile. */
export const readPlanned = (rows: readonly Row[]): Map<string, PlanReply> =>
  new Map(
    rows.map((row) => [text(row, 'name'), { made: integer(row, 'made'), dropped: integer(row, 'dropped') }]),
  )
