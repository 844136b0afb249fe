// After an answer was lost: what does this lease hold, and how to hand it back.
import type { Row, Statement } from '../db/database.ts'
import { plainArray, text } from './encode.ts'
import { readClaimedTask, type ClaimedTask } from './turn.ts'

/** As izta.turn_1 has them, with their fractions. */
const ms = (expression: string) => `date_part('epoch', ${expression}) * 1000::float8`

// All leases of one lease id end together, so its tasks are close to one instant of the index. Served by task_later.
const held = `
select t.id, t.queue, t.job, t.payload, t.priority, t.attempt, t.max_attempts, t.losses, t.claims,
  ${ms('t.created_at')} as created_ms, ${ms('t.due_at')} as due_ms, ${ms('izta.now() - t.due_at')} as waited_ms,
  t.key, t.parent, t.schedule, ${ms('t.slot')} as slot_ms, t.trace, t.cancel, t.skip_overlap, false as lost
from izta.task t
where not t.ready and t.lease = $1::uuid and t.id <> all ($3::uuid[])
  and t.run_at between izta.now() + ($2::float8 - 60000::float8) * interval '1 ms'
    and izta.now() + ($2::float8 + 60000::float8) * interval '1 ms'
limit 1000`

const release = `
select izta.release_lease_1(p_lease => $1::uuid, p_lease_ms => $2::bigint, p_except => $3::uuid[]) as id`

export interface LeaseRange {
  readonly lease: string
  /** Until the lease's end. */
  readonly leaseMs: number
  /** Tasks that are known to run, or whose outcome is still to be sent. */
  readonly except: readonly string[]
}

const values = ({ lease, leaseMs, except }: LeaseRange) => [
  lease,
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
  text: release,
  values: values(range),
})

export const readReleased = (rows: readonly Row[]): string[] => rows.map((row) => text(row, 'id'))
