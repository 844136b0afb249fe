// Cancels tasks that wait, marks those that run (izta.cancel_tasks_1).
import type { Row, Statement } from '../db/database.ts'
import { optionalText, plainArray } from './encode.ts'

const cancel = `
select id, outcome
from izta.cancel_tasks_1(p_ids => $1::uuid[], p_jobs => $2::text[], p_keep_seconds => $3::bigint[],
  p_other_seconds => $4::bigint)`

/** How long cancelled tasks are kept, by job; `fallbackSeconds` for jobs that are not known here. */
export interface CancelRetention {
  readonly jobs: string
  readonly seconds: string
  readonly fallbackSeconds: number
}

export const cancelStatement = (ids: readonly string[], keep: CancelRetention): Statement => ({
  lane: 'may-wait',
  text: cancel,
  values: [plainArray(ids), keep.jobs, keep.seconds, String(keep.fallbackSeconds)],
})

/**
 * `cancelled` at once, `cancelling` (it runs and is told to stop), or nothing was done, because the task had ended
 * before; `moving` means that it changes hands again and again: ask once more.
 */
export type CancelReply =
  'cancelled' | 'cancelling' | 'moving' | 'already-finished' | 'already-failed' | 'already-cancelled'

/** Undefined when there is no task with the id. The statement answers for every id. */
export function readCancelReply(rows: readonly Row[], id: string): CancelReply | undefined {
  const row = rows.find((one) => one['id'] === id)
  if (row === undefined) throw new TypeError(`the cancel of task ${id} was not answered`)
  return optionalText(row, 'outcome') as CancelReply | undefined
}
