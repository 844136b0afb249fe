// Schedules as they are stored: list, pause, resume, remove, trigger.
import type { Row, Statement } from '../db/database.ts'
import { decodePayload } from '../job/json.ts'
import type { ScheduleRule } from '../job/rule.ts'
import { onlyRow, epochMs, flag, integer, optionalInstant, optionalText, text } from './encode.ts'

const listSchedules = `
select s.name, s.app, s.job, s.payload, s.queue, s.priority, s.max_attempts, s.rule, s.missed, s.overlap, s.paused,
  ${epochMs('n.slot')} as next_ms, ${epochMs('izta.now()')} as now_ms
from izta.schedule s
left join lateral (
  select t.slot from izta.task t
  where t.schedule = s.name and t.slot > izta.now() order by t.slot limit 1) n on true
where $1::text is null or s.name = $1
order by s.name`

export const listSchedulesStatement = (name: string | undefined): Statement => ({
  lane: 'quick',
  text: listSchedules,
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
  readonly rule: ScheduleRule
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
    payload: decodePayload(text(row, 'payload')),
    queue: text(row, 'queue'),
    priority: integer(row, 'priority'),
    maxAttempts: integer(row, 'max_attempts'),
    rule: JSON.parse(text(row, 'rule')) as ScheduleRule,
    missed: text(row, 'missed') as ScheduleInfo['missed'],
    overlap: text(row, 'overlap') as ScheduleInfo['overlap'],
    paused: flag(row, 'paused'),
    nextSlotAt: optionalInstant(row, 'next_ms'),
  }))

export const readDatabaseNow = (rows: readonly Row[]): Date | undefined =>
  optionalInstant(rows[0] ?? {}, 'now_ms')

// The named schedule, locked if nobody has changed it since the statement began (see sync.ts).
const lockedIfAsSeen = (condition: string) => `
with seen as materialized (
  select s.name, s.xmin as version from izta.schedule s where s.name = $1::text and ${condition}),
locked as materialized (
  select s.name from izta.schedule s join seen on seen.name = s.name and seen.version = s.xmin for update of s),
dropped as (
  delete from izta.task t
  where t.schedule in (select l.name from locked l) and t.slot is not null and t.claims = 0
  returning t.slot),`

const changeReply = (changed: string) => `
select exists (select from ${changed}) as changed,
  exists (select from seen) and not exists (select from locked) as contended`

// Pauses: its tasks that never started go, and the cursor goes back to before the first of them.
const pauseSchedule = `${lockedIfAsSeen('not s.paused')}
paused as (
  update izta.schedule s set
    paused = true,
    made_until = coalesce((select min(slot) - interval '1 ms' from dropped), s.made_until),
    updated_at = izta.now()
  where s.name in (select l.name from locked l)
  returning s.name)
${changeReply('paused')}`

export const pauseScheduleStatement = (name: string): Statement => ({
  lane: 'may-wait',
  text: pauseSchedule,
  values: [name],
})

const resumeSchedule = `
with resumed as (
  update izta.schedule set paused = false, plan_at = izta.now(), updated_at = izta.now()
  where name = $1::text and paused
  returning name)
select exists (select from resumed) as changed, false as contended`

export const resumeScheduleStatement = (name: string): Statement => ({
  lane: 'may-wait',
  text: resumeSchedule,
  values: [name],
})

// Removes a schedule of the app (null: a dynamic one) and its tasks that never started.
const removeSchedule = `${lockedIfAsSeen('s.app is not distinct from $2::text')}
gone as (
  delete from izta.schedule s where s.name in (select l.name from locked l) returning s.name)
${changeReply('gone')}`

export const removeScheduleStatement = (name: string, app: string | undefined): Statement => ({
  lane: 'may-wait',
  text: removeSchedule,
  values: [name, app ?? null],
})

export interface ChangeReply {
  readonly changed: boolean
  /** Another statement was at work on the schedule: send it again. */
  readonly contended: boolean
}

export function readChangeReply(rows: readonly Row[]): ChangeReply {
  const row = onlyRow(rows)
  return { changed: flag(row, 'changed'), contended: flag(row, 'contended') }
}

// Makes one task of a schedule now, beside its slots, and marks its queue as woken.
const triggerSchedule = `
with made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, schedule, created_at)
  select $2::uuid, s.queue, s.job, s.payload, s.priority, s.max_attempts, izta.now(), izta.now(), s.name, izta.now()
  from izta.schedule s where s.name = $1::text
    and not exists (select from izta.history h where h.id = $2::uuid)
  on conflict do nothing
  returning id, queue),
known as (
  insert into izta.queue (name, woken_at)
  select m.queue, izta.now() from made m where not exists (select from izta.queue q where q.name = m.queue)
  on conflict do nothing),
marked as (
  update izta.queue q set woken_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name in (select m.queue from made m) for no key update skip locked)))
select s.queue, not coalesce(q.paused, false) as wake, izta.unmake_ended_1(array(select m.id from made m)) as ended
from izta.schedule s
left join izta.queue q on q.name = s.queue
where s.name = $1::text`

export const triggerScheduleStatement = (name: string, id: string): Statement => ({
  lane: 'may-wait',
  text: triggerSchedule,
  values: [name, id],
})

/** The queue of the new task, and whether it wants a runner; undefined when there is no such schedule. */
export function readTriggered(rows: readonly Row[]): { queue: string; wake: boolean } | undefined {
  const row = rows[0]
  return row && { queue: text(row, 'queue'), wake: flag(row, 'wake') }
}
