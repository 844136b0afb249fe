// Reads tasks and counts over the hot table and the history as if they were one.
import type { Row, Statement } from '../db/database.ts'
import type { AnyJob } from '../job/job.ts'
import { decodePayload } from '../job/json.ts'
import type { Task, TaskError, TaskStatus } from '../job/task.ts'
import { epochMs, flag, instant, integer, json, optionalInstant, optionalText, text } from './encode.ts'

const taskColumns = `t.id, t.job, t.queue, t.priority, t.payload, t.attempt, t.max_attempts, t.losses, t.key, t.parent,
  t.schedule, ${epochMs('t.slot')} as slot_ms, pg_catalog.array_to_json(t.errors) as errors,
  ${epochMs('t.created_at')} as created_ms,
  ${epochMs('t.due_at')} as due_ms, izta.status_1(t) as status,
  null::json as result, null::bigint as finished_ms, null::bigint as expires_ms,
  ${epochMs('t.run_at')} as lease_ms`

const historyColumns = `h.id, h.job, h.queue, h.priority, h.payload, h.attempt, h.max_attempts, h.losses, h.key,
  h.parent, h.schedule, ${epochMs('h.slot')} as slot_ms, pg_catalog.array_to_json(h.errors) as errors,
  ${epochMs('h.created_at')} as created_ms,
  ${epochMs('h.due_at')} as due_ms, h.status,
  h.result, ${epochMs('h.finished_at')} as finished_ms,
  ${epochMs('h.expires_at')} as expires_ms, null::bigint as lease_ms`

// One task, wherever it is: in one statement, or it is missed while it moves. Served by both primary keys.
const get = `
select ${taskColumns} from izta.task t where t.id = $1::uuid
union all
select ${historyColumns} from izta.history h where h.id = $1::uuid`

export const getStatement = (id: string): Statement => ({ lane: 'quick', text: get, values: [id] })

// Where a task stands, without its payload and result. Served by both primary keys.
const statusOfTask = `
select t.job, izta.status_1(t) as status from izta.task t where t.id = $1::uuid
union all
select h.job, h.status from izta.history h where h.id = $1::uuid`

export const statusStatement = (id: string): Statement => ({
  lane: 'quick',
  text: statusOfTask,
  values: [id],
})

export function readStatus(rows: readonly Row[]): { job: string; status: TaskStatus } | undefined {
  const row = rows[0]
  return row && { job: text(row, 'job'), status: text(row, 'status') as TaskStatus }
}

// A page, newest id first, and whether more follow: as many as asked for, fewer if they are larger than an answer may be.
// Served by the primary keys, history_job and history_unsuccessful.
const list = `
with found as materialized (
  (select ${taskColumns} from izta.task t
  where ($1::uuid is null or t.id < $1::uuid)
    and ($2::text is null or t.queue = $2) and ($3::text is null or t.job = $3)
    and ($4::text is null or ($4 in ('pending', 'running', 'failing') and $4 = izta.status_1(t)))
  order by t.id desc limit $5::integer + 1)
  union all
  (select ${historyColumns} from izta.history h
  where ($1::uuid is null or h.id < $1::uuid)
    and ($2::text is null or h.queue = $2) and ($3::text is null or h.job = $3)
    and ($4::text is null or h.status = $4)
  order by h.id desc limit $5::integer + 1)),
page as (
  select f.*, row_number() over newest as place, count(*) over () as found,
    sum(octet_length(pg_catalog.concat(f.payload::text, f.result::text, f.errors::text))::bigint) over newest as bytes
  from found f
  window newest as (order by f.id desc rows unbounded preceding))
select p.*, p.found > count(*) over () as more
from page p
-- The first goes whatever its size, or the list would end there.
where p.place <= $5::integer and (p.bytes <= $6::numeric or p.place = 1)
order by p.id desc`

export interface ListFilter {
  readonly cursor: string | undefined
  readonly queue: string | undefined
  readonly job: string | undefined
  readonly status: TaskStatus | undefined
  readonly limit: number
  /** What payloads, results and errors of the page may add up to. */
  readonly replyBytes: number
}

export const listStatement = (filter: ListFilter): Statement => ({
  lane: 'quick',
  text: list,
  values: [
    filter.cursor ?? null,
    filter.queue ?? null,
    filter.job ?? null,
    filter.status ?? null,
    String(filter.limit),
    String(Math.floor(filter.replyBytes)),
  ],
})

/** Whether more tasks follow those of the page. */
export const readMore = (rows: readonly Row[]): boolean => flag(rows[0] ?? {}, 'more')

export function readTask<J extends AnyJob>(row: Row): Task<J> {
  type StoredError = Omit<TaskError, 'at'> & { at: number }
  const status = text(row, 'status') as TaskStatus
  const errors = json<StoredError[]>(row, 'errors', []).map((error) => ({ ...error, at: new Date(error.at) }))
  const last = errors.at(-1)
  const payload = optionalText(row, 'payload')
  const result = optionalText(row, 'result')
  const ended = () => ({ finishedAt: instant(row, 'finished_ms'), expiresAt: instant(row, 'expires_ms') })
  const failure = () => ({ code: last?.code ?? 'thrown', error: last?.error })
  const facts = {
    id: text(row, 'id'),
    job: text(row, 'job'),
    queue: text(row, 'queue'),
    priority: integer(row, 'priority'),
    payload: payload === undefined ? undefined : decodePayload(payload),
    attempt: integer(row, 'attempt'),
    maxAttempts: integer(row, 'max_attempts'),
    losses: integer(row, 'losses'),
    key: optionalText(row, 'key'),
    parent: optionalText(row, 'parent'),
    schedule: optionalText(row, 'schedule'),
    slot: optionalInstant(row, 'slot_ms'),
    enqueuedAt: instant(row, 'created_ms'),
    dueAt: instant(row, 'due_ms'),
    errors,
  }
  const task: Task = (() => {
    switch (status) {
      case 'pending':
        return { ...facts, status }
      case 'running':
        return { ...facts, status, leaseExpiresAt: instant(row, 'lease_ms') }
      case 'failing':
        return { ...facts, status, ...failure() }
      case 'failed':
        return { ...facts, status, ...failure(), ...ended() }
      case 'finished':
        return { ...facts, status, result: result && (JSON.parse(result) as unknown), ...ended() }
      case 'cancelled':
        return { ...facts, status, ...ended() }
    }
  })()
  return task as Task<J>
}

// Unfinished tasks exactly, ended ones since an instant. Served by task_due and history_finished_at.
const counts = `
select t.queue, izta.status_1(t) as status, count(*) as count
from izta.task t group by 1, 2
union all
select h.queue, h.status, count(*) from izta.history h
where $1::timestamptz is not null and h.finished_at >= $1::timestamptz
group by 1, 2
order by 1, 2`

export const countsStatement = (since: Date | undefined): Statement => ({
  lane: 'quick',
  text: counts,
  values: [since?.toISOString() ?? null],
})

export const readCounts = (rows: readonly Row[]) =>
  rows.map((row) => ({
    queue: text(row, 'queue'),
    status: text(row, 'status') as TaskStatus,
    count: integer(row, 'count'),
  }))

// Whether an unfinished task of an earlier slot of the same schedule exists. Served by task_schedule.
const earlierSlot = `
select id from izta.task where schedule = $1::text and slot < $2::timestamptz and id <> $3::uuid order by slot limit 1`

export const earlierSlotStatement = (schedule: string, slot: Date, id: string): Statement => ({
  lane: 'turn',
  text: earlierSlot,
  values: [schedule, slot.toISOString(), id],
})
