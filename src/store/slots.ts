// Turns slots of schedules into tasks, each exactly once.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, instant, instantArray, integer, json, plainArray, text, textArray } from './encode.ts'

// Schedules whose next slots must be made, in pages by name: those that cannot be read stay due for ever, and must not
// stand in the way of the others. Served by schedule_plan_at.
const toPlan = `
select name, rule, missed, hash, ${epochMs('made_until')} as made_until_ms,
  ${epochMs('izta.now()')} as now_ms
from izta.schedule
where not paused and plan_at <= izta.now() and name > $2::text
order by name
limit $1::integer`

/** `afterName`: the last name of the page before, '' for the first page. */
export const toPlanStatement = (limit: number, afterName: string): Statement => ({
  text: toPlan,
  values: [String(limit), afterName],
})

export interface PlannableSchedule {
  readonly name: string
  readonly rule: unknown
  readonly missed: 'once' | 'skip' | 'all'
  readonly hash: string
  readonly madeUntil: Date
  readonly now: Date
}

export const readToPlan = (rows: readonly Row[]): PlannableSchedule[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    rule: json<unknown>(row, 'rule', undefined),
    missed: text(row, 'missed') as PlannableSchedule['missed'],
    hash: text(row, 'hash'),
    madeUntil: instant(row, 'made_until_ms'),
    now: instant(row, 'now_ms'),
  }))

// Advances cursors by compare-and-set and makes the tasks of the slots in between; whoever comes second finds the
// cursor moved and makes none. Rows are locked in the order of their names, as sync does. Served by schedule_pkey.
const plan = `
with given as materialized (
  select *
  from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    as g(name, hash, was_made_until, made_until, plan_at)),
locked as materialized (
  select s.name
  from izta.schedule s
  join given g on g.name = s.name and g.hash = s.hash and g.was_made_until = s.made_until
  where not s.paused
  order by s.name
  for no key update of s),
planned as (
  update izta.schedule s set made_until = g.made_until, plan_at = g.plan_at
  from given g
  join locked l on l.name = g.name
  where s.name = g.name
  returning s.*),
made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, schedule, slot, skip_overlap,
    created_at)
  select i.id, s.queue, s.job, s.payload, s.priority, s.max_attempts, i.slot, i.slot, s.name, i.slot,
    s.overlap = 'skip', izta.now()
  from unnest($6::uuid[], $7::text[], $8::timestamptz[]) as i(id, schedule, slot)
  join planned s on s.name = i.schedule
  order by s.job, i.id
  on conflict do nothing
  returning queue, schedule),
known as (
  insert into izta.queue (name)
  select distinct m.queue from made m where not exists (select from izta.queue q where q.name = m.queue)
  order by m.queue
  on conflict do nothing)
select p.name, pg_catalog.count(m.schedule) as made
from planned p
left join made m on m.schedule = p.name
group by p.name`

export interface SchedulePlan {
  readonly name: string
  readonly hash: string
  readonly wasMadeUntil: Date
  readonly madeUntil: Date
  readonly planAt: Date
  readonly tasks: readonly { id: string; slot: Date }[]
}

export function planStatement(plans: readonly SchedulePlan[]): Statement {
  const tasks = plans.flatMap((schedule) =>
    schedule.tasks.map((task) => ({ ...task, schedule: schedule.name })),
  )
  return {
    text: plan,
    values: [
      textArray(plans.map((schedule) => schedule.name)),
      textArray(plans.map((schedule) => schedule.hash)),
      instantArray(plans.map((schedule) => schedule.wasMadeUntil)),
      instantArray(plans.map((schedule) => schedule.madeUntil)),
      instantArray(plans.map((schedule) => schedule.planAt)),
      plainArray(tasks.map((task) => task.id)),
      textArray(tasks.map((task) => task.schedule)),
      instantArray(tasks.map((task) => task.slot)),
    ],
  }
}

/** How many tasks were made, by the name of each schedule that nobody else has planned meanwhile. */
export const readMade = (rows: readonly Row[]): Map<string, number> =>
  new Map(rows.map((row) => [text(row, 'name'), integer(row, 'made')]))
