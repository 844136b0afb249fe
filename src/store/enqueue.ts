// Inserts tasks: one call for any number of them, all or nothing, safe to repeat by their ids (izta.enqueue_1).
import type { Lane, Row, Statement } from '../db/database.ts'
import type { NewTask } from '../job/prepare.ts'
import type { TaskStatus } from '../job/task.ts'
import { alarmMarginSeconds } from './due.ts'
import {
  onlyRow,
  instantArray,
  json,
  noneForNulls,
  oneForAll,
  optionalInstant,
  optionalText,
  plainArray,
  textArray,
} from './encode.ts'

/** The status of an unfinished task `t`. */
export const unfinishedStatus = `case
    when t.lease is not null and t.run_at > izta.now() then 'running'
    when t.attempt > 0 then 'failing'
    else 'pending'
  end`

/** The columns of new tasks, one array a column, in the order of every insert. */
export function taskColumns(tasks: readonly NewTask[]): string[] {
  return [
    plainArray(tasks.map((task) => task.id)),
    textArray(oneForAll(tasks.map((task) => task.queue))),
    textArray(oneForAll(tasks.map((task) => task.job))),
    textArray(tasks.map((task) => task.payload)),
    plainArray(oneForAll(tasks.map((task) => task.priority))),
    plainArray(oneForAll(tasks.map((task) => task.maxAttempts))),
    plainArray(oneForAll(tasks.map((task) => task.delayMs))),
    instantArray(noneForNulls(tasks.map((task) => task.runAt))),
    textArray(noneForNulls(tasks.map((task) => task.key))),
    textArray(noneForNulls(tasks.map((task) => task.keyUntil))),
    textArray(noneForNulls(tasks.map((task) => task.trace))),
  ]
}

// The columns of the tasks, and the bounds of their ids where they may have been used before.
const input = `$1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[],
  $8::timestamptz[], $9::text[], $10::text[], $11::text[], $12::uuid, $13::uuid`

const enqueueAndWake = `
select refused, wake, later_ms from izta.enqueue_1(${input}, true, interval '${alarmMarginSeconds} seconds')`

// Without a word to the queues: inside an application's transaction their rows would stay locked.
const enqueueOnly = `
select refused from izta.enqueue_1(${input}, false, null)`

export function enqueueStatement(tasks: readonly NewTask[], lookInHistory: boolean): Statement {
  return {
    lane: laneOf(tasks),
    text: enqueueAndWake,
    values: [...taskColumns(tasks), ...boundsOf(tasks, lookInHistory)],
  }
}

export function enqueueOnlyStatement(tasks: readonly NewTask[], lookInHistory: boolean): Statement {
  return {
    lane: laneOf(tasks),
    text: enqueueOnly,
    values: [...taskColumns(tasks), ...boundsOf(tasks, lookInHistory)],
  }
}

/** Whether another transaction may be about to store a task with the same key or id: then its insert waits for that. */
export const mayWait = ({ key, idWasGiven }: NewTask): boolean => key !== undefined || idWasGiven === true

const laneOf = (tasks: readonly NewTask[]): Lane => (tasks.some(mayWait) ? 'may-wait' : 'quick')

/** The least and the greatest id, in the order of text, which is that of UUIDs in lower case. */
function boundsOf(tasks: readonly NewTask[], areWanted: boolean): (string | null)[] {
  const ids = areWanted ? tasks.map(({ id }) => id).toSorted() : []
  return [ids[0] ?? null, ids.at(-1) ?? null]
}

/** A task that was not inserted. `id` is null where the holder committed or ended only now: look again. */
export interface Refusal {
  readonly index: number
  readonly id: string | null
  readonly status: TaskStatus | null
}

export interface EnqueueReply {
  readonly refused: readonly Refusal[]
  /** Queues that want a runner now. */
  readonly wake: readonly string[]
  /** The first due instant among tasks that are not due yet, when no alarm is set for it. */
  readonly laterAt: Date | undefined
}

export function readEnqueueReply(rows: readonly Row[]): EnqueueReply {
  const row = onlyRow(rows)
  return {
    refused: json<Refusal[]>(row, 'refused', []),
    wake: json<string[]>(row, 'wake', []),
    laterAt: optionalInstant(row, 'later_ms'),
  }
}

// Who holds a key. Served by task_key.
const keyHolder = `
select t.id, ${unfinishedStatus} as status
from izta.task t where t.job = $1::text and t.key = $2::text and t.key_until is not null and not t.key_freed`

export function keyHolderStatement(job: string, key: string): Statement {
  return { lane: 'quick', text: keyHolder, values: [job, key] }
}

export function readKeyHolder(rows: readonly Row[]): { id: string; status: TaskStatus } | undefined {
  const id = optionalText(rows[0] ?? {}, 'id')
  return id === undefined ? undefined : { id, status: rows[0]?.['status'] as TaskStatus }
}
