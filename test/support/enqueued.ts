// Reads which tasks a statement enqueues, whether it carries one or several.
import type { SqlText } from '../../src/db/database.ts'
import { argument } from './arguments.ts'

export interface EnqueuedTask {
  readonly id: string
  /** JSON text. */
  readonly payload: string
}

/** The tasks of an enqueue; undefined for every other statement. */
export function enqueuedBy(statement: SqlText): readonly EnqueuedTask[] | undefined {
  if (statement.text.includes('.enqueue_task_1(')) {
    return [{ id: argument(statement, 'p_id') ?? '', payload: argument(statement, 'p_payload') ?? '' }]
  }
  if (!statement.text.includes('.enqueue_1(')) return undefined
  return JSON.parse(argument(statement, 'p_tasks') ?? '') as EnqueuedTask[]
}
