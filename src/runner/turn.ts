// Takes turns for one lease: repeats them while answers are lost, recovers what a lost answer had claimed, and
// keeps one outcome that the database refuses from harming its neighbours.
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/run.ts'
import { isDatabaseError, isDataRefused } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import { type DatabaseError, readableMessage } from '../errors.ts'
import { heldStatement, readHeld, readReleased, releaseHeldStatement } from '../store/recover.ts'
import { readTurnReply, turnStatement, type ClaimedTask, type Floor, type TurnReply } from '../store/turn.ts'
import { leaseMs, type Deadline } from './deadline.ts'
import { dropped, failed, type Ended } from './outcome.ts'

const { troublePauseMs } = defaults.runner

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
  /** 0 settles only. Calls that claim must follow each other, or one recovers what another has just claimed. */
  readonly limit: number
  /** Running tasks whose cancellation is asked for. */
  readonly watch: readonly string[]
  readonly floors: readonly Floor[]
}

export interface TurnResult extends TurnReply {
  /** How many tasks were asked for in the end. */
  readonly limit: number
  /** What took effect: without the unsettled, and with a failure in place of what the database refused. */
  readonly settled: readonly Ended[]
  /** What could not be sent. */
  readonly unsent: readonly Ended[]
}

export interface Turns {
  take(request: TurnRequest): Promise<TurnResult>
  /** Whether the answer of a claim was lost: it may have taken tasks that nobody here knows. Recover them first. */
  readonly claimWasLost: boolean
  /** What the lease holds without this process knowing. */
  recover(): Promise<readonly ClaimedTask[]>
  /** Hands back what a lost claim took and no recovery has found. Needs nothing if no answer was lost. */
  releaseUnknown(): Promise<void>
}

export function createTurns({ config, lease, queues, deadline, known }: TurnsOptions): Turns {
  const { database, clock, events, log } = config
  // Text that travels inside JSON grows by its escapes, to twice its size at the most for JSON text.
  const replyBytes = Math.min(longestReplyBytes, (database.replyLimitBytes ?? Infinity) / 2)
  const patience = { deadlineMs: deadline.endsAtMs }
  let claimWasLost = false
  let anyClaimWasLost = false
  /** Outcomes in a call whose answer was lost: a later one that finds no lease is no expired lease. */
  const perhapsSettled = new Set<string>()

  const range = () => ({ lease, queues, leaseMs: leaseMs(clock, deadline), except: known() })

  function noteLostAnswer({ ended, limit }: TurnRequest): void {
    if (limit > 0) claimWasLost = anyClaimWasLost = true
    for (const { task } of ended) perhapsSettled.add(task.id)
  }

  async function takeOnce(request: TurnRequest): Promise<TurnResult> {
    let limit = request.limit
    const build = (isRepeat: boolean) => {
      // The lost call may have claimed already: settle again, then see what is held.
      if (isRepeat) limit = 0
      return turnStatement({
        lease,
        leaseMs: leaseMs(clock, deadline),
        queues,
        limit,
        replyBytes,
        outcomes: request.ended.map(({ outcome }) => outcome),
        watch: request.watch,
        floors: request.floors,
      })
    }
    const { rows, ambiguous } = await repeat(database, clock, build, patience).catch((error: unknown) => {
      if (isDatabaseError(error) && error.outcome === 'unknown') noteLostAnswer(request)
      throw error
    })
    if (ambiguous) noteLostAnswer(request)
    let reply: TurnReply
    try {
      reply = readTurnReply(rows)
    } catch (error) {
      // The turn has been committed: what is wrong with its answer must not cost the tasks that it has claimed.
      log.error('the answer of a turn could not be read and counts as lost', {
        error: readableMessage(error),
      })
      noteLostAnswer(request)
      await pause(clock, troublePauseMs)
      return { ...nothing, unsent: request.ended }
    }
    const unsettled = new Set(reply.unsettled.filter((id) => !perhapsSettled.has(id)))
    for (const { task } of request.ended) perhapsSettled.delete(task.id)
    const settled = request.ended.filter(({ task }) => !unsettled.has(task.id))
    return { ...reply, limit, unsettled: [...unsettled], settled, unsent: [] }
  }

  /** Each outcome in a call of its own; one that the database refuses becomes a failed attempt. */
  async function takeOneByOne(all: readonly Ended[]): Promise<TurnResult> {
    const results: TurnResult[] = []
    for (const [index, one] of all.entries()) {
      try {
        results.push(await settleOne(one))
      } catch (error) {
        if (index === 0) throw error
        results.push({ ...nothing, unsent: all.slice(index) })
        break
      }
    }
    return {
      ...nothing,
      settled: results.flatMap((result) => result.settled),
      unsettled: results.flatMap((result) => result.unsettled),
      unsent: results.flatMap((result) => result.unsent),
      skipped: results.flatMap((result) => result.skipped),
      wake: results.flatMap((result) => result.wake),
    }
  }

  async function settleOne(one: Ended): Promise<TurnResult> {
    const send = (ended: Ended) => takeOnce({ ended: [ended], limit: 0, watch: [], floors: [] })
    try {
      return await send(one)
    } catch (error) {
      if (!isDataRefused(error)) throw error
      return send(refused(one, error)).catch((again: unknown) => {
        if (!isDataRefused(again)) throw again
        log.error('the database refuses every outcome of a task: its lease runs out', {
          task: one.task.id,
          job: one.task.job,
          queue: one.task.queue,
          attempt: one.task.attempt + 1,
          error: again.message,
        })
        return nothing
      })
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
      events.emit('turn.completed', {
        claimed: result.claimed.length,
        settled: result.settled.length,
        durationMs: clock.now() - startedAtMs,
      })
      return result
    },
    get claimWasLost() {
      return claimWasLost
    },
    async recover() {
      const { rows } = await repeat(database, clock, () => heldStatement(range()), patience)
      claimWasLost = false
      return readHeld(rows)
    },
    async releaseUnknown() {
      if (!anyClaimWasLost) return
      const { rows } = await repeat(database, clock, () => releaseHeldStatement(range()), patience)
      const tasks = readReleased(rows).length
      if (tasks > 0) log.info('handed back tasks whose claim had lost its answer', { tasks })
    },
  }
}

const nothing: TurnResult = {
  limit: 0,
  claimed: [],
  settled: [],
  unsettled: [],
  unsent: [],
  cancel: [],
  skipped: [],
  wake: [],
}
