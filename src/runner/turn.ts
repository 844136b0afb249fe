// Takes turns for one lease: repeats them while answers are lost, recovers what a lost answer had claimed, and
// keeps one outcome that the database refuses from harming the others.
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/run.ts'
import { isDatabaseError, isDataRefused } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import { type DatabaseError, readableMessage } from '../errors.ts'
import { heldStatement, readHeld, readReleased, releaseHeldStatement } from '../store/recover.ts'
import {
  readTurnReply,
  turnStatement,
  type ClaimedTask,
  type TurnReply,
  type ClaimRange,
} from '../store/turn.ts'
import { leaseMs, type Deadline } from './deadline.ts'
import { logFacts } from './facts.ts'
import { dropped, failed, type Ended } from './outcome.ts'

const { troublePauseMs } = defaults.runner

/** The most that one claim brings back, whatever the driver could carry. */
const longestReplyBytes = 32 * 1024 * 1024

export interface TurnsOptions {
  readonly config: ResolvedConfig
  readonly lease: string
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly deadline: Deadline
  /** Ids of the lease's tasks that are active here, or whose outcome is still to be sent. */
  readonly heldIds: () => readonly string[]
}

/** The content of one turn. */
export interface TurnLoad {
  readonly ended: readonly Ended[]
  /** 0 settles only. Calls that claim must follow each other, or one recovers what another has just claimed. */
  readonly limit: number
  /** Ids of running tasks: those to be cancelled come back. */
  readonly watch: readonly string[]
  readonly ranges: readonly ClaimRange[]
  /** The run leaves if nothing is due, but it waits for a task that is due within this time. */
  readonly lingerMs?: number | undefined
}

export interface TurnResult extends TurnReply {
  /** How many tasks were asked for in the end. */
  readonly limit: number
  /** Outcomes that took effect: without the unsettled, and with a failure in place of a refused one. */
  readonly settled: readonly Ended[]
  /** Outcomes that could not be sent. */
  readonly unsent: readonly Ended[]
}

export class Turns {
  readonly #options: TurnsOptions
  readonly #replyBytes: number
  readonly #patience: { readonly deadlineMs: number }
  #claimWasLost = false
  /** The same, not reset by a recovery. */
  #anyClaimWasLost = false
  /** Outcomes in a call whose answer was lost: a later one that finds no lease is no expired lease. */
  readonly #perhapsSettled = new Set<string>()
  /** The queue that was served last: queues take turns. */
  #lastQueue: string | undefined

  constructor(options: TurnsOptions) {
    this.#options = options
    const { config, deadline } = options
    // Text inside JSON grows by its escapes, to twice its size at most for JSON text.
    this.#replyBytes = Math.min(longestReplyBytes, (config.database.replyLimitBytes ?? Infinity) / 2)
    this.#patience = { deadlineMs: deadline.endsAtMs }
  }

  /** The answer of a claim was lost: it may have taken tasks that are not known here. Recover them first. */
  get claimWasLost(): boolean {
    return this.#claimWasLost
  }

  async take(load: TurnLoad): Promise<TurnResult> {
    const { clock, events } = this.#options.config
    const startedAtMs = clock.now()
    const result = await this.#takeOnce(load).catch((error: unknown) => {
      if (!isDataRefused(error) || load.ended.length === 0) throw error
      return this.#takeOneByOne(load.ended)
    })
    events.emit('turn.completed', {
      claimed: result.claimed.length,
      settled: result.settled.length,
      durationMs: clock.now() - startedAtMs,
    })
    return result
  }

  /** Tasks that the lease holds and that are not known here. */
  async recover(): Promise<readonly ClaimedTask[]> {
    const { database, clock } = this.#options.config
    const { rows } = await repeat(database, clock, () => heldStatement(this.#range()), this.#patience)
    this.#claimWasLost = false
    return readHeld(rows)
  }

  /** Hands back tasks that a lost claim took and no recovery has found. Sends nothing if no answer was lost. */
  async releaseUnknown(): Promise<void> {
    if (!this.#anyClaimWasLost) return
    const { database, clock, log } = this.#options.config
    const { rows } = await repeat(database, clock, () => releaseHeldStatement(this.#range()), this.#patience)
    const tasks = readReleased(rows).length
    if (tasks > 0) log.info('handed back tasks whose claim had lost its answer', { tasks })
  }

  #range() {
    const { config, deadline, lease, heldIds } = this.#options
    return { lease, leaseMs: leaseMs(config.clock, deadline), except: heldIds() }
  }

  async #takeOnce(load: TurnLoad): Promise<TurnResult> {
    const { rows, limit } = await this.#send(load)
    let reply: TurnReply
    try {
      reply = readTurnReply(rows)
    } catch (error) {
      const { clock, log } = this.#options.config
      // The turn has been committed: an answer that cannot be read must not cost the tasks that it has claimed.
      log.error('the answer of a turn could not be read and counts as lost', {
        error: readableMessage(error),
      })
      this.#noteLostAnswer(load)
      await pause(clock, troublePauseMs)
      return { ...nothing, unsent: load.ended }
    }
    this.#lastQueue = reply.claimed.at(-1)?.queue ?? this.#lastQueue
    const unsettled = new Set(reply.unsettled.filter((id) => !this.#perhapsSettled.has(id)))
    for (const { task } of load.ended) this.#perhapsSettled.delete(task.id)
    const settled = load.ended.filter(({ task }) => !unsettled.has(task.id))
    return { ...reply, limit, unsettled: [...unsettled], settled, unsent: [] }
  }

  async #send(load: TurnLoad) {
    const { config, deadline, lease, queues } = this.#options
    const { database, clock } = config
    let limit = load.limit
    const build = (isRepeat: boolean) => {
      // The lost call may have claimed already: settle again, then see what is held.
      if (isRepeat) limit = 0
      return turnStatement({
        lease,
        leaseMs: leaseMs(clock, deadline),
        queues,
        limit,
        replyBytes: this.#replyBytes,
        outcomes: load.ended.map(({ outcome }) => outcome),
        watch: load.watch,
        ranges: load.ranges,
        afterQueue: this.#lastQueue,
        lingerMs: load.lingerMs,
      })
    }
    const sent = await repeat(database, clock, build, this.#patience).catch((error: unknown) => {
      if (isDatabaseError(error) && error.outcome === 'unknown') this.#noteLostAnswer(load)
      throw error
    })
    if (sent.ambiguous) this.#noteLostAnswer(load)
    return { rows: sent.rows, limit }
  }

  #noteLostAnswer({ ended, limit }: TurnLoad): void {
    if (limit > 0) this.#claimWasLost = this.#anyClaimWasLost = true
    for (const { task } of ended) this.#perhapsSettled.add(task.id)
  }

  /** Sends each outcome in a call of its own; one that the database refuses becomes a failed attempt. */
  async #takeOneByOne(all: readonly Ended[]): Promise<TurnResult> {
    const results: TurnResult[] = []
    for (const [index, one] of all.entries()) {
      try {
        results.push(await this.#settleOne(one))
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

  async #settleOne(one: Ended): Promise<TurnResult> {
    const send = (ended: Ended) => this.#takeOnce({ ended: [ended], limit: 0, watch: [], ranges: [] })
    try {
      return await send(one)
    } catch (error) {
      if (!isDataRefused(error)) throw error
      return send(this.#refused(one, error)).catch((again: unknown) => {
        if (!isDataRefused(again)) throw again
        this.#options.config.log.error('the database refuses every outcome of a task: its lease runs out', {
          ...logFacts(one.task),
          error: again.message,
        })
        return nothing
      })
    }
  }

  #refused({ task }: Ended, error: DatabaseError): Ended {
    const failure = { code: 'result-refused', class: error.name, message: error.message } as const
    const job = this.#options.config.jobs.get(task.job)
    return job === undefined ? dropped(task, job, failure) : failed(task, job, failure)
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
  waitMs: undefined,
}
