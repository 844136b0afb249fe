// The turns of a run in flight: sends them, and hands their answers to the parts of the run.
import { pause } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../errors.ts'
import type { ActiveTasks } from './active.ts'
import type { Claims } from './claims.ts'
import type { Outbox } from './outbox.ts'
import { makesDue, type Ended } from './outcome.ts'
import type { Report } from './report.ts'
import type { RunOptions } from './run.ts'
import type { TurnResult, Turns } from './turn.ts'

const { troublePauseMs } = defaults.runner

/** The parts of a run that turns work on. */
export interface TurnParts {
  readonly options: RunOptions
  readonly active: ActiveTasks
  readonly claims: Claims
  readonly outbox: Outbox
  readonly report: Report
  readonly turns: Turns
  /** Aborts when the run ends without waiting for its handlers. */
  readonly leaving: AbortSignal
  /** No task runs, waits, or has an outcome to be sent. */
  readonly isIdle: () => boolean
  readonly onChange: () => void
  readonly stopClaiming: () => void
}

export class TurnsInFlight {
  readonly #parts: TurnParts
  /** Turns sent and not answered: at most two. */
  #count = 0
  /** How many tasks those turns may bring. */
  #requested = 0
  #hasWokenSibling = false
  /** When cancellations were last read, on the clock's scale. */
  #watchedAtMs: number
  /** The error that ends the run. */
  #fatal: { readonly error: unknown } | undefined

  constructor(parts: TurnParts) {
    this.#parts = parts
    this.#watchedAtMs = parts.options.config.clock.now()
  }

  get count(): number {
    return this.#count
  }

  get requested(): number {
    return this.#requested
  }

  get watchedAtMs(): number {
    return this.#watchedAtMs
  }

  /** Throws the error that ends the run, if there was one. */
  throwIfFatal(): void {
    if (this.#fatal !== undefined) throw this.#fatal.error
  }

  /** Settles what the outbox holds, claims up to `limit` tasks, and reads cancellations if it watches. */
  start(limit: number, watches: boolean): void {
    const { active, outbox, onChange } = this.#parts
    this.#count++
    this.#requested += limit
    void this.#take(outbox.takeBatch(), limit, watches ? active.running() : [])
      .catch((error: unknown) => (this.#fatal ??= { error }))
      .finally(() => {
        this.#count--
        onChange()
      })
  }

  async #take(ended: readonly Ended[], limit: number, watch: readonly string[]): Promise<void> {
    const { active, claims, options, outbox, turns } = this.#parts
    const { capacity, config } = options
    const lingerMs = this.#lingerMs(limit)
    const sent = claims.sent()
    const { ranges } = sent
    const result = await turns.take({ ended, limit, watch, ranges, lingerMs }).catch(asFailure)
    this.#requested -= limit
    if ('error' in result) {
      await this.#fail(result.error, ended.length === 0)
      return outbox.putBack(ended)
    }
    if (watch.length > 0 || !active.hasRunning) this.#watchedAtMs = config.clock.now()
    claims.record(sent, result, this.#isLast())
    outbox.putBack(result.unsent)
    this.#conclude(result)
    if (result.limit >= capacity.limit && claims.hasBacklog) this.#wakeSibling()
  }

  /** Whether the run ends with this turn if that claims nothing. */
  #isLast(): boolean {
    const { isIdle, options } = this.#parts
    return options.whenIdle === 'leave-quietly' && this.#count === 1 && isIdle()
  }

  /** For how long the run waits if this turn finds that nothing is due now; undefined if the run goes on anyway. */
  #lingerMs(limit: number): number | undefined {
    const { claims, isIdle, options } = this.#parts
    const { config, deadline, lingerSeconds = 0, whenIdle } = options
    if (whenIdle !== 'leave' || limit === 0 || this.#count > 1 || !claims.isLastLook || !isIdle())
      return undefined
    const lingerMs = Math.min(lingerSeconds * 1000, deadline.claimUntilMs - config.clock.now() - 1)
    return lingerMs > 0 ? lingerMs : undefined
  }

  /** Settles one outcome of the keyed lane in a call of its own. Never rejects; resolves to whether it was sent. */
  async settleKeyed(ended: Ended): Promise<boolean> {
    const request = { ended: [ended], limit: 0, watch: [], ranges: [] }
    const result = await this.#parts.turns.take(request).catch(asFailure)
    if ('error' in result) await this.#fail(result.error, false)
    else this.#conclude(result)
    return !('error' in result) && result.unsent.length === 0
  }

  /** Reads back what a claim with a lost answer took. */
  async recover(): Promise<void> {
    const { active, isIdle, report, turns } = this.#parts
    try {
      const recovered = await turns.recover()
      report.claimed(recovered)
      active.receive(recovered)
    } catch (error) {
      await this.#fail(error, isIdle())
    }
  }

  #conclude(result: TurnResult): void {
    const { active, claims, options, report } = this.#parts
    report.turn(result)
    // A call that did not claim may have made tasks due: they are still to be found, here or by a successor.
    if (result.limit === 0 && result.settled.some(makesDue)) claims.recheck()
    active.stop('cancelled', result.cancel)
    // Of children: new work.
    if (result.wake.length > 0) void options.config.wakes.wake(result.wake)
    active.receive(result.claimed)
  }

  /** For a backlog larger than one invocation can hold: one more runner, which may wake the next. */
  #wakeSibling(): void {
    const { config, queues, whenIdle, hops } = this.#parts.options
    if (whenIdle !== 'leave' || this.#hasWokenSibling) return
    this.#hasWokenSibling = true
    void config.wakes.wakeNext(queues, hops)
  }

  async #fail(error: unknown, carriedNothing: boolean): Promise<void> {
    const { claims, isIdle, leaving, options, stopClaiming } = this.#parts
    if (options.whenIdle !== 'stay' && carriedNothing && isIdle()) {
      if (options.whenIdle === 'leave' && claims.isLastLook) {
        options.config.log.warn('a runner leaves without a last look for due tasks', {
          error: readableMessage(error),
        })
        stopClaiming()
        return
      }
      // An invocation that holds nothing fails visibly. Outcomes are kept for another try, whatever the error was.
      this.#fatal ??= { error }
      return
    }
    const { clock, log } = options.config
    log.error('a turn failed and is tried again', { error: readableMessage(error) })
    await pause(clock, troublePauseMs, leaving.aborted ? undefined : leaving)
  }
}

const asFailure = (error: unknown) => ({ error })
