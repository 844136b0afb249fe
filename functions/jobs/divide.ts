// Divides two numbers: a job with a result and a declared error.
import * as z from 'zod/mini'
import { defineJob } from '../../src/index.ts'

export const divide = defineJob({
  id: '74f642fe-d07b-4ba9-a29f-a1be75dcb3b3',
  name: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  run({ numerator, denominator }, ctx) {
    if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' }, { retry: false })
    return numerator / denominator
  },
})
