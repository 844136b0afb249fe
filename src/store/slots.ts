// Turns slots of schedules into tasks, each exactly once.
import type { Row, Statement } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import type { Slot } from '../job/slots.ts'
import {
  epochMs,
  flag,
  instant,
  instantArray,
  integer,
  json,
  optionalText,
  plainArray,
  text,
  textArray,
} from './encode.ts'

// Schedules whose next slots must be made, in pages by name: those that cannot be read stay due for ever, and must not
// stand in the way of the others. Also those whose slots were made with older data of time zones than the caller has.
// Those made with newer data are left to processes that have it, unless none has come for long.
// Served by schedule_plan_at and schedule_zone_data.
const toPlan = `
select name, rule, missed, hash, ${epochMs('made_until')} as made_until_ms, ahead, zone_data,
  plan_at < izta.now() - $3::float8 * interval '1 second' as late, ${epochMs('izta.now()')} as now_ms
from izta.schedule
where not paused and name > $2::text
  and (zone_data < $4::text
    or (plan_at <= izta.now() and (zone_data is null or zone_data <= $4::text
      or plan_at < izta.now() - $3::float8 * interval '1 second')))
order by name
limit $1::integer`

/** `afterName`: the last name of the page before, '' for the first page. */
export const toPlanStatement = (limit: number, afterName: string, zoneVersion: string): Statement => ({
  text: toPlan,
  values: [String(limit), afterName, String(defaults.schedule.lateSeconds), zoneVersion],
  lane: 'quick',
})

export interface PlannableSchedule {
  readonly name: string
  readonly rule: unknown
  readonly missed: 'once' | 'skip' | 'all'
  readonly hash: string
  readonly madeUntil: Date
  readonly ahead: readonly Slot[]
  /** The version of the data of time zones that its slots were made with; undefined: they depend on none. */
  readonly zoneVersion: string | undefined
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
    ahead: json<[number, number | null][]>(row, 'ahead', []).map(([at, wall]) => ({
      at: new Date(at),
      wall: wall ?? undefined,
    })),
    zoneVersion: optionalText(row, 'zone_data'),
    isLate: flag(row, 'late'),
    now: instant(row, 'now_ms'),
  }))

// Advances cursors by compare-and-set and makes the tasks of the slots in between; whoever comes second finds the
// cursor moved and makes none. Rows are locked in the order of their names, as sync does. Tasks that were made ahead
// and not started before their slots had passed go, but for the latest of them ("waiting_kept"), and those of the future
// where newer data of time zones has moved the slots ("replaced"). A runner that claims one at the same moment has it:
// the delete waits for that and looks again. Served by schedule_pkey and task_schedule.
const plan = `
with given as materialized (
  select *
  from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
    $7::integer[], $8::text[], $9::text[], $10::text[], $11::boolean[])
    as g(name, hash, was_made_until, made_until, plan_at, planned_at, waiting_kept, was_zone_data, zone_data, ahead,
      replaced)),
locked as materialized (
  select s.name, s.planned_at
  from izta.schedule s
  join given g on g.name = s.name and g.hash = s.hash and g.was_made_until = s.made_until
    and g.was_zone_data is not distinct from s.zone_data
  where not s.paused
  order by s.name
  for no key update of s),
planned as (
  update izta.schedule s set
    made_until = g.made_until, plan_at = g.plan_at, planned_at = g.planned_at, zone_data = g.zone_data,
    ahead = g.ahead::json
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
moved as materialized (
  select t.id
  from given g
  join locked l on l.name = g.name
  join izta.task t on t.schedule = g.name and t.slot > g.planned_at and t.claims = 0
  where g.replaced),
dropped as (
  delete from izta.task t
  where t.id = any (array(select m.id from missed m union all select m.id from moved m)) and t.claims = 0
  returning t.schedule, t.slot),
made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, schedule, slot, skip_overlap,
    created_at)
  select i.id, s.queue, s.job, s.payload, s.priority, s.max_attempts, i.slot, i.slot, s.name, i.slot,
    s.overlap = 'skip', izta.now()
  from unnest($12::uuid[], $13::text[], $14::timestamptz[]) as i(id, schedule, slot)
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
  (select pg_catalog.count(*) from dropped d where d.schedule = p.name and d.slot <= p.planned_at) as dropped
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
  readonly wasZoneVersion: string | undefined
  readonly zoneVersion: string | undefined
  readonly ahead: readonly Slot[]
  /** See `SlotPlan`. */
  readonly isReplaced: boolean
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
      textArray(plans.map((schedule) => schedule.wasZoneVersion ?? null)),
      textArray(plans.map((schedule) => schedule.zoneVersion ?? null)),
      textArray(
        plans.map(({ ahead }) => JSON.stringify(ahead.map(({ at, wall = null }) => [at.getTime(), wall]))),
      ),
      plainArray(plans.map((schedule) => schedule.isReplaced)),
      plainArray(tasks.map((task) => task.id)),
      textArray(tasks.map((task) => task.schedule)),
      instantArray(tasks.map((task) => task.slot)),
    ],
  }
}

/** Tasks that a plan has made, and those of missed slots that it has taken away. */
export interface PlanReply {
  readonly made: number
  readonly dropped: number
}

/** By the name of each schedule that nobody else has planned meanwhile. */
export const readPlanned = (rows: readonly Row[]): Map<string, PlanReply> =>
  new Map(
    rows.map((row) => [text(row, 'name'), { made: integer(row, 'made'), dropped: integer(row, 'dropped') }]),
  )
