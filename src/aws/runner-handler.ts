// The runner function: each invocation works until nothing is due or the deadline is near.
import type { Context } from 'aws-lambda'
import * as z from 'zod/mini'
import { configOf, type Configured, type ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { checkOptions, intFrom, nameSchema, numberFrom } from '../options.ts'
import { deadlineAfter, jobsOf, type Deadline } from '../runner/deadline.ts'
import { type RunSummary, warnOfMissingHandlers } from '../runner/report.ts'
import { Capacity } from '../runner/capacity.ts'
import type { Run } from '../runner/run.ts'
import { startRun } from '../runner/runner.ts'
import { pruneHistory } from '../scheduler/prune.ts'
import type { Alarm } from '../wake/wakes.ts'
import { alarmSchema, armNext } from '../wake/alarm.ts'
import { hopsOf, runInvocation, type UnusedCallback } from './invocation.ts'
import { collectMetrics, metricsSchema, type MetricsOption } from './metrics.ts'
import { logUnhandledRejections } from './unhandled.ts'
import { readableMessage } from '../errors.ts'

/** What `createRunnerHandler` takes. */
export interface RunnerHandlerOptions {
  readonly izta: Configured
  /** The queues to work on; empty for all. @default [] */
  readonly queues?: readonly string[]
  /** Handlers at once in one invocation, 1 to 10,000. @default 10 */
  readonly concurrency?: number
  /**
   * Before it leaves, an invocation waits for a task of its queues that is due within these seconds, so that it starts
   * on time; one invocation a queue does. With less than the time between two ticks, tasks may start as late as the
   * next tick. 0 to 900; 0 turns it off. @default 60
   */
  readonly lingerSeconds?: number | undefined
  /**
   * Sleepy mode: a leaving invocation sets the alarm that starts what is due next. `alarmWake(…)`.
   * @default none: ticks find what is due
   */
  readonly alarm?: Alarm | undefined
  /**
   * Which metrics each invocation writes to its log: all, the few that alarms need, or none. docs/telemetry.md lists them.
   * @default 'few' in Lambda, else false
   */
  readonly metrics?: MetricsOption | undefined
  /**
   * Ends the process after everything has been settled, because a handler ignores its signal.
   * @default process.exit
   */
  readonly exit?: (code: number) => void
}

/** What wakes send; every other event is a trigger without a past. */
export interface RunnerEvent {
  readonly queue?: string
  /** How many runners have started each other before this one, for the same work. */
  readonly hops?: number
}

/** What a runner reads of Lambda's context. */
export type RunnerContext = Pick<Context, 'getRemainingTimeInMillis'> & Partial<Pick<Context, 'awsRequestId'>>

/** Takes any event. Fits `Handler` and `ScheduledHandler` of `aws-lambda`. */
export interface RunnerHandler {
  (event: unknown, context: RunnerContext): Promise<RunSummary>
  (event: unknown, context: Context, callback: UnusedCallback): Promise<void>
}

/** A handler and what only its host may do with it. */
export interface RunnerEnvironment {
  readonly handler: RunnerHandler
  /** Tells running handlers to stop; what stops within the grace time is handed back. */
  stop(): Promise<void>
}

const runnerHandlerOptions = z.strictObject({
  izta: z.custom<Configured>().check(z.describe('what createIzta returns')),
  queues: z._default(z.array(nameSchema), []),
  concurrency: z._default(intFrom(1, 10_000), defaults.runner.concurrency),
  lingerSeconds: z._default(numberFrom(0, 900), defaults.runner.lingerSeconds),
  alarm: alarmSchema,
  metrics: metricsSchema,
  exit: z._default(
    z.custom<(code: number) => void>((value) => typeof value === 'function', 'expected a function'),
    () => (code: number) => process.exit(code),
  ),
})

/**
 * The handler that claims due tasks, runs them and settles them, until nothing is due or the deadline is near. Any
 * number of invocations may run at once; a repeated, late or lost trigger costs time, never a task.
 *
 * A promise rejected outside a job's await is logged and blames no task.
 *
 * @throws {OptionError} when an option is unknown or out of its range.
 * @throws {DefinitionError} from the handler, when the timeout of a job of its queues does not fit into the function's.
 * @throws {DatabaseError} from the handler, when it holds no task and the database cannot be used.
 *
 * @example
 * ```ts
 * export const handler = createRunnerHandler({ izta, queues: ['default'], concurrency: 20 })
 * ```
 */
export function createRunnerHandler(options: RunnerHandlerOptions): RunnerHandler {
  const { handler } = createRunnerEnvironment(options)
  logUnhandledRejections(configOf(options.izta))
  return handler
}

export function createRunnerEnvironment(options: RunnerHandlerOptions): RunnerEnvironment {
  const given = checkOptions('createRunnerHandler', runnerHandlerOptions, options)
  const { izta, queues, concurrency, lingerSeconds, alarm, exit } = given
  const config = configOf(izta)
  const metrics = collectMetrics(config, given.metrics)
  const { clock, log, wakes } = config
  const prune = createPruning(config)
  const runs = new Set<Run>()
  const stuck = new Set<string>()
  const stopped = new AbortController()
  let capacity = new Capacity(concurrency)
  let hasWarned = false

  const stillAtWork = () => [...stuck].filter((id) => capacity.running.has(id))

  const handler = async (event: unknown, context: RunnerContext): Promise<RunSummary> => {
    if (!hasWarned) warnOfMissingHandlers(config)
    hasWarned = true
    const left = stillAtWork()
    if (left.length > 0) leaveProcess(left)
    if (left.length > 0 || stopped.signal.aborted) return { ...nothingDone, stuck: left }
    const jobs = jobsOf(config.jobs.values(), queues)
    const deadline = deadlineAfter(clock, context.getRemainingTimeInMillis(), jobs)
    const hops = hopsOf(event) ?? 0
    let claimed = true
    try {
      const summary = await work(deadline, hops)
      claimed = summary.claimed > 0
      if (claimed) await prune(deadline)
      log[claimed ? 'info' : 'debug']('a runner leaves', { ...summary })
      return summary
    } catch (error) {
      log.error('a runner failed: what it held runs again when its lease is over', {
        error: readableMessage(error),
      })
      throw error
    } finally {
      if (alarm !== undefined) await setAlarm(alarm, claimed, hops)
      // A wake that is still on its way would freeze with the process.
      await wakes.settled()
      // A handler that works on would thaw with the process, beside another run of its task.
      if (runs.size === 0) for (const id of capacity.running) stuck.add(id)
      const working = stillAtWork()
      if (runs.size === 0 && working.length > 0) leaveProcess(working)
    }
  }

  async function work(deadline: Deadline, hops: number): Promise<RunSummary> {
    if (runs.size === 0) capacity = new Capacity(concurrency)
    const onStuck = ({ id }: { id: string }) => {
      stuck.add(id)
      for (const other of runs) other.drain()
    }
    const run = startRun({
      config,
      queues,
      capacity,
      deadline,
      whenIdle: 'leave',
      lingerSeconds,
      hops,
      onStuck,
    })
    runs.add(run)
    try {
      return await run.done
    } finally {
      runs.delete(run)
    }
  }

  async function setAlarm(to: Alarm, hasClaimed: boolean, hops: number): Promise<void> {
    const checkSeconds = hasClaimed ? defaults.alarm.checkSeconds : undefined
    try {
      await armNext(config, to, { checkSeconds, trustsRecord: true })
    } catch (error) {
      log.error('the next alarm could not be set: the scheduler is woken to do it', {
        error: readableMessage(error),
      })
      await wakes.wakeAt(new Date(), hops)
    }
  }

  function leaveProcess(tasks: readonly string[]): void {
    log.error('handlers ignore their signals: the process ends, and claims nothing before', { tasks })
    metrics?.flush()
    exit(1)
  }

  return {
    handler: ((event: unknown, context: RunnerContext) =>
      runInvocation(context, metrics, () => handler(event, context))) as RunnerHandler,
    async stop() {
      stopped.abort()
      const all = [...runs]
      for (const run of all) {
        run.drain()
        run.stopRunning('stopping')
      }
      const cancel = clock.after(defaults.runner.graceSeconds * 1000, () => {
        for (const run of all) run.leave()
      })
      await Promise.allSettled(all.map((run) => run.done))
      cancel()
    },
  }
}

const nothingDone = { claimed: 0, finished: 0, failed: 0, retried: 0, released: 0, cancelled: 0, more: true }

const pruneMs = 3_600_000

/** A deployment without a scheduler must not keep its history for ever. */
function createPruning(config: ResolvedConfig): (deadline: Deadline) => Promise<void> {
  const { clock, log } = config
  let nextAtMs = -Infinity
  return async ({ leaveAtMs }) => {
    const now = clock.now()
    if (now < nextAtMs || now >= leaveAtMs) return
    nextAtMs = now + pruneMs
    try {
      await pruneHistory(config, Math.min(defaults.prune.runnerSeconds, (leaveAtMs - now) / 1000))
    } catch (error) {
      log.warn('the history was not pruned: a later run does it', { error: readableMessage(error) })
    }
  }
}
