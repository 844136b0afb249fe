// What the error says when a job does not fit into its invocation.
import { defineJob } from 'izta'
import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'

test.each([
  [60, 64, "raise the function's timeout above 65 s or lower the job's timeoutSeconds."],
  [895, 899, 'Lambda allows 900 s at most: split the job with ctx.enqueue'],
  [3600, 899, 'or run it with startRunner in a process that stays.'],
])('a job of %i s in an invocation of %i s is refused with what helps', (timeoutSeconds, seconds, advice) => {
  const job = defineJob({ id: 'long', timeoutSeconds, run: () => {} })
  expect(() => deadlineAfter(systemClock, seconds * 1000, [job])).toThrow(advice)
})
