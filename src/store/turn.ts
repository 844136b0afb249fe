// The hot path: one call that settles what has ended and claims what is due (migrations: izta.turn_1).
import type { Row, Statement } from '../db/database.ts'
import { mayWait, taskColumns } from './enqueue.ts'
import type { NewTask } from '../job/prepare.ts'
import {
  flag,
  instant,
  integer,
  integerOr,
  oneForAll,
  optionalInstant,
  optionalText,
  plainArray,
  text,
  textArray,
} from './encode.ts'

/** What becomes of a task; the meaning of each kind stands in the migration that creates the turn. */
export type OutcomeKind =
  'finish' | 'fail' | 'drop' | 'cancel' | 'retry' | 'retry-after-lease' | 'defer' | 'release'

/** The end of a run, fenced by the claim it belongs to. */
export interface Outcome {
  readonly id: string
  /** Which claim of the task this settles. */
  readonly claims: number
  readonly kind: OutcomeKind
  /** JSON text: the result of `finish`, the error entry of `fail`, `drop`, `retry` (and of `cancel`, if any). */
  readonly body: string | null
  readonly delayMs: number
  /** How long the history row stays; 0 keeps the bare row of a finished task. */
  readonly keepSeconds: number
  readonly children: readonly NewTask[]
}

/** A task as its runner gets it. */
export interface ClaimedTask {
  readonly id: string
  readonly queue: string
  readonly job: string
  readonly key: string | undefined
  /** JSON text. */
  readonly payload: string
  readonly priority: number
  readonly attempt: number
  readonly maxAttempts: number
  readonly losses: number
  readonly claims: number
  readonly cancel: boolean
  readonly skipOverlap: boolean
  readonly parent: string | undefined
  readonly schedule: string | undefined
  readonly slot: Date | undefined
  readonly enqueuedAt: Date
  readonly dueAt: Date
  /** Time between due and claimed. */
  readonly waitedMs: number
  /** W3C traceparent of what enqueued it. */
  readonly trace: string | undefined
}

/** Where a claim begins to look in a queue and priority. */
export interface Floor {
  readonly queue: string
  readonly priority: number
  readonly dueMs: number
}

export interface TurnRequest {
  readonly lease: string
  readonly leaseMs: number
  /** Empty for all queues. */
  readonly queues: readonly string[]
  /** How many tasks to claim at the most; 0 settles only. */
  readonly limit: number
  /** What the claimed payloads may add up to. */
  readonly replyBytes: number
  readonly outcomes: readonly Outcome[]
  /** Running tasks whose cancellation is asked for. */
  readonly watch: readonly string[]
  /** Nothing is claimed that was due before these. */
  readonly floors: readonly Floor[]
}

/** A child that was not made: its key is held by another unfinished task, or a task with its id exists. */
export interface SkippedChild {
  readonly id: string
  readonly job: string
  readonly key: string | undefined
}

export interface TurnReply {
  readonly claimed: readonly ClaimedTask[]
  /** Ids whose outcome changed nothing, since the lease is no longer held. */
  readonly unsettled: readonly string[]
  /** Watched ids that are to be cancelled. */
  readonly cancel: readonly string[]
  readonly skipped: readonly SkippedChild[]
  /** Other queues that want a runner. */
  readonly wake: readonly string[]
}

const turn = `
select *
from izta.turn_1($1::uuid, $2::bigint, $3::text[], $4::integer, $5::bigint,
  $6::uuid[], $7::integer[], $8::text[], $9::text[], $10::bigint[], $11::bigint[], $12::uuid[],
  $13::text[], $14::smallint[], $15::bigint[],
  $16::integer[], $17::uuid[], $18::text[], $19::text[], $20::text[], $21::smallint[], $22::smallint[], $23::bigint[],
  $24::timestamptz[], $25::text[], $26::text[], $27::text[], $28::boolean)`

export function turnStatement(request: TurnRequest): Statement {
  const { outcomes, floors } = request
  const parents: number[] = []
  const children: NewTask[] = []
  outcomes.forEach((outcome, index) => {
    for (const child of outcome.children) {
      parents.push(index + 1)
      children.push(child)
    }
  })
  return {
    // A parent of such children is settled in a call of its own.
    lane: children.some(mayWait) ? 'may-wait' : 'turn',
    text: turn,
    values: [
      request.lease,
      String(Math.round(request.leaseMs)),
      textArray(request.queues),
      String(request.limit),
      String(Math.floor(request.replyBytes)),
      plainArray(outcomes.map((outcome) => outcome.id)),
      plainArray(oneForAll(outcomes.map((outcome) => outcome.claims))),
      plainArray(oneForAll(outcomes.map((outcome) => outcome.kind))),
      textArray(upTo(outcomes, ({ body }) => body !== null).map((outcome) => outcome.body)),
      plainArray(
        upTo(outcomes, ({ kind }) => kind !== 'finish').map((outcome) => Math.round(outcome.delayMs)),
      ),
      plainArray(oneForAll(outcomes.map((outcome) => outcome.keepSeconds))),
      plainArray(request.watch),
      textArray(floors.map((floor) => floor.queue)),
      plainArray(floors.map((floor) => floor.priority)),
      plainArray(floors.map((floor) => floor.dueMs)),
      plainArray(parents),
      ...taskColumns(children),
      String(children.some((child) => child.idWasGiven === true)),
    ],
  }
}

/** Without those at the end that have nothing to say: the server takes nulls for them. */
function upTo(outcomes: readonly Outcome[], says: (outcome: Outcome) => boolean): readonly Outcome[] {
  return outcomes.slice(0, outcomes.findLastIndex(says) + 1)
}

export function readTurnReply(rows: readonly Row[]): TurnReply {
  const claimed: ClaimedTask[] = []
  const unsettled: string[] = []
  const cancel: string[] = []
  const skipped: SkippedChild[] = []
  const wake: string[] = []
  for (const row of rows) {
    switch (row['row']) {
      case null:
      case undefined:
        claimed.push(readClaimedTask(row))
        break
      case 'unsettled':
        unsettled.push(text(row, 'id'))
        break
      case 'cancel':
        cancel.push(text(row, 'id'))
        break
      case 'skipped':
        skipped.push({ id: text(row, 'id'), job: text(row, 'job'), key: optionalText(row, 'key') })
        break
      case 'wake':
        wake.push(text(row, 'queue'))
        break
      default:
        throw new TypeError(`a turn answered with a row of kind "${row['row']}"`)
    }
  }
  return { claimed, unsettled, cancel, skipped, wake }
}

/** A row of a claimed task, where null stands for a column's default and in created_ms for due_ms. */
export function readClaimedTask(row: Row): ClaimedTask {
  const dueAt = instant(row, 'due_ms')
  return {
    id: text(row, 'id'),
    queue: text(row, 'queue'),
    job: text(row, 'job'),
    key: optionalText(row, 'key'),
    payload: text(row, 'payload'),
    priority: integerOr(row, 'priority', 5),
    attempt: integerOr(row, 'attempt', 0),
    maxAttempts: integerOr(row, 'max_attempts', 3),
    losses: integerOr(row, 'losses', 0),
    claims: integer(row, 'claims'),
    cancel: flag(row, 'cancel'),
    skipOverlap: flag(row, 'skip_overlap'),
    parent: optionalText(row, 'parent'),
    schedule: optionalText(row, 'schedule'),
    slot: optionalInstant(row, 'slot_ms'),
    enqueuedAt: optionalInstant(row, 'created_ms') ?? dueAt,
    dueAt,
    waitedMs: integer(row, 'waited_ms'),
    trace: optionalText(row, 'trace'),
  }
}
