// A runner that stays: on a server, in a test, in a development process. Works in terms, since nothing kills it.
/// <reference lib="esnext.disposable" preserve="true" />
import * as z from 'zod/mini'
import { configOf, type Configured, type ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import type { AnyJob } from '../job/job.ts'
import { checkOptions, intFrom, nameSchema, numberFrom } from '../options.ts'
import { tick } from '../scheduler/tick.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { anyQueue } from '../wake/wakes.ts'
import { deadlineAfter, jobsOf, longestTimeout } from './deadline.ts'
import { warnOfMissingHandlers } from './report.ts'
import { Capacity } from './capacity.ts'
import type { Run } from './run.ts'
import { startRun } from './runner.ts'
import { readableMessage } from '../errors.ts'

/** Options of `startRunner`. */
export interface RunnerOptions {
  /** The queues to work on; empty for all. @default [] */
  queues?: readonly string[] | undefined
  /** Handlers at once in this process, 1 to 10,000. @default 10 */
  concurrency?: number | undefined
  /** Whether this process also syncs the schedules and turns their slots into tasks. @default false */
  scheduler?: boolean | undefined
  /** Seconds between two looks for due tasks, in addition to wakes; 0.1 to 3600. @default 2 */
  pollSeconds?: number | undefined
  /**
   * How long a lease of this process lasts, 30 to 86,400, and at least twice the longest timeout of its queues' jobs. When the
   * process crashes its tasks run again once the lease has ended: shorter is sooner, for a little more work.
   * @default 900
   */
  termSeconds?: number | undefined
  /**
   * Called when a handler ignores its signal past the grace time. JavaScript cannot end the handler: it takes one of the
   * `concurrency` places until it ends, and the runner goes on with the others.
   * @default an error is logged
   */
  onStuck?: ((task: { readonly id: string; readonly job: string }) => void) | undefined
  /**
   * When a handler is stuck, claims nothing more, and ends the process with code 1 when everything else has been settled.
   * For a process that does nothing else, under a supervisor that starts it again.
   * @default false
   */
  exitWhenStuck?: boolean | undefined
}

/** A runner in this process. */
export interface Runner {
  /**
   * False while a handler of this runner ignores its signal and still runs. It takes one of the `concurrency` places, and
   * the runner goes on with the others; it is true again when the handler has ended. Each change is an event,
   * `runner.health`. A supervisor may start the process again at a good moment; nothing is lost without it.
   *
   * @example
   * ```ts
   * app.get('/ready', (_, response) => response.status(runner.healthy ? 200 : 503).end())
   * ```
   */
  readonly healthy: boolean
  /**
   * Claims nothing more, waits up to `timeoutSeconds` for what runs, then aborts it; what stops is handed back.
   * @param options timeoutSeconds from 0 to 86,400, default 30
   * @throws {OptionError} when it is out of its range.
   */
  stop(options?: { timeoutSeconds?: number }): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const runnerOptions = z.strictObject({
  queues: z._default(z.array(nameSchema), []),
  concurrency: z._default(intFrom(1, 10_000), defaults.runner.concurrency),
  scheduler: z._default(z.boolean(), false),
  pollSeconds: z._default(numberFrom(0.1, 3600), defaults.server.pollSeconds),
  termSeconds: z._default(numberFrom(30, 86_400), defaults.server.termSeconds),
  onStuck: z.optional(
    z
      .custom<NonNullable<RunnerOptions['onStuck']>>((value) => typeof value === 'function')
      .check(z.describe('a function')),
  ),
  exitWhenStuck: z._default(z.boolean(), false),
})
const stopOptions = z.strictObject({
  timeoutSeconds: z._default(numberFrom(0, 86_400), defaults.server.stopSeconds),
})

/**
 * Starts a runner in this process: on a server, in a container, in development. Several may run side by side, here
 * and elsewhere.
 *
 * @throws {OptionError} when an option is unknown or out of its range.
 *
 * @example
 * ```ts
 * const runner = startRunner(izta, { concurrency: 20, scheduler: true })
 * process.once('SIGTERM', () => void runner.stop())
 * ```
 */
export function startRunner(izta: Configured, options: RunnerOptions = {}): Runner {
  return new ServerRunner(configOf(izta), checkOptions('startRunner', runnerOptions, options))
}

type CheckedOptions = z.output<typeof runnerOptions>

class ServerRunner implements Runner {
  readonly #config: ResolvedConfig
  readonly #options: CheckedOptions
  /** Those of the runner's own queues. */
  readonly #jobs: readonly AnyJob[]
  readonly #capacity: Capacity
  readonly #termSeconds: number
  /** The current term, and those that drain. */
  readonly #runs = new Set<Run>()
  /** Cancel what is to happen later. */
  readonly #timers = new Set<() => void>()
  readonly #unsubscribe: () => void
  readonly #stopListening: () => Promise<void>
  /** A handler is stuck, and the process ends when everything else has been settled. */
  #isExiting = false
  /** How many handlers were stuck when `runner.health` was last sent. */
  #stuckTold = 0
  #isStopping = false
  /** The tick of the scheduler that runs. */
  #ticking: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  /** Bound, because applications pass it on as a callback. */
  readonly stop: Runner['stop'] = async (given = {}) => {
    const { timeoutSeconds } = checkOptions('stop', stopOptions, given)
    return (this.#stopped ??= this.#stopAll(timeoutSeconds))
  }

  constructor(config: ResolvedConfig, options: CheckedOptions) {
    this.#config = config
    this.#options = options
    warnOfMissingHandlers(config)
    this.#capacity = new Capacity(options.concurrency)
    this.#capacity.onChange(() => this.#tellHealth())
    this.#jobs = jobsOf(config.jobs.values(), options.queues)
    this.#termSeconds = Math.max(options.termSeconds, 2 * (longestTimeout(this.#jobs)?.timeoutSeconds ?? 0))
    const wake = (queue: string) => {
      const { queues } = options
      if (queues.length === 0 || queue === anyQueue || queues.includes(queue)) this.#recheck()
    }
    this.#unsubscribe = config.wakes.subscribe({ wake })
    if (options.scheduler) this.#startTick()
    // After an outage the tick decides which slots are too late to run: it comes before the first claim.
    if (this.#ticking === undefined) this.#startTerm()
    else void this.#ticking.then(() => this.#isStopping || this.#startTerm())
    this.#stopListening = config.wakes.listen(wake)
    this.#after(options.pollSeconds * 1000, () => this.#poll())
  }

  get healthy(): boolean {
    return this.#capacity.stuck.size === 0
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  /** A term that has too little time left to claim drains while the next one works. */
  #startTerm(): void {
    if (this.#isExiting) return
    const { clock } = this.#config
    const deadline = deadlineAfter(clock, this.#termSeconds * 1000, this.#jobs)
    const run = startRun({
      config: this.#config,
      queues: this.#options.queues,
      capacity: this.#capacity,
      deadline,
      whenIdle: 'stay',
      hops: 0,
      onStuck: (task) => this.#reportStuck(task),
    })
    this.#runs.add(run)
    const cancelNext = this.#after(deadline.claimUntilMs - clock.now(), () => this.#startTerm())
    run.done
      .catch((error: unknown) => {
        this.#config.log.error('a term of the runner failed', { error: readableMessage(error) })
        // Instead of the term that would have followed it, much later.
        cancelNext()
        this.#after(defaults.runner.troublePauseMs, () => this.#startTerm())
      })
      .finally(() => {
        this.#runs.delete(run)
        if (this.#isExiting && this.#runs.size === 0) process.exit(1)
      })
  }

  #reportStuck(task: ClaimedTask): void {
    if (this.#options.exitWhenStuck) {
      this.#isExiting = true
      for (const run of this.#runs) run.drain()
    }
    try {
      this.#options.onStuck?.({ id: task.id, job: task.job })
    } catch (error) {
      this.#config.log.error('onStuck threw', { error: readableMessage(error) })
    }
  }

  #tellHealth(): void {
    const stuck = this.#capacity.stuck.size
    if (stuck === this.#stuckTold) return
    this.#stuckTold = stuck
    this.#config.events.emit('runner.health', {
      healthy: this.healthy,
      stuck,
      concurrency: this.#capacity.limit,
    })
  }

  /** Calls back after `ms` unless the runner stops first; returns what takes that back. */
  #after(ms: number, action: () => void): () => void {
    if (this.#isStopping) return () => {}
    const cancelTimer = this.#config.clock.after(ms, () => {
      this.#timers.delete(cancel)
      action()
    })
    const cancel = () => {
      this.#timers.delete(cancel)
      cancelTimer()
    }
    this.#timers.add(cancel)
    return cancel
  }

  #recheck(): void {
    for (const run of this.#runs) run.recheck()
  }

  #poll(): void {
    this.#recheck()
    this.#after(this.#options.pollSeconds * 1000, () => this.#poll())
  }

  #startTick(): void {
    this.#ticking = this.#tick()
  }

  async #tick(): Promise<void> {
    try {
      await tick(this.#config)
    } catch (error) {
      this.#config.log.error('a tick of the scheduler failed and is tried again', {
        error: readableMessage(error),
      })
    }
    this.#recheck()
    this.#after(defaults.server.tickSeconds * 1000, () => this.#startTick())
  }

  async #stopAll(timeoutSeconds: number): Promise<void> {
    const { clock } = this.#config
    this.#isStopping = true
    this.#unsubscribe()
    for (const cancel of this.#timers) cancel()
    const runs = [...this.#runs]
    for (const run of runs) run.drain()
    const cancelStop = clock.after(timeoutSeconds * 1000, () => {
      for (const run of runs) run.stopRunning('stopping')
    })
    const cancelLeave = clock.after((timeoutSeconds + defaults.runner.graceSeconds) * 1000, () => {
      for (const run of runs) run.leave()
    })
    await Promise.allSettled([this.#ticking, this.#stopListening(), ...runs.map((run) => run.done)])
    cancelStop()
    cancelLeave()
  }
}
