// The scheduler function: one tick an invocation.
import { configOf, type Configured } from '../config.ts'
import { tick, type TickSummary } from '../scheduler.ts'

/** What `createSchedulerHandler` takes. */
export interface SchedulerHandlerOptions {
  readonly izta: Configured
}

/** Takes any event: a tick needs no input. */
export type SchedulerHandler = (event?: unknown, context?: unknown) => Promise<TickSummary>

/**
 * The handler that syncs the schedules of the code, makes tasks of slots, wakes runners of queues with due tasks and
 * prunes the history. Invoke it every minute; twice at once does no harm.
 *
 * @throws {DatabaseError} from the handler, after every step has been tried: the next tick repeats it.
 *
 * @example
 * ```ts
 * export const handler = createSchedulerHandler({ izta })
 * ```
 */
export function createSchedulerHandler({ izta }: SchedulerHandlerOptions): SchedulerHandler {
  const config = configOf(izta)
  return async () => {
    try {
      return await tick(config)
    } finally {
      await config.wakes.settled()
    }
  }
}
