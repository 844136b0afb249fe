// Runs a statement again while the database is unreachable or busy, and knows when it may have run already.

import { backoffMs, pause, systemClock, type Clock } from '../clock.ts'
import type { DatabaseError } from '../errors.ts'
import type { Database, Row, Statement } from './database.ts'
import { isDatabaseError } from './transient.ts'

export const repeatDefaults = { attempts: 5, pauses: { firstMs: 50, longestMs: 2_000 } } as const

export interface RepeatOptions {
  /** Tries in all. */
  readonly attempts?: number
  /** Ends the pauses; a statement on its way is not interrupted. */
  readonly signal?: AbortSignal
  /** On the clock's scale: no pause goes beyond it. */
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
  database: Database,
  clock: Clock,
  build: (isRepeat: boolean) => Statement,
  options: RepeatOptions = {},
): Promise<RepeatedReply> {
  const {
    attempts = repeatDefaults.attempts,
    signal,
    deadlineMs = Infinity,
    pauseClock = systemClock,
  } = options
  let lost: DatabaseError | undefined
  for (let attempt = 1; ; attempt++) {
    const ambiguous = lost !== undefined
    try {
      return { rows: await database.query(build(ambiguous)), ambiguous }
    } catch (error) {
      if (!isDatabaseError(error)) throw error
      if (!error.retryable) throw ambiguous ? Object.assign(error, { outcome: 'unknown' }) : error
      if (error.outcome === 'unknown') lost = error
      const pauseMs = backoffMs(attempt, repeatDefaults.pauses)
      if (attempt >= attempts || clock.now() + pauseMs >= deadlineMs) throw lost ?? error
      await pause(pauseClock, pauseMs, signal)
      if (signal?.aborted) throw lost ?? error
    }
  }
}

/** For statements that may run twice without harm. */
export async function runStatement(
  { database, clock }: { readonly database: Database; readonly clock: Clock },
  statement: Statement,
): Promise<Row[]> {
  const { rows } = await repeat(database, clock, () => statement)
  return rows
}
