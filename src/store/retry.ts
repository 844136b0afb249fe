// Moves an ended task back to the unfinished ones, or makes a failing one due now (izta.retry_task_1).
import type { Row, Statement } from '../db/database.ts'
import type { TaskStatus } from '../job/task.ts'
import { flag, optionalText } from './encode.ts'

const retry = `
select outcome, queue, status, is_tombstone, wake, holder
from izta.retry_task_1(p_id => $1::uuid, p_force => $2::boolean)`

export const retryStatement = (id: string, force: boolean): Statement => ({
  lane: 'may-wait',
  text: retry,
  values: [id, String(force)],
})

export interface RetryReply {
  /** Undefined when nothing was done. */
  readonly outcome: 'requeued' | 'due-now' | undefined
  readonly queue: string | undefined
  /** Of a task that was left as it is; undefined when there is none. */
  readonly status: TaskStatus | undefined
  /** Only a tombstone is left: there is no payload to run again. */
  readonly isTombstone: boolean
  /** Whether the queue wants a runner. */
  readonly wake: boolean
  /** The unfinished task that holds its key. */
  readonly holder: string | undefined
}

export function readRetryReply(rows: readonly Row[]): RetryReply {
  const row = rows[0] ?? {}
  return {
    outcome: optionalText(row, 'outcome') as RetryReply['outcome'],
    queue: optionalText(row, 'queue'),
    status: optionalText(row, 'status') as TaskStatus | undefined,
    isTombstone: flag(row, 'is_tombstone'),
    wake: flag(row, 'wake'),
    holder: optionalText(row, 'holder'),
  }
}
