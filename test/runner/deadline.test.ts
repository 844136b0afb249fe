// What the error says when a job does not fit into its invocation.
import { defineJob } from 'izta'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { deadlineAfter, jobsOf } from '../../src/runner/deadline.ts'

test.each([
  [60, 64, "raise the function's timeout above 65 s or lower the job's timeoutSeconds."],
  [895, 899, 'Lambda allows 900 s at most: split the job with ctx.enqueue'],
  [3600, 899, 'or run it with startRunner in a process that stays.'],
])('a job of %i s in an invocation of %i s is refused with what helps', (timeoutSeconds, seconds, advice) => {
  const job = defineJob({ id: 'long', timeoutSeconds, run: () => {} })
  expect(() => deadlineAfter(systemClock, seconds * 1000, [job])).toThrow(advice)
})

test("only the jobs of a runner's own queues bound its time", () => {
  const feed = defineJob({ id: 'feed', queue: 'feeds', timeoutSeconds: 20, run: () => {} })
  const report = defineJob({ id: 'report', queue: 'reports', timeoutSeconds: 200, run: () => {} })
  const needed = (queues: string[]) => {
    const { claimUntilMs, endsAtMs } = deadlineAfter(systemClock, 300_000, jobsOf([feed, report], queues))
    return Math.round(endsAtMs - claimUntilMs)
  }
  expect(needed(['feeds'])).toBe(25_000)
  expect(needed(['feeds', 'reports'])).toBe(205_000)
  expect(needed([])).toBe(205_000)
})
