// Every error izta throws: one base class with a literal code, and a subclass where callers act differently.

/** One thing that is wrong with an input: where it is and why. `index` is the position in a bulk call, from 0. */
export interface InputIssue {
  readonly index?: number
  /** Dotted path inside the value, `''` for the value itself. */
  readonly path: string
  readonly code: string
  readonly message: string
}

/**
 * The base of every error izta throws. `code` is stable and meant for programs, `message` says what happened,
 * the value it happened with and what to do.
 *
 * Use `IztaError.is(error)` instead of `instanceof`: it also holds across two bundled copies of izta.
 *
 * @example
 * ```ts
 * try {
 *   await izta.enqueue(divide, { numerator: 1, denominator: 2 })
 * } catch (error) {
 *   if (IztaError.is(error) && error.retryable) console.log('try again later:', error.code)
 *   else throw error
 * }
 * ```
 */
export class IztaError extends Error {
  override readonly name: string = 'IztaError'
  readonly code: string
  /** Whether the same call can succeed later without a change. */
  readonly retryable: boolean

  constructor(code: string, message: string, options: { cause?: unknown; retryable?: boolean } = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined)
    this.code = code
    this.retryable = options.retryable ?? false
    Object.defineProperty(this, brand, { value: true })
  }

  /** Whether a value is an error of izta, also one from another copy of the package. */
  static is(error: unknown): error is IztaError {
    return typeof error === 'object' && error !== null && brand in error
  }
}

const brand = Symbol.for('izta.error')

/** A job, a schedule or the izta instance was defined wrongly; thrown where it is defined. */
export class DefinitionError extends IztaError {
  override readonly name = 'DefinitionError'
  constructor(message: string, options: { cause?: unknown } = {}) {
    super('invalid-definition', message, options)
  }
}

/** An option of a call is unknown or out of its range; nothing was sent. */
export class OptionError extends IztaError {
  override readonly name = 'OptionError'
  /** The option's name, dotted when nested. */
  readonly option: string
  /** Position in a bulk call, from 0. */
  readonly index: number | undefined
  constructor(option: string, message: string, index?: number) {
    super('invalid-option', index === undefined ? message : `Task ${index}: ${message}`)
    this.option = option
    this.index = index
  }
}

type PayloadErrorCode = 'payload-refused' | 'payload-not-json' | 'payload-too-large' | 'payloads-too-large'

/** A payload was refused by its schema, is not JSON or is too large, alone or with others; nothing was sent. */
export class PayloadError extends IztaError {
  override readonly name = 'PayloadError'
  declare readonly code: PayloadErrorCode
  readonly issues: readonly InputIssue[]
  /** Position in a bulk call, from 0. */
  readonly index: number | undefined
  constructor(
    code: PayloadErrorCode,
    message: string,
    issues: readonly InputIssue[],
    options: { index?: number | undefined; cause?: unknown } = {},
  ) {
    super(
      code,
      options.index === undefined ? message : `Task ${options.index}: ${message}`,
      'cause' in options ? { cause: options.cause } : {},
    )
    this.issues = issues
    this.index = options.index
  }
}

/** A task names a job that this izta instance does not have. */
export class UnknownJobError extends IztaError {
  override readonly name = 'UnknownJobError'
  readonly jobId: string
  /** Position in a bulk call, from 0. */
  readonly index: number | undefined
  constructor(jobId: string, message: string, index?: number) {
    super('unknown-job', index === undefined ? message : `Task ${index}: ${message}`)
    this.jobId = jobId
    this.index = index
  }
}

/** `get` or `wait` was called with the id of a task of another job. */
export class JobMismatchError extends IztaError {
  override readonly name = 'JobMismatchError'
  constructor(taskId: string, expected: string, got: string) {
    super(
      'job-mismatch',
      `Task ${taskId} belongs to job "${got}", not to "${expected}": pass the definition of "${got}".`,
    )
  }
}

/** `wait` gave up before the task ended; the task itself goes on. */
export class WaitTimeoutError extends IztaError {
  override readonly name = 'WaitTimeoutError'
  constructor(taskId: string, seconds: number, status: string) {
    super(
      'wait-timeout',
      `Task ${taskId} had not ended after ${seconds} s (status: ${status}): wait longer, or see that a runner works on its queue.`,
      { retryable: true },
    )
  }
}

/** The task's key belongs to another unfinished task by now. */
export class KeyTakenError extends IztaError {
  override readonly name = 'KeyTakenError'
  /** Id of the unfinished task that holds the key. */
  readonly holderId: string
  constructor(key: string, holderId: string) {
    super(
      'key-taken',
      `Key "${key}" is held by unfinished task ${holderId}: wait for it to end or cancel it.`,
    )
    this.holderId = holderId
  }
}

/** The operation does not fit the state of the task or schedule, for example `retry` of a finished task. */
export class StateError extends IztaError {
  override readonly name = 'StateError'
  constructor(code: string, message: string, options: { retryable?: boolean } = {}) {
    super(code, message, options)
  }
}

/** What the database did with a statement that failed: certainly nothing, or nobody knows. */
export type StatementOutcome = 'not-applied' | 'unknown'

/** A statement failed in the database. `sqlState` is absent when no answer came. */
export class DatabaseError extends IztaError {
  override readonly name: string = 'DatabaseError'
  readonly sqlState: string | undefined
  /** `unknown` means the answer was lost: the statement may have been applied. */
  readonly outcome: StatementOutcome
  constructor(
    code: string,
    message: string,
    options: {
      cause?: unknown
      retryable?: boolean
      sqlState?: string | undefined
      outcome?: StatementOutcome
    },
  ) {
    super(code, message, options)
    this.sqlState = options.sqlState
    this.outcome = options.outcome ?? 'not-applied'
  }
}

/** No connection, or it broke before the answer came. Retryable. */
export class DatabaseUnreachableError extends DatabaseError {
  override readonly name = 'DatabaseUnreachableError'
}

/** The database refused the user, the password or the privilege, or its TLS cannot be trusted. */
export class DatabaseAccessError extends DatabaseError {
  override readonly name = 'DatabaseAccessError'
}

/** The schema or one of its objects is missing: run `izta migrate`. */
export class NotMigratedError extends DatabaseError {
  override readonly name = 'NotMigratedError'
}

/** The schema was migrated by a newer izta that this version cannot work with: deploy the newer code. */
export class SchemaTooNewError extends DatabaseError {
  override readonly name = 'SchemaTooNewError'
}

/** The message of anything that can be thrown; never throws itself. */
export function readableMessage(thrown: unknown): string {
  try {
    if (thrown instanceof Error) return String(thrown.message)
    if (typeof thrown === 'string') return thrown
    return JSON.stringify(thrown) ?? String(thrown)
  } catch {
    return `a value of type ${typeof thrown} that cannot be printed`
  }
}

/**
 * Why an attempt, or the whole task, failed. `thrown`: the handler threw. `declared`: it called `ctx.fail`.
 * `timeout`: it ran too long. `result-refused`: what it returned cannot be stored. `too-many-children` and
 * `children-too-large`: it enqueued more than one call can carry. `lost`: its process died too often.
 * `payload-refused`: the stored payload does not fit today's schema. `skipped`: `overlap: 'skip'`.
 */
export type FailureCode =
  | 'thrown'
  | 'declared'
  | 'timeout'
  | 'result-refused'
  | 'too-many-children'
  | 'children-too-large'
  | 'lost'
  | 'payload-refused'
  | 'skipped'
