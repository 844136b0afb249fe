// Cancels a task that waits, marks one that runs.
import type { Row, Statement } from '../db/database.ts'
import { optionalText } from './encode.ts'

// Waiting: moved to the history. Running: marked. One row is touched by one of the two at the most, since their
// conditions exclude each other in one snapshot. Served by task_pkey.
const cancel = `
with gone as (
  delete from izta.task t where t.id = $1::uuid and (t.lease is null or t.run_at <= izta.now()) returning t.*),
ended as (
  insert into izta.history (id, queue, job, status, payload, errors, priority, attempt, max_attempts, losses,
    claims, key, key_until, parent, schedule, slot, created_at, due_at, finished_at, expires_at)
  select id, queue, job, 'cancelled', payload, errors, priority, attempt, max_attempts, losses, claims, key, key_until,
    parent, schedule, slot, created_at, due_at, izta.now(),
    izta.now() + coalesce(
      (select r.seconds from unnest($2::text[], $3::bigint[]) r(job, seconds) where r.job = gone.job limit 1),
      $4::bigint)::float8 * interval '1 second'
  from gone
  on conflict on constraint history_pkey do nothing),
marked as (
  update izta.task t set cancel = true
  where t.id = $1::uuid and t.lease is not null and t.run_at > izta.now()
  returning t.id)
select
  case
    when exists (select from gone) then 'cancelled'
    when exists (select from marked) then 'cancelling'
    when t.id is not null then 'moving'
    else 'already-' || h.status
  end as did
from (select 1) one
left join izta.task t on t.id = $1::uuid
left join izta.history h on h.id = $1::uuid`

/** How long cancelled tasks are kept, by job; `fallbackSeconds` for jobs that are not known here. */
export interface CancelRetention {
  readonly jobs: string
  readonly seconds: string
  readonly fallbackSeconds: number
}

export const cancelStatement = (id: string, keep: CancelRetention): Statement => ({
  lane: 'may-wait',
  text: cancel,
  values: [id, keep.jobs, keep.seconds, String(keep.fallbackSeconds)],
})

/**
 * What a cancel did: `cancelled` at once, `cancelling` (it runs and is told to stop), or nothing, since the task
 * had ended as the given status before; `moving` means it changed hands just now: ask again.
 */
export type CancelReply =
  'cancelled' | 'cancelling' | 'moving' | 'already-finished' | 'already-failed' | 'already-cancelled'

/** Undefined when there is no such task. */
export const readCancelReply = (rows: readonly Row[]): CancelReply | undefined =>
  optionalText(rows[0] ?? {}, 'did') as CancelReply | undefined
