// The delay before the next attempt: exponential, capped, with full jitter.
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { backoffSchema, retryDelayMs } from '../../src/job/retry.ts'

const exact = { ...defaults.backoff, jitter: 'none' } as const
const halfway = () => 0.5

test('the delay starts at firstSeconds and grows by factor, up to maxSeconds', () => {
  const delays = [1, 2, 3, 4, 12, 13, 1000].map((attempt) => retryDelayMs(exact, attempt, halfway))
  expect(delays).toEqual([1000, 2000, 4000, 8000, 2_048_000, 3_600_000, 3_600_000])
})

test('full jitter draws evenly between 0 and the delay', () => {
  const drawn = [0, 0.25, 0.5, 0.999_999].map((share) => retryDelayMs(defaults.backoff, 3, () => share))
  expect(drawn).toEqual([0, 1000, 2000, 4000])
})

test('a factor of 1 keeps the delay, and 0 seconds wait for nothing', () => {
  expect(retryDelayMs({ ...exact, factor: 1, firstSeconds: 7 }, 9, halfway)).toBe(7000)
  expect(retryDelayMs({ ...exact, firstSeconds: 0 }, 9, halfway)).toBe(0)
})

test('the delay is a whole number of milliseconds from 0 to maxSeconds, whatever the options', () => {
  const options = fc.record({
    firstSeconds: fc.double({ min: 0, max: 86_400, noNaN: true }),
    factor: fc.double({ min: 1, max: 10, noNaN: true }),
    maxSeconds: fc.double({ min: 0, max: 2_592_000, noNaN: true }),
    jitter: fc.constantFrom('full' as const, 'none' as const),
  })
  const share = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true })
  fc.assert(
    fc.property(options, fc.integer({ min: 1, max: 32_767 }), share, (backoff, attempt, random) => {
      const delay = retryDelayMs(backoffSchema.parse(backoff), attempt, () => random)
      expect(Number.isInteger(delay)).toBe(true)
      expect(delay).toBeGreaterThanOrEqual(0)
      expect(delay).toBeLessThanOrEqual(Math.round(backoff.maxSeconds * 1000))
    }),
  )
})
