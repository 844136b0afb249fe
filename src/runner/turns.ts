// Takes turns for one lease: repeats them while answers are lost, recovers what a lost answer had claimed, and
// keeps one outcome that the database refuses from harming its neighbours.
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/repeat.ts'
import { isDatabaseError } from '../db/transient.ts'
import type { DatabaseError } from '../errors.ts'
import { heldStatement, readHeld, readReleased, releaseHeldStatement } from '../store/recover.ts'
import { readTurnReply, turnStatement, type TurnReply } from '../store/turn.ts'
import { leaseMs, type Deadline } from './deadline.ts'
import { dropped, failed, type Ended } from './execute.ts'

/** What one claim may bring back at the most, whatever the driver could carry. */
const longestReplyBytes = 32 * 1024 * 1024

export interface TurnsOptions {
  readonly config: ResolvedConfig
  readonly lease: string
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly deadline: Deadline
  /** Tasks of this lease that run here, or whose outcome is still to be sent. */
  readonly known: () => readonly string[]
}

export interface TurnRequest {
  readonly ended: readonly Ended[]
  /** 0 settles only. */
  readonly limit: number
  /** Running tasks whose cancellation is asked for. */
  readonly watch: readonly string[]
}

export interface TurnResult extends TurnReply {
  /** What took effect: without the unsettled, and with a failure in place of what the database refused. */
  readonly settled: readonly Ended[]
}

export interface Turns {
  take(request: TurnRequest): Promise<TurnResult>
  /** Hands back what the lease holds without this process knowing; needed only after an answer was lost. */
  releaseUnknown(): Promise<void>
}

export function createTurns({ config, lease, queues, deadline, known }: TurnsOptions): Turns {
  const { database, clock } = config
  // Text that travels inside JSON grows by its escapes, to twice its size at the most for JSON text.
  const replyBytes = Math.min(longestReplyBytes, (database.replyLimitBytes ?? Infinity) / 2)
  const patience = { deadlineMs: deadline.endsAtMs }
  let answerWasLost = false

  const range = (except: readonly string[]) => ({
    lease,
    queues,
    leaseMs: leaseMs(clock, deadline),
    except,
  })

  const takeOnce: Turns['take'] = async ({ ended, limit, watch }) => {
    const outcomes = ended.map(({ outcome }) => outcome)
    const { rows, ambiguous } = await repeat(
      database,
      clock,
      (isRepeat) =>
        turnStatement({
          lease,
          leaseMs: leaseMs(clock, deadline),
          queues,
          // The lost call may have claimed already: settle again, then see what is held.
          limit: isRepeat ? 0 : limit,
          replyBytes,
          outcomes,
          watch,
        }),
      patience,
    ).catch((error: unknown) => {
      if (isDatabaseError(error) && error.outcome === 'unknown') answerWasLost = true
      throw error
    })
    const reply = readTurnReply(rows)
    if (!ambiguous) {
      const unsettled = new Set(reply.unsettled)
      return { ...reply, settled: ended.filter(({ task }) => !unsettled.has(task.id)) }
    }
    answerWasLost = true
    const sent = outcomes.map((outcome) => outcome.id)
    const held = await repeat(database, clock, () => heldStatement(range([...known(), ...sent])), patience)
    // What the first copy settled is not found by the second: that is no expired lease.
    return { ...reply, unsettled: [], settled: ended, claimed: [...reply.claimed, ...readHeld(held.rows)] }
  }

  /** Each outcome in a call of its own; the one that the database refuses becomes a failed attempt. */
  const takeOneByOne = async (all: readonly Ended[]): Promise<TurnResult> => {
    const results: TurnResult[] = []
    // oxlint-disable no-await-in-loop -- one at a time is the point
    for (const one of all) {
      const request = { ended: [one], limit: 0, watch: [] }
      results.push(
        await takeOnce(request).catch((error: unknown) => {
          if (!isDataRefused(error)) throw error
          return takeOnce({ ...request, ended: [refused(one, error)] })
        }),
      )
    }
    return {
      claimed: results.flatMap((result) => result.claimed),
      settled: results.flatMap((result) => result.settled),
      unsettled: results.flatMap((result) => result.unsettled),
      cancel: [],
      skipped: results.flatMap((result) => result.skipped),
      wake: results.flatMap((result) => result.wake),
    }
  }

  function refused({ task }: Ended, error: DatabaseError): Ended {
    const failure = { code: 'result-refused', class: error.name, message: error.message } as const
    const job = config.jobs.get(task.job)
    return job === undefined ? dropped(task, job, failure) : failed(task, job, failure)
  }

  return {
    async take(request) {
      const startedAtMs = clock.now()
      const result = await takeOnce(request).catch((error: unknown) => {
        if (!isDataRefused(error) || request.ended.length === 0) throw error
        return takeOneByOne(request.ended)
      })
      config.events.emit('turn.completed', {
        claimed: result.claimed.length,
        settled: result.settled.length,
        durationMs: clock.now() - startedAtMs,
      })
      return result
    },
    async releaseUnknown() {
      if (!answerWasLost) return
      const { rows } = await repeat(database, clock, () => releaseHeldStatement(range(known())), patience)
      config.log.info('handed back tasks whose claim had lost its answer', { tasks: readReleased(rows).length })
    },
  }
}

const isDataRefused = (error: unknown): error is DatabaseError =>
  isDatabaseError(error) && error.code === 'data-refused'
