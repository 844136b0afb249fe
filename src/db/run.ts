// Runs a statement again while the database is unreachable or busy, and knows when it may have run already.

import { backoffMs, pause, systemClock, type Clock } from '../clock.ts'
import { DatabaseError } from '../errors.ts'
import type { Row, Statement } from './database.ts'
import type { CallLimits } from './call-end.ts'
import type { GatedDatabase } from './gated.ts'
import { isDatabaseError } from './transient.ts'

export const repeatDefaults = { attempts: 5, pauses: { firstMs: 50, longestMs: 2_000 } } as const

export interface RepeatOptions {
  /** Tries in all. */
  readonly attempts?: number
  /** Throws a lock timeout at once: the caller has a better way than to wait again. @default false */
  readonly throwsLockTimeout?: boolean
  /** Ends the pauses and a statement in flight. */
  readonly signal?: AbortSignal | undefined
  /**
   * On the clock's scale, in place of the time of a call: the end of a lease. A statement is sent at least once, also
   * after it, since the lease may still be held.
   */
  readonly deadlineMs?: number
  /** Measures the pauses. A database needs real time to come back, also where a test has stopped the clock. */
  readonly pauseClock?: Clock
}

export interface RepeatedReply {
  readonly rows: Row[]
  /** An earlier try may have been applied, so the rows may tell of its effects. */
  readonly ambiguous: boolean
}

/**
 * `build(true)` makes the statement once an earlier try may have been applied. When the tries run out the error
 * with outcome `unknown` is thrown if there was one, because it still holds; a refusal after it gets that outcome too.
 */
export async function repeat(
  database: GatedDatabase,
  clock: Clock,
  build: (isRepeat: boolean) => Statement,
  options: RepeatOptions = {},
): Promise<RepeatedReply> {
  const {
    attempts = repeatDefaults.attempts,
    deadlineMs = Infinity,
    pauseClock = systemClock,
    throwsLockTimeout = false,
  } = options
  const limits = limitsOf(database, clock, options)
  const { signal } = limits
  let lost: DatabaseError | undefined
  let before: DatabaseError | undefined
  for (let attempt = 1; ; attempt++) {
    const ambiguous = lost !== undefined
    const triedAtMs = systemClock.now()
    try {
      return { rows: await database.query(built(build, ambiguous), limits), ambiguous }
    } catch (error) {
      if (!isDatabaseError(error)) throw error
      if (!error.retryable) throw ambiguous ? Object.assign(error, { outcome: 'unknown' }) : error
      if (throwsLockTimeout && error.code === 'lock-timeout') throw lost ?? error
      if (error.outcome === 'unknown') lost = error
      const pauseMs = backoffMs(attempt, repeatDefaults.pauses)
      // A try that waits for the same lock would have no answer in time.
      const waitMs = error.code === 'lock-timeout' ? systemClock.now() - triedAtMs : 0
      const isLast = attempt >= attempts || systemClock.now() + pauseMs + waitMs >= limits.untilMs
      if (isLast || clock.now() + pauseMs >= deadlineMs) {
        // A try for which no time was left says nothing; the one before it does.
        throw lost ?? (error.code === 'busy' ? before : undefined) ?? error
      }
      before = error
      await pause(pauseClock, pauseMs, signal)
      if (signal?.aborted === true) throw lost ?? error
    }
  }
}

/** What a statement after the lease's end gets to be answered. */
const leastMs = 2_000

function limitsOf(database: GatedDatabase, clock: Clock, { deadlineMs, signal }: RepeatOptions): CallLimits {
  const limits = database.limits()
  const untilMs =
    deadlineMs === undefined
      ? limits.untilMs
      : systemClock.now() + Math.max(leastMs, deadlineMs - clock.now())
  return { untilMs, signal: signal ?? limits.signal }
}

/** A statement whose text exceeds the longest string of JavaScript is refused like one that the database refuses. */
function built(build: (isRepeat: boolean) => Statement, isRepeat: boolean): Statement {
  try {
    return build(isRepeat)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    const message = `The values of a statement are too long for one string (${error.message}): send less at once.`
    throw new DatabaseError('data-refused', message, { cause: error })
  }
}

/** For statements that may run twice without harm. */
export async function runStatement(
  { database, clock }: { readonly database: GatedDatabase; readonly clock: Clock },
  statement: Statement,
  options?: RepeatOptions,
): Promise<Row[]> {
  const { rows } = await repeat(database, clock, () => statement, options)
  return rows
}
