// Queues: their rows, pause and resume, and the mark that says when a runner was last woken.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, flag, integer, optionalInstant, text, textArray } from './encode.ts'

// Makes the rows of named queues.
const register = `
select izta.register_queues_1($1::text[])`

export const registerQueuesStatement = (names: readonly string[]): Statement => ({
  lane: 'may-wait',
  text: register,
  values: [textArray(names)],
})

// Every queue that has a row or due tasks, with the tasks that are due. Served by task_ready and task_later.
const list = `
with due as (
  select d.queue, count(*) as due, min(d.run_at) as oldest
  from (
    select t.queue, t.run_at from izta.task t where t.ready
    union all
    select t.queue, t.run_at from izta.task t where not t.ready and t.run_at <= izta.now()) d
  group by d.queue)
select n.name, coalesce(q.paused, false) as paused, coalesce(d.due, 0) as due, ${epochMs('d.oldest')} as oldest_ms
from (select name from izta.queue union select queue from due) n
left join izta.queue q on q.name = n.name
left join due d on d.queue = n.name
order by n.name`

export const listQueuesStatement: Statement = { lane: 'quick', text: list, values: [] }

/** A queue, and the tasks in it that are due and not running. */
export interface QueueInfo {
  readonly name: string
  readonly paused: boolean
  readonly due: number
  /** Since when the oldest of them is due. */
  readonly oldestDueAt: Date | undefined
}

export const readQueues = (rows: readonly Row[]): QueueInfo[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    paused: flag(row, 'paused'),
    due: integer(row, 'due'),
    oldestDueAt: optionalInstant(row, 'oldest_ms'),
  }))

const setPaused = `
select izta.pause_queue_1(p_name => $1::text, p_paused => $2::boolean)`

export const setQueuePausedStatement = (name: string, paused: boolean): Statement => ({
  lane: 'may-wait',
  text: setPaused,
  values: [name, String(paused)],
})

// Marks a queue as woken after a commit elsewhere.
const wake = `
select $1::text as name where izta.wake_queue_1($1::text)`

export const wakeQueueStatement = (name: string): Statement => ({
  lane: 'quick',
  text: wake,
  values: [name],
})

// Queues with due tasks, and those that want a runner.
const wakeDue = `
select name, paused, due, oldest_due_ms, wake from izta.tick_queues_1(p_ahead_seconds => $1::float8)`

export const wakeDueStatement = (aheadSeconds: number): Statement => ({
  lane: 'quick',
  text: wakeDue,
  values: [String(aheadSeconds)],
})

/** Queues with due tasks, and those that want a runner. */
export const readWaiting = (rows: readonly Row[]) =>
  rows.map((row) => ({
    queue: text(row, 'name'),
    paused: flag(row, 'paused'),
    due: integer(row, 'due'),
    oldestDueMs: integer(row, 'oldest_due_ms'),
    wake: flag(row, 'wake'),
  }))

export const readNames = (rows: readonly Row[]): string[] => rows.map((row) => text(row, 'name'))
