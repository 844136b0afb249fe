// Schedules: their definitions, and turning slots into tasks, each exactly once.
import type { Row, Statement } from '../db/database.ts'
import { flag, instant, instantArray, integer, json, optionalInstant, optionalText, plainArray, text, textArray } from './encode.ts'

/** A schedule as it is stored. */
export interface ScheduleRow {
  readonly name: string
  readonly job: string
  /** JSON text. */
  readonly payload: string
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  /** JSON text. */
  readonly rule: string
  readonly missed: string
  readonly overlap: string
  /** Of everything above: tells whether the definition has changed. */
  readonly hash: string
}

// Makes the stored schedules of one app (or one dynamic schedule: app null) equal to the given definitions, unless a
// newer deployment has synced already. What has changed or is gone loses its tasks that never started, and the cursor
// goes back to before the first of them, so that no slot falls between the old definition and the new one.
// Served by schedule_pkey and task_schedule.
const sync = `
with newest as (
  insert into izta.app (name, deployed_at)
  select $1::text, coalesce($2::timestamptz, '-infinity') where $1 is not null
  on conflict (name) do update set deployed_at = greatest(app.deployed_at, excluded.deployed_at)
    where $2::timestamptz is null or app.deployed_at <= excluded.deployed_at
  returning name),
definition as materialized (
  select *
  from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[], $9::smallint[], $10::text[],
    $11::text[], $12::text[], $13::text[])
    as d(name, job, payload, queue, priority, max_attempts, rule, missed, overlap, hash)
  where $1 is null or exists (select from newest)),
doomed as materialized (
  select s.name
  from izta.schedule s
  left join definition d on d.name = s.name
  where s.app is not distinct from $1
    and (d.hash <> s.hash or (d.name is null and $3::boolean and exists (select from newest)))),
dropped as (
  delete from izta.task t
  where t.schedule in (select d.name from doomed d) and t.slot is not null and t.claims = 0
  returning t.schedule, t.slot),
removed as (
  delete from izta.schedule s
  where s.name in (select d.name from doomed d where d.name not in (select name from definition))
  returning s.name),
written as (
  insert into izta.schedule as s (name, app, job, payload, queue, priority, max_attempts, rule, missed, overlap,
    hash, made_until, plan_at, created_at, updated_at)
  select d.name, $1, d.job, d.payload::json, d.queue, d.priority, d.max_attempts, d.rule::json, d.missed, d.overlap,
    d.hash,
    date_trunc('milliseconds', least(izta.now(),
      (select min(o.slot) - interval '1 ms' from dropped o where o.schedule = d.name))),
    izta.now(), izta.now(), izta.now()
  from definition d
  order by d.name
  on conflict (name) do update set
    job = excluded.job, payload = excluded.payload, queue = excluded.queue, priority = excluded.priority,
    max_attempts = excluded.max_attempts, rule = excluded.rule, missed = excluded.missed,
    overlap = excluded.overlap, hash = excluded.hash, plan_at = excluded.plan_at, updated_at = excluded.updated_at,
    made_until = case when s.paused then s.made_until else excluded.made_until end
    where s.app is not distinct from $1 and s.hash <> excluded.hash
  returning s.name)
select
  $1 is not null and not exists (select from newest) as outdated,
  (select json_agg(w.name) from written w) as written,
  (select json_agg(r.name) from removed r) as removed,
  (select json_agg(s.name) from izta.schedule s join definition d on d.name = s.name
    where s.app is distinct from $1) as foreign_names`

export interface SyncRequest {
  /** Undefined for a dynamic schedule. */
  readonly app: string | undefined
  readonly deployedAt: Date | undefined
  readonly removeMissing: boolean
  readonly schedules: readonly ScheduleRow[]
}

export function syncSchedulesStatement({ app, deployedAt, removeMissing, schedules }: SyncRequest): Statement {
  return {
    text: sync,
    values: [
      app ?? null,
      deployedAt?.toISOString() ?? null,
      String(removeMissing),
      textArray(schedules.map((schedule) => schedule.name)),
      textArray(schedules.map((schedule) => schedule.job)),
      textArray(schedules.map((schedule) => schedule.payload)),
      textArray(schedules.map((schedule) => schedule.queue)),
      plainArray(schedules.map((schedule) => schedule.priority)),
      plainArray(schedules.map((schedule) => schedule.maxAttempts)),
      textArray(schedules.map((schedule) => schedule.rule)),
      textArray(schedules.map((schedule) => schedule.missed)),
      textArray(schedules.map((schedule) => schedule.overlap)),
      textArray(schedules.map((schedule) => schedule.hash)),
    ],
  }
}

export interface SyncReply {
  /** A newer deployment has synced before: nothing was changed. */
  readonly outdated: boolean
  readonly written: readonly string[]
  readonly removed: readonly string[]
  /** Names that another app, or `schedules.put`, has taken: left as they are. */
  readonly foreign: readonly string[]
}

export function readSyncReply(rows: readonly Row[]): SyncReply {
  const row = rows[0] ?? {}
  return {
    outdated: flag(row, 'outdated'),
    written: json<string[]>(row, 'written', []),
    removed: json<string[]>(row, 'removed', []),
    foreign: json<string[]>(row, 'foreign_names', []),
  }
}

// Schedules whose next slots must be made. Served by schedule_plan_at.
const toPlan = `
select name, rule, missed, hash, (date_part('epoch', made_until) * 1000)::bigint as made_until_ms,
  (date_part('epoch', izta.now()) * 1000)::bigint as now_ms
from izta.schedule
where not paused and plan_at <= izta.now()
order by plan_at
limit $1::integer`

export const toPlanStatement = (limit: number): Statement => ({ text: toPlan, values: [String(limit)] })

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
    rule: JSON.parse(text(row, 'rule')),
    missed: text(row, 'missed') as PlannableSchedule['missed'],
    hash: text(row, 'hash'),
    madeUntil: instant(row, 'made_until_ms'),
    now: instant(row, 'now_ms'),
  }))

// Advances cursors by compare-and-set and makes the tasks of the slots in between; whoever comes second finds the
// cursor moved and makes none. Served by schedule_pkey.
const plan = `
with planned as (
  update izta.schedule s set made_until = p.made_until, plan_at = p.plan_at
  from unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    as p(name, hash, was_made_until, made_until, plan_at)
  where s.name = p.name and s.hash = p.hash and s.made_until = p.was_made_until and not s.paused
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
select count(*) as made from made`

export interface SchedulePlan {
  readonly name: string
  readonly hash: string
  readonly wasMadeUntil: Date
  readonly madeUntil: Date
  readonly planAt: Date
  readonly tasks: readonly { id: string; slot: Date }[]
}

export function planStatement(plans: readonly SchedulePlan[]): Statement {
  const tasks = plans.flatMap(({ name, tasks }) => tasks.map((task) => ({ ...task, schedule: name })))
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

export const readMade = (rows: readonly Row[]): number => integer(rows[0] ?? {}, 'made')

const list = `
select s.name, s.app, s.job, s.payload, s.queue, s.priority, s.max_attempts, s.rule, s.missed, s.overlap, s.paused,
  (date_part('epoch', n.slot) * 1000)::bigint as next_ms, (date_part('epoch', izta.now()) * 1000)::bigint as now_ms
from izta.schedule s
left join lateral (
  select t.slot from izta.task t
  where t.schedule = s.name and t.slot > izta.now() order by t.slot limit 1) n on true
where $1::text is null or s.name = $1
order by s.name`

export const listSchedulesStatement = (name: string | undefined): Statement => ({
  text: list,
  values: [name ?? null],
})

/** A stored schedule. */
export interface ScheduleInfo {
  readonly name: string
  /** The app whose code defines it; undefined when it was made by `schedules.put`. */
  readonly app: string | undefined
  /** The job's id. */
  readonly job: string
  readonly payload: unknown
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  readonly rule: unknown
  readonly missed: 'once' | 'skip' | 'all'
  readonly overlap: 'allow' | 'skip'
  readonly paused: boolean
  /** The slot of the next task that has been made already. */
  readonly nextSlotAt: Date | undefined
}

export const readSchedules = (rows: readonly Row[]): ScheduleInfo[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    app: optionalText(row, 'app'),
    job: text(row, 'job'),
    payload: JSON.parse(text(row, 'payload')),
    queue: text(row, 'queue'),
    priority: integer(row, 'priority'),
    maxAttempts: integer(row, 'max_attempts'),
    rule: JSON.parse(text(row, 'rule')),
    missed: text(row, 'missed') as ScheduleInfo['missed'],
    overlap: text(row, 'overlap') as ScheduleInfo['overlap'],
    paused: flag(row, 'paused'),
    nextSlotAt: optionalInstant(row, 'next_ms'),
  }))

export const readDatabaseNow = (rows: readonly Row[]): Date | undefined => optionalInstant(rows[0] ?? {}, 'now_ms')

// Pauses: its tasks that never started go, and the cursor goes back to before the first of them.
const pause = `
with dropped as (
  delete from izta.task t where t.schedule = $1::text and t.slot is not null and t.claims = 0
    and exists (select from izta.schedule s where s.name = $1 and not s.paused)
  returning t.slot)
update izta.schedule s set
  paused = true,
  made_until = coalesce((select min(slot) - interval '1 ms' from dropped), s.made_until),
  updated_at = izta.now()
where s.name = $1 and not s.paused
returning s.name`

export const pauseScheduleStatement = (name: string): Statement => ({ text: pause, values: [name] })

const resume = `
update izta.schedule set paused = false, plan_at = izta.now(), updated_at = izta.now()
where name = $1::text and paused
returning name`

export const resumeScheduleStatement = (name: string): Statement => ({ text: resume, values: [name] })

// Removes a dynamic schedule and its tasks that never started.
const remove = `
with gone as (
  delete from izta.schedule s where s.name = $1::text and s.app is null returning s.name),
dropped as (
  delete from izta.task t
  where t.schedule in (select name from gone) and t.slot is not null and t.claims = 0)
select name from gone`

export const removeScheduleStatement = (name: string): Statement => ({ text: remove, values: [name] })

// Makes one task of a schedule now, beside its slots.
const trigger = `
with made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, schedule, created_at)
  select $2::uuid, s.queue, s.job, s.payload, s.priority, s.max_attempts, izta.now(), izta.now(), s.name, izta.now()
  from izta.schedule s where s.name = $1::text
    and not exists (select from izta.history h where h.id = $2::uuid)
  on conflict do nothing
  returning queue)
select s.queue from izta.schedule s where s.name = $1::text`

export const triggerScheduleStatement = (name: string, id: string): Statement => ({
  text: trigger,
  values: [name, id],
})
