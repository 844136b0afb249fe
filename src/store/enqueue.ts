// Inserts tasks: one call for any number of them, all or none, safe to repeat by their ids (izta.enqueue_1).
import type { Lane, Row, Statement } from '../db/database.ts'
import type { NewTask } from '../job/prepare.ts'
import type { TaskStatus } from '../job/task.ts'
import { json, onlyRow, optionalText } from './encode.ts'

/** What the tasks of a call have in common; tasks that differ say so themselves. */
type Common = Pick<NewTask, 'queue' | 'job' | 'priority' | 'maxAttempts' | 'delayMs'>

/** The task as izta.new_tasks_1 reads it, without what it has in common with others. Its payload is JSON text in a string. */
function taskObject(task: NewTask, common: Partial<Common>, parent?: string) {
  const { queue, job, priority, maxAttempts, delayMs } = task
  return {
    id: task.id,
    payload: task.payload,
    queue: queue === common.queue ? undefined : queue,
    job: job === common.job ? undefined : job,
    priority: priority === common.priority ? undefined : priority,
    maxAttempts: maxAttempts === common.maxAttempts ? undefined : maxAttempts,
    delayMs: delayMs === common.delayMs ? undefined : delayMs,
    runAt: task.runAt,
    key: task.key,
    keyUntil: task.keyUntil,
    trace: task.trace,
    parent,
  }
}

/** The children of tasks that have ended, for izta.turn_1. */
export const childrenJson = (parents: readonly { id: string; children: readonly NewTask[] }[]): string =>
  JSON.stringify(parents.flatMap(({ id, children }) => children.map((child) => taskObject(child, {}, id))))

/**
 * Whether another task may have the same id or key. Then the insert may wait for the transaction that makes or ends that
 * task, and an insert that expects no conflict would be tried in vain.
 */
export const mayWait = ({ key, idWasGiven }: NewTask): boolean => key !== undefined || idWasGiven === true

/** The same of any of these. */
export const mayExist = (tasks: readonly NewTask[]): boolean => tasks.some(mayWait)

const laneOf = (tasks: readonly NewTask[]): Lane => (mayExist(tasks) ? 'may-wait' : 'quick')

const enqueueOne = `
select izta.enqueue_task_1(p_id => $1::uuid, p_queue => $2::text, p_job => $3::text, p_payload => $4::text,
  p_priority => $5::smallint, p_max_attempts => $6::smallint, p_delay_ms => $7::bigint, p_run_at => $8::timestamptz,
  p_key => $9::text, p_key_until => $10::text, p_trace => $11::text) as reply`

const enqueue = (wakes: boolean) => `
select izta.enqueue_1(p_tasks => $1::json, p_queue => $2::text, p_job => $3::text, p_priority => $4::smallint,
  p_max_attempts => $5::smallint, p_delay_ms => $6::bigint, p_may_exist => $7::boolean, p_wake => ${wakes}) as reply`

const enqueueAndWake = enqueue(true)

// Leaves the rows of queues alone: inside an application's transaction they would stay locked.
const enqueueOnly = enqueue(false)

const taskValues = (task: NewTask) => [
  task.id,
  task.queue,
  task.job,
  task.payload,
  String(task.priority),
  String(task.maxAttempts),
  String(task.delayMs),
  task.runAt?.toISOString() ?? null,
  task.key ?? null,
  task.keyUntil ?? null,
  task.trace ?? null,
]

function bulkValues(tasks: readonly NewTask[]): Statement['values'] {
  const common = tasks[0] as NewTask
  return [
    JSON.stringify(tasks.map((task) => taskObject(task, common))),
    common.queue,
    common.job,
    String(common.priority),
    String(common.maxAttempts),
    String(common.delayMs),
    String(mayExist(tasks)),
  ]
}

/** Inserts at least one task, and marks their queues as woken. */
export function enqueueStatement(tasks: readonly NewTask[]): Statement {
  const [first, second] = tasks
  return first !== undefined && second === undefined
    ? { lane: laneOf(tasks), text: enqueueOne, values: taskValues(first) }
    : { lane: laneOf(tasks), text: enqueueAndWake, values: bulkValues(tasks) }
}

/** Inserts at least one task, without a word to its queue. */
export const enqueueOnlyStatement = (tasks: readonly NewTask[]): Statement => ({
  lane: laneOf(tasks),
  text: enqueueOnly,
  values: bulkValues(tasks),
})

/** A task that was not made, by its position among those that were sent. */
export interface Refusal {
  readonly index: number
  /** The task with its id or key; null when that one ended in this very moment. */
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
  interface Reply {
    refused?: Refusal[] | null
    wake?: string[] | null
    laterMs?: number | null
  }
  const reply = json<Reply>(onlyRow(rows), 'reply', {})
  return {
    refused: reply.refused ?? [],
    wake: reply.wake ?? [],
    laterAt: reply.laterMs === null || reply.laterMs === undefined ? undefined : new Date(reply.laterMs),
  }
}

// Who holds a key. Served by task_key.
const keyHolder = `
select id, status from izta.key_holder_1($1::text, $2::text)`

export function keyHolderStatement(job: string, key: string): Statement {
  return { lane: 'quick', text: keyHolder, values: [job, key] }
}

export function readKeyHolder(rows: readonly Row[]): { id: string; status: TaskStatus } | undefined {
  const id = optionalText(rows[0] ?? {}, 'id')
  return id === undefined ? undefined : { id, status: rows[0]?.['status'] as TaskStatus }
}
