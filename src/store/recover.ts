// After an answer was lost: what does this lease hold, and how to hand it back.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, plainArray, text, textArray } from './encode.ts'
import { readClaimedTask, type ClaimedTask } from './turn.ts'

// All leases of one lease id end together, so its tasks stand close to one instant of the due index.
const heldRange = `
from (
    select name from izta.queue where pg_catalog.cardinality($2::text[]) = 0
    union all
    select pg_catalog.unnest($2::text[])) q(name)
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select * from izta.task h
    where h.queue = q.name and h.priority = p.priority
      and h.run_at between izta.now() + ($3::float8 - 60000::float8) * interval '1 ms'
        and izta.now() + ($3::float8 + 60000::float8) * interval '1 ms'
      and h.lease = $1::uuid
    offset 0) t`

// Served by task_due.
const held = `
select t.id, t.queue, t.job, t.key, t.payload, t.priority, t.attempt, t.max_attempts, t.losses, t.claims, t.cancel,
  t.skip_overlap, t.parent, t.schedule, ${epochMs('t.slot')} as slot_ms,
  ${epochMs('t.created_at')} as created_ms,
  ${epochMs('t.due_at')} as due_ms,
  ${epochMs('izta.now() - t.due_at')} as waited_ms, t.trace
${heldRange}
where t.id <> all ($4::uuid[])
limit 1000`

// Hands back what the lease holds, except tasks whose handler still runs. Served by task_due.
const releaseHeld = `
update izta.task r set lease = null, run_at = r.due_at
where r.lease = $1::uuid and r.id = any (array(
  select t.id ${heldRange}
  where t.id <> all ($4::uuid[])))
returning r.id`

export interface LeaseRange {
  readonly lease: string
  /** Empty for all queues. */
  readonly queues: readonly string[]
  /** Until the lease's end. */
  readonly leaseMs: number
  /** Tasks that are known to run, or whose outcome is still to be sent. */
  readonly except: readonly string[]
}

const values = ({ lease, queues, leaseMs, except }: LeaseRange) => [
  lease,
  textArray(queues),
  String(Math.round(leaseMs)),
  plainArray(except),
]

export const heldStatement = (range: LeaseRange): Statement => ({
  lane: 'turn',
  text: held,
  values: values(range),
})

export const readHeld = (rows: readonly Row[]): ClaimedTask[] => rows.map(readClaimedTask)

export const releaseHeldStatement = (range: LeaseRange): Statement => ({
  lane: 'turn',
  text: releaseHeld,
  values: values(range),
})

export const readReleased = (rows: readonly Row[]): string[] => rows.map((row) => text(row, 'id'))
