// Runs in a test what is due, and returns when nothing is.
import * as z from 'zod/mini'
import { configOf, type Configured } from '../config.ts'
import { defaults } from '../defaults.ts'
import { IztaError } from '../errors.ts'
import { checkOptions, intFrom, nameSchema } from '../options.ts'
import { deadlineAfter, longestTimeout } from '../runner/deadline.ts'
import { Capacity } from '../runner/capacity.ts'
import type { RunSummary } from '../runner/report.ts'
import { startRun } from '../runner/runner.ts'
import { tick } from '../scheduler/tick.ts'

/** What `drain` takes. */
export interface DrainOptions {
  /** @default [] (all) */
  queues?: readonly string[] | undefined
  /** Handlers at once, 1 to 10,000. @default 10 */
  concurrency?: number | undefined
  /** Whether to turn due slots into tasks first. @default false */
  schedules?: boolean | undefined
}

const drainOptions = z.strictObject({
  queues: z._default(z.array(nameSchema), []),
  concurrency: z._default(intFrom(1, 10_000), defaults.runner.concurrency),
  schedules: z._default(z.boolean(), false),
})

/**
 * Runs every due task, and those they enqueue, until nothing is due, however long that takes. Tasks of the future,
 * retries after a delay included, stay: move the clock and drain again.
 *
 * @throws {OptionError} when an option is unknown or out of its range.
 * @throws {IztaError} `drain-stuck` when handlers ignore their signals, so that work is left.
 *
 * @example
 * ```ts
 * await izta.enqueue(divide, { numerator: 1, denominator: 2 })
 * const { finished } = await drain(izta)
 * ```
 */
export async function drain(izta: Configured, options: DrainOptions = {}): Promise<RunSummary> {
  const config = configOf(izta)
  const { queues, concurrency, schedules } = checkOptions('drain', drainOptions, options)
  if (schedules) await tick(config)
  const longestSeconds = longestTimeout(config.jobs.values())?.timeoutSeconds ?? 0
  const capacity = new Capacity(concurrency)
  let summary: RunSummary | undefined
  do {
    const deadline = deadlineAfter(config.clock, (2 * longestSeconds + 60) * 1000, config.jobs.values())
    const run = startRun({ config, queues, capacity, deadline, whenIdle: 'leave-quietly', hops: 0 })
    summary = added(summary, await run.done)
    refuseStuck(summary)
  } while (summary.more)
  return summary
}

/** Both runs as one. */
function added(before: RunSummary | undefined, run: RunSummary): RunSummary {
  if (before === undefined) return run
  return {
    claimed: before.claimed + run.claimed,
    finished: before.finished + run.finished,
    failed: before.failed + run.failed,
    retried: before.retried + run.retried,
    released: before.released + run.released,
    cancelled: before.cancelled + run.cancelled,
    stuck: run.stuck,
    more: run.more,
  }
}

function refuseStuck({ stuck }: RunSummary): void {
  if (stuck.length === 0) return
  throw new IztaError(
    'drain-stuck',
    `drain: the handlers of tasks ${stuck.join(', ')} have not ended after their timeout and signal, so work is left: let them stop when ctx.signal aborts.`,
  )
}
