// The outcomes of a run, and the failures that are stored with them.
import { defaults } from '../defaults.ts'
import type { AnyJob } from '../job/job.ts'
import { retryDelayMs } from '../job/retry.ts'
import type { NewTask } from '../job/prepare.ts'
import type { ClaimedTask, Outcome } from '../store/turn.ts'
import { type FailureCode, IztaError, readableMessage } from '../errors.ts'

/** Why an attempt failed. */
export interface Failure {
  readonly code: FailureCode
  readonly message: string
  readonly class: string
  readonly stack?: string | undefined
  /** JSON text of the declared error. */
  readonly declared?: string | undefined
  readonly retry?: boolean | undefined
  readonly retryAfterSeconds?: number | undefined
}

/** A task whose run is over here, and the outcome to be sent. */
export interface Ended {
  readonly task: ClaimedTask
  readonly outcome: Outcome
  readonly failure?: Failure | undefined
  /** Why a deferred task cannot run here now. */
  readonly reason?: string | undefined
}

/** Whether settling it makes a task due at once: the same task, or a child. */
export function makesDue({ outcome }: Ended): boolean {
  if (outcome.kind === 'finish') return outcome.children.length > 0
  return outcome.kind === 'release' || (outcome.kind === 'retry' && outcome.delayMs === 0)
}

/** Whether something may wait for its settle: a caller for the key, or the caller of a cancellation. */
export function isUrgent({ task, outcome }: Ended): boolean {
  return task.key !== undefined || outcome.kind === 'cancel'
}

/** Messages of users' schemas and declarations may quote payloads and results: those stay in the database. */
const quotable: ReadonlySet<FailureCode> = new Set<FailureCode>([
  'thrown',
  'timeout',
  'too-many-children',
  'children-too-large',
  'lost',
  'skipped',
])

/** The part of a failure that logs and traces may carry. */
export function quoted(
  { code, class: className, message, stack }: Failure,
  logMessages: boolean,
): Pick<Failure, 'code' | 'class'> & { readonly message?: string; readonly stack?: string } {
  const facts = { code, class: className }
  if (!logMessages || !quotable.has(code)) return facts
  return { ...facts, message, ...(stack === undefined ? {} : { stack }) }
}

interface OutcomeFacts {
  readonly body?: string | null
  readonly failure?: Failure
  readonly delayMs?: number
  readonly children?: readonly NewTask[]
}

/** The end of a run, with the job's retention; tasks of unknown jobs keep the default. */
export function settle(
  task: ClaimedTask,
  job: AnyJob | undefined,
  kind: Outcome['kind'],
  { body = null, failure, delayMs = 0, children = [] }: OutcomeFacts = {},
): Ended {
  const failedSeconds = job?.retention.failedSeconds ?? defaults.retention.failedDays * 86_400
  const keepSeconds = kind === 'finish' ? (job?.retention.finishedSeconds ?? 0) : failedSeconds
  return {
    task,
    outcome: { id: task.id, claims: task.claims, kind, body, delayMs, keepSeconds, children },
    failure,
  }
}

/** A failed attempt: another one after the backoff, or the end. */
export function failed(
  task: ClaimedTask,
  job: AnyJob,
  failure: Failure,
  retryKind: 'retry' | 'retry-after-lease' = 'retry',
): Ended {
  const attempt = task.attempt + 1
  const { retry, retryAfterSeconds } = failure
  const facts = { failure: shortened(failure), body: errorBody(failure, attempt) }
  if (retry === false || attempt >= task.maxAttempts) return settle(task, job, 'fail', facts)
  const delayMs =
    retryAfterSeconds === undefined
      ? retryDelayMs(job.backoff, attempt, Math.random)
      : retryAfterSeconds * 1000
  return settle(task, job, retryKind, { ...facts, delayMs })
}

/** A failed task whose handler was not to blame, or never ran: no attempt counts. */
export function dropped(task: ClaimedTask, job: AnyJob | undefined, failure: Failure): Ended {
  return settle(task, job, 'drop', { failure: shortened(failure), body: errorBody(failure, 0) })
}

/** The stored entry; the database adds the instant. */
export function errorBody(failure: Failure, attempt: number): string {
  const { code, class: className, message, stack } = shortened(failure)
  const entry = JSON.stringify({ code, attempt, class: className, message, stack })
  return failure.declared === undefined ? entry : `${entry.slice(0, -1)},"error":${failure.declared}}`
}

const textLimit = 8192
const classLimit = 200
const shorten = (text: string, limit: number) => (text.length > limit ? `${text.slice(0, limit)}…` : text)

/** Anything of any size can be thrown, and 25 entries of it travel with every read of the task. */
function shortened(failure: Failure): Failure {
  return {
    ...failure,
    class: shorten(failure.class, classLimit),
    message: shorten(failure.message, textLimit),
    stack: failure.stack === undefined ? undefined : shorten(failure.stack, textLimit),
  }
}

/** Describes anything that was thrown; never throws itself. */
export function describeThrown(thrown: unknown): Failure {
  const message = readableMessage(thrown)
  try {
    if (thrown instanceof Error) {
      const stack = String(thrown.stack ?? message)
      return { code: codeOf(thrown), class: classOf(thrown), message, stack }
    }
  } catch {
    // A getter of the error throws: the message must do.
  }
  return { code: 'thrown', class: thrown === null ? 'null' : typeof thrown, message }
}

/** Limits of `ctx.enqueue` keep their code. */
function codeOf(thrown: Error): FailureCode {
  const code = IztaError.is(thrown) ? thrown.code : undefined
  return code === 'too-many-children' || code === 'children-too-large' ? code : 'thrown'
}

/** A class that sets no name has that of a class of JavaScript, and then the constructor knows better. */
function classOf(thrown: Error): string {
  const name = String(thrown.name)
  const made: unknown = thrown.constructor?.name
  return inheritedNames.has(name) && typeof made === 'string' && made !== '' ? made : name
}

const inheritedNames: ReadonlySet<string> = new Set([
  'Error',
  'AggregateError',
  'EvalError',
  'RangeError',
  'ReferenceError',
  'SyntaxError',
  'TypeError',
  'URIError',
])
