// How long a failed task waits before its next attempt.
import * as z from 'zod/mini'
import { defaults } from '../defaults.ts'
import { numberFrom } from '../options.ts'

/** Exponential delay between attempts: `first × factorⁿ`, capped, with jitter. */
export interface BackoffOptions {
  /** Delay after the first failed attempt, in seconds. 0 to 86,400. @default 1 */
  firstSeconds?: number | undefined
  /** What the delay grows by with each attempt. 1 to 10. @default 2 */
  factor?: number | undefined
  /** The longest delay, in seconds. 0 to 2,592,000 (30 days). @default 3600 */
  maxSeconds?: number | undefined
  /**
   * `'full'` draws the delay evenly between 0 and the computed value, so that tasks which failed together do not
   * come back together; `'none'` takes the value itself.
   * @default 'full'
   */
  jitter?: 'full' | 'none' | undefined
}

export interface Backoff {
  readonly firstSeconds: number
  readonly factor: number
  readonly maxSeconds: number
  readonly jitter: 'full' | 'none'
}

export const backoffSchema = z.prefault(
  z.strictObject({
    firstSeconds: z._default(numberFrom(0, 86_400), defaults.backoff.firstSeconds),
    factor: z._default(numberFrom(1, 10), defaults.backoff.factor),
    maxSeconds: z._default(numberFrom(0, 2_592_000), defaults.backoff.maxSeconds),
    jitter: z._default(z.enum(['full', 'none']), defaults.backoff.jitter),
  }),
  {},
)

/**
 * The delay in milliseconds before attempt `failedAttempts + 1`.
 *
 * Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function retryDelayMs(backoff: Backoff, failedAttempts: number, random: () => number): number {
  const { firstSeconds, factor, maxSeconds, jitter } = backoff
  // Not Infinity, which times 0 is no number.
  const growth = Math.min(factor ** (failedAttempts - 1), Number.MAX_VALUE)
  const ceilingMs = Math.min(maxSeconds, firstSeconds * growth) * 1000
  return Math.round(jitter === 'full' ? ceilingMs * random() : ceilingMs)
}
