// Moves an ended task back to the unfinished ones, or makes a failing one due now.
import type { Row, Statement } from '../db/database.ts'
import type { TaskStatus } from '../job/task.ts'
import { optionalText, text } from './encode.ts'

// Ended: back into the hot table with the same id, attempt 0, errors kept. Failing: due now. Claims go on counting, so
// that no old outcome fits the new claim, and from 1: to its schedule the task is no longer one that never started.
// Its key is held again.
// Served by both primary keys; a taken key raises 23505 on task_key.
const retry = `
with back as (
  delete from izta.history h
  where h.id = $1::uuid and h.payload is not null and (h.status <> 'finished' or $2::boolean)
  returning h.*),
moved as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, claims, run_at, due_at, key, key_until,
    parent, schedule, slot, created_at, errors)
  select id, queue, job, payload, priority, max_attempts, greatest(claims, 1), izta.now(), izta.now(), key, key_until,
    parent, schedule, slot, created_at, errors
  from back
  returning id, queue),
hurried as (
  update izta.task t set run_at = izta.now(), due_at = izta.now()
  where t.id = $1::uuid and (t.lease is null or t.run_at <= izta.now()) and t.attempt > 0
  returning t.id, t.queue)
select
  case
    when exists (select from moved) then 'moved'
    when exists (select from hurried) then 'hurried'
    else 'nothing'
  end as did,
  coalesce((select queue from moved), (select queue from hurried)) as queue,
  (select h.status from izta.history h where h.id = $1::uuid) as ended_as,
  (select h.payload is null from izta.history h where h.id = $1::uuid) as bare`

export const retryStatement = (id: string, force: boolean): Statement => ({
  lane: 'may-wait',
  text: retry,
  values: [id, String(force)],
})

export interface RetryReply {
  readonly did: 'moved' | 'hurried' | 'nothing'
  readonly queue: string | undefined
  /** How the task had ended before, if it had. */
  readonly endedAs: TaskStatus | undefined
  /** Only its bare row was kept: there is no payload to run again. */
  readonly bare: boolean
}

export function readRetryReply(rows: readonly Row[]): RetryReply {
  const row = rows[0] ?? {}
  return {
    did: text(row, 'did') as RetryReply['did'],
    queue: optionalText(row, 'queue'),
    endedAs: optionalText(row, 'ended_as') as TaskStatus | undefined,
    bare: row['bare'] === 't',
  }
}
