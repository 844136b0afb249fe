// The reasons for which a running handler is told to stop.
import { IztaError } from '../errors.ts'
import type { Failure } from './outcome.ts'

/** The reason of the handler's signal carries it as its `code`. */
export type StopReason = 'timeout' | 'deadline' | 'cancelled' | 'stopping'

const messages: Record<StopReason, string> = {
  timeout: 'The attempt has run longer than timeoutSeconds.',
  deadline: 'The invocation is about to end; the task is handed back.',
  cancelled: 'The task was cancelled.',
  stopping: 'The runner is stopping; the task is handed back.',
}

/** The reason that an aborted signal gives. */
export const stopError = (reason: StopReason) => new IztaError(reason, messages[reason])

/** The failure of an attempt that ran longer than its timeout. */
export const timeoutFailure: Failure = { code: 'timeout', class: 'TimeoutError', message: messages.timeout }
