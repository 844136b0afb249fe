// A runner that stays: on a server, in a test, in a development process. Works in terms, since nothing kills it.
/// <reference lib="esnext.disposable" preserve="true" />
import * as z from 'zod/mini'
import { configOf, type Configured } from '../config.ts'
import { defaults } from '../defaults.ts'
import { checkOptions, intFrom, nameSchema, numberFrom } from '../options.ts'
import { tick } from '../scheduler/tick.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { anyQueue } from '../wake/wakes.ts'
import { deadlineAfter, longestTimeout } from './deadline.ts'
import { warnOfMissingHandlers } from './report.ts'
import { createPlaces } from './capacity.ts'
import { startRun, type Run } from './runner.ts'
import { readableMessage } from '../errors.ts'

/** What `startRunner` takes. */
export interface RunnerOptions {
  /** The queues to work on; empty for all. @default [] */
  queues?: readonly string[] | undefined
  /** Handlers at once in this process, 1 to 10,000. @default 10 */
  concurrency?: number | undefined
  /** Whether this process also syncs the schedules and turns their slots into tasks. @default false */
  scheduler?: boolean | undefined
  /** Beside wakes, looks for due tasks so often; 0.1 to 3600 seconds. @default 2 */
  pollSeconds?: number | undefined
  /**
   * How long a lease of this process lasts, 30 to 86,400, and at least twice the longest timeout of its jobs. When the
   * process crashes its tasks run again once the lease has ended: shorter is sooner, for a little more work.
   * @default 900
   */
  termSeconds?: number | undefined
  /**
   * Called when a handler ignores its signal past the grace time. The runner claims nothing more then: stop the
   * process and start it anew, since JavaScript cannot end the handler.
   * @default an error is logged
   */
  onStuck?: ((task: { readonly id: string; readonly job: string }) => void) | undefined
  /** Ends the process with code 1 when a handler is stuck and everything else has been settled. @default false */
  exitWhenStuck?: boolean | undefined
}

/** A runner in this process. */
export interface Runner {
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
  const config = configOf(izta)
  const checked = checkOptions('startRunner', runnerOptions, options)
  const { queues, concurrency, scheduler, pollSeconds, onStuck, exitWhenStuck } = checked
  warnOfMissingHandlers(config)
  const { clock, log } = config
  const places = createPlaces(concurrency)
  const termSeconds = Math.max(
    checked.termSeconds,
    2 * (longestTimeout(config.jobs.values())?.timeoutSeconds ?? 0),
  )
  const runs = new Set<Run>()
  const timers = new Set<() => void>()
  let stopping = false
  let stuck = false
  let ticking: Promise<void> | undefined

  /** A term whose time is too short to claim is drained while the next one works. */
  function startTerm(): void {
    if (stuck) return
    const deadline = deadlineAfter(clock, termSeconds * 1000, config.jobs.values())
    const run = startRun({
      config,
      queues,
      places,
      deadline,
      whenIdle: 'stay',
      hops: 0,
      onStuck: reportStuck,
    })
    const cancelNext = after(deadline.claimUntilMs - clock.now(), startTerm)
    runs.add(run)
    run.done
      .catch((error: unknown) => {
        log.error('a term of the runner failed', { error: readableMessage(error) })
        // Instead of the one that would have followed it, much later.
        cancelNext()
        after(defaults.runner.troublePauseMs, startTerm)
      })
      .finally(() => {
        runs.delete(run)
        if (stuck && runs.size === 0 && exitWhenStuck) process.exit(1)
      })
  }

  function reportStuck(task: ClaimedTask): void {
    stuck = true
    for (const run of runs) run.drain()
    try {
      onStuck?.({ id: task.id, job: task.job })
    } catch (error) {
      log.error('onStuck threw', { error: readableMessage(error) })
    }
  }

  function after(ms: number, action: () => void): () => void {
    if (stopping) return () => {}
    const cancelTimer = clock.after(ms, () => {
      timers.delete(cancel)
      action()
    })
    const cancel = () => {
      timers.delete(cancel)
      cancelTimer()
    }
    timers.add(cancel)
    return cancel
  }

  function look(): void {
    for (const run of runs) run.look()
  }
  function poll(): void {
    look()
    after(pollSeconds * 1000, poll)
  }
  async function tickAgain(): Promise<void> {
    try {
      await tick(config)
    } catch (error) {
      log.error('a tick of the scheduler failed and is tried again', { error: readableMessage(error) })
    }
    look()
    after(defaults.server.tickSeconds * 1000, startTick)
  }
  function startTick(): void {
    ticking = tickAgain()
  }

  function wake(queue: string): void {
    if (queues.length === 0 || queue === anyQueue || queues.includes(queue)) look()
  }

  const unsubscribe = config.wakes.subscribe({ wake })
  startTerm()
  const stopListening = config.wakes.listen(wake)
  after(pollSeconds * 1000, poll)
  if (scheduler) startTick()

  async function stopAll(timeoutSeconds: number): Promise<void> {
    stopping = true
    unsubscribe()
    for (const cancel of timers) cancel()
    const all = [...runs]
    for (const run of all) run.drain()
    const cancelStop = clock.after(timeoutSeconds * 1000, () => {
      for (const run of all) run.stopRunning('stopping')
    })
    const cancelLeave = clock.after((timeoutSeconds + defaults.runner.graceSeconds) * 1000, () => {
      for (const run of all) run.leave()
    })
    await Promise.allSettled([ticking, stopListening(), ...all.map((run) => run.done)])
    cancelStop()
    cancelLeave()
  }
  let stopped: Promise<void> | undefined
  const stop: Runner['stop'] = async (given = {}) => {
    const { timeoutSeconds } = checkOptions('stop', stopOptions, given)
    return (stopped ??= stopAll(timeoutSeconds))
  }

  return { stop, [Symbol.asyncDispose]: () => stop() }
}
