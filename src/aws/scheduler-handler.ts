// The scheduler function: one tick an invocation, and in sleepy mode the alarm for the next.
import type { Context } from 'aws-lambda'
import * as z from 'zod/mini'
import { configOf, type Configured } from '../config.ts'
import { defaults } from '../defaults.ts'
import { checkOptions, numberFrom } from '../options.ts'
import { tick, type TickSummary } from '../scheduler/tick.ts'
import type { Alarm } from '../wake/wakes.ts'
import { alarmSchema, armNext } from '../wake/alarm.ts'
import {
  hopsOf,
  runInvocation,
  withinInvocation,
  type InvocationContext,
  type UnusedCallback,
} from './invocation.ts'
import { collectMetrics, metricsSchema, type MetricsOption } from './metrics.ts'

/** What `createSchedulerHandler` takes. */
export interface SchedulerHandlerOptions {
  readonly izta: Configured
  /**
   * How long runners wait for a task that is due soon, as their own `lingerSeconds` says: queues whose next task is due
   * within it get a runner already. 0 to 900. @default 60
   */
  readonly lingerSeconds?: number | undefined
  /**
   * Sleepy mode: each invocation sets the alarm for the next, instead of ticks. `alarmWake(…)`.
   * @default none
   */
  readonly alarm?: Alarm | undefined
  /**
   * Which metrics each invocation writes to its log: all, the few that alarms need, or none. docs/telemetry.md lists them.
   * @default 'few' in Lambda, else false
   */
  readonly metrics?: MetricsOption | undefined
}

/** Takes any event: a tick needs no input. Fits `ScheduledHandler` of `aws-lambda`. */
export interface SchedulerHandler {
  (event?: unknown, context?: InvocationContext): Promise<TickSummary>
  (event: unknown, context: Context, callback: UnusedCallback): Promise<void>
}

const schedulerHandlerOptions = z.strictObject({
  izta: z.custom<Configured>().check(z.describe('what createIzta returns')),
  lingerSeconds: z._default(numberFrom(0, 900), defaults.runner.lingerSeconds),
  alarm: alarmSchema,
  metrics: metricsSchema,
})

/**
 * The handler that syncs the schedules of the code, makes tasks of slots, wakes runners of queues with due tasks and
 * prunes the history. Invoke it every minute, or give it an alarm; twice at once does no harm.
 *
 * @throws {OptionError} when an option is unknown or out of its range.
 * @throws {DatabaseError} from the handler, after every step has been tried: the next tick repeats it.
 * @throws {AwsError} from the handler, when the next alarm cannot be set: invoke it again.
 *
 * @example
 * ```ts
 * export const handler = createSchedulerHandler({ izta })
 * ```
 */
export function createSchedulerHandler(options: SchedulerHandlerOptions): SchedulerHandler {
  const given = checkOptions('createSchedulerHandler', schedulerHandlerOptions, options)
  const { izta, lingerSeconds, alarm } = given
  const config = configOf(izta)
  const metrics = collectMetrics(config, given.metrics)
  const once = async (hops: number | undefined, context: InvocationContext | undefined) => {
    const own = withinInvocation(config, context)
    try {
      return await tick(own, { aheadSeconds: lingerSeconds, hops })
    } finally {
      // Also after a failure: the alarm is all that comes next.
      if (alarm !== undefined) await armNext(own, alarm, { trustsRecord: false })
      await config.wakes.settled()
    }
  }
  const handler = (event?: unknown, context?: InvocationContext) =>
    runInvocation(context, metrics, () => once(hopsOf(event), context))
  return handler as SchedulerHandler
}
