// The hot path: one call that settles what has ended and claims what is due (migrations: izta.turn_1).
import type { Row, Statement } from '../db/database.ts'
import type { NewTask } from '../job/prepare.ts'
import {
  flag,
  instant,
  integer,
  optionalInstant,
  optionalText,
  plainArray,
  text,
  textArray,
} from './encode.ts'
import { childrenJson, mayExist } from './enqueue.ts'

/** What becomes of a task; migrations/0004_create_turn.sql explains each kind. */
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
  /** Whether this very claim has found that the lease before was lost. */
  readonly lost: boolean
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

/** Where a claim looks: into these priorities of a queue, for tasks that were not due before an instant. */
export interface ClaimRange {
  readonly queue: string
  readonly lowest: number
  readonly highest: number
  /** Undefined: from the first task on. */
  readonly fromMs: number | undefined
}

export interface TurnRequest {
  readonly lease: string
  readonly leaseMs: number
  /** Empty for all queues. */
  readonly queues: readonly string[]
  /** How many tasks to claim at most; 0 settles only. */
  readonly limit: number
  /** The largest sum of the claimed payloads. */
  readonly replyBytes: number
  /** The queue that the last claim has served last: the next one begins after it. Undefined for the first. */
  readonly afterQueue?: string | undefined
  readonly outcomes: readonly Outcome[]
  /** Running tasks whose cancellation is asked for. */
  readonly watch: readonly string[]
  /** Empty: looks everywhere. */
  readonly ranges: readonly ClaimRange[]
  /** The runner leaves if nothing is due, but it waits for a task that is due within this time. */
  readonly lingerMs?: number | undefined
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
  /** The time until the next task is due, for which this runner waits on behalf of all. */
  readonly waitMs: number | undefined
}

const claimArguments = `p_lease => $1::uuid, p_lease_ms => $2::bigint, p_queues => $3::text[], p_limit => $4::integer,
  p_reply_bytes => $5::bigint, p_after => $6::text`
const outcomeArguments = `p_ids => $7::uuid[], p_claims => $8::integer[], p_kinds => $9::text[],
  p_bodies => $10::text[], p_delays_ms => $11::bigint[], p_keep_seconds => $12::bigint[]`
const noOutcomes = `p_ids => null, p_claims => null, p_kinds => null, p_bodies => null, p_delays_ms => null,
  p_keep_seconds => null`
const nothingElse = `p_children => null, p_children_may_exist => null, p_watch => null,
  p_range_queues => null, p_lowest => null, p_highest => null, p_from_ms => null, p_linger_ms => null`

// Most turns need few arguments, and each value that is sent costs.
const claimOnly = `
select * from izta.turn_1(${claimArguments}, ${noOutcomes}, ${nothingElse})`
const settleAndClaim = `
select * from izta.turn_1(${claimArguments}, ${outcomeArguments}, ${nothingElse})`
const wholeTurn = `
select * from izta.turn_1(${claimArguments},
  ${outcomeArguments},
  p_children => $13::json, p_children_may_exist => $14::boolean, p_watch => $15::uuid[],
  p_range_queues => $16::text[], p_lowest => $17::smallint[], p_highest => $18::smallint[], p_from_ms => $19::bigint[],
  p_linger_ms => $20::bigint)`

export function turnStatement(request: TurnRequest): Statement {
  const { outcomes, watch, ranges, lingerMs } = request
  const children = outcomes.flatMap((outcome) => outcome.children)
  const claim = claimValues(request)
  if (children.length + watch.length + ranges.length > 0 || lingerMs !== undefined) {
    return {
      lane: mayExist(children) ? 'may-wait' : 'turn',
      text: wholeTurn,
      values: [
        ...claim,
        ...outcomeValues(outcomes),
        children.length === 0 ? null : childrenJson(outcomes),
        String(mayExist(children)),
        watch.length === 0 ? null : plainArray(watch),
        ...rangeValues(ranges),
        lingerMs === undefined ? null : String(Math.round(lingerMs)),
      ],
    }
  }
  if (outcomes.length === 0) return { lane: 'turn', text: claimOnly, values: claim }
  return { lane: 'turn', text: settleAndClaim, values: [...claim, ...outcomeValues(outcomes)] }
}

const claimValues = ({ lease, leaseMs, queues, limit, replyBytes, afterQueue }: TurnRequest) => [
  lease,
  String(Math.round(leaseMs)),
  textArray(queues),
  String(limit),
  String(Math.floor(replyBytes)),
  afterQueue ?? null,
]

const outcomeValues = (outcomes: readonly Outcome[]): Statement['values'] =>
  outcomes.length === 0
    ? [null, null, null, null, null, null]
    : [
        plainArray(outcomes.map((outcome) => outcome.id)),
        plainArray(outcomes.map((outcome) => outcome.claims)),
        plainArray(outcomes.map((outcome) => outcome.kind)),
        textArray(outcomes.map((outcome) => outcome.body)),
        plainArray(outcomes.map((outcome) => Math.round(outcome.delayMs))),
        plainArray(outcomes.map((outcome) => outcome.keepSeconds)),
      ]

const rangeValues = (ranges: readonly ClaimRange[]): Statement['values'] =>
  ranges.length === 0
    ? [null, null, null, null]
    : [
        textArray(ranges.map((range) => range.queue)),
        plainArray(ranges.map((range) => range.lowest)),
        plainArray(ranges.map((range) => range.highest)),
        plainArray(ranges.map((range) => range.fromMs ?? null)),
      ]

export function readTurnReply(rows: readonly Row[]): TurnReply {
  const claimed: ClaimedTask[] = []
  const unsettled: string[] = []
  const cancel: string[] = []
  const skipped: SkippedChild[] = []
  const wake: string[] = []
  let waitMs: number | undefined
  for (const row of rows) {
    switch (row['kind']) {
      case 'claimed':
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
      case 'wait':
        waitMs = integer(row, 'waited_ms')
        break
      default:
        throw new TypeError(`a turn answered with a row of kind "${row['kind']}"`)
    }
  }
  return { claimed, unsettled, cancel, skipped, wake, waitMs }
}

export function readClaimedTask(row: Row): ClaimedTask {
  return {
    id: text(row, 'id'),
    queue: text(row, 'queue'),
    job: text(row, 'job'),
    key: optionalText(row, 'key'),
    payload: text(row, 'payload'),
    priority: integer(row, 'priority'),
    attempt: integer(row, 'attempt'),
    maxAttempts: integer(row, 'max_attempts'),
    losses: integer(row, 'losses'),
    lost: flag(row, 'lost'),
    claims: integer(row, 'claims'),
    cancel: flag(row, 'cancel'),
    skipOverlap: flag(row, 'skip_overlap'),
    parent: optionalText(row, 'parent'),
    schedule: optionalText(row, 'schedule'),
    slot: optionalInstant(row, 'slot_ms'),
    enqueuedAt: instant(row, 'created_ms'),
    dueAt: instant(row, 'due_ms'),
    waitedMs: Math.max(0, Math.round(integer(row, 'waited_ms'))),
    trace: optionalText(row, 'trace'),
  }
}
