// The jobs of the deployment test; the copy of the repository that is deployed has them as functions/jobs/index.ts.
import * as z from 'zod'
import { createAwsApi, type AwsRequest } from '../../src/aws/api.ts'
import { defineJob, defineSchedule, IztaError } from '../../src/index.ts'

const timeoutSeconds = 3

export const greet = defineJob({
  id: 'greet',
  timeoutSeconds,
  payload: z.object({ name: z.string() }),
  result: z.object({ greeting: z.string() }),
  run: ({ name }) => ({ greeting: `Hello ${name}` }),
})

/** Blocks its first process for good: only Lambda's own timeout ends that. */
export const block = defineJob({
  id: 'block',
  queue: 'feeds',
  timeoutSeconds,
  maxAttempts: 1,
  result: z.object({ losses: z.int(), attempt: z.int() }),
  run(_, { losses, attempt }) {
    while (losses === 0) Math.random()
    return { losses, attempt }
  },
})

export const minutely = defineJob({ id: 'minutely', timeoutSeconds, run: () => {} })
const everyMinute = defineSchedule({ name: 'every-minute', job: minutely, every: { minutes: 1 } })

const called = z.object({
  service: z.enum(['lambda', 'scheduler', 'ssm']),
  path: z.string(),
  target: z.string().optional(),
})

/** Calls AWS with the role of the runner and returns what AWS said. */
export const probe = defineJob({
  id: 'probe',
  timeoutSeconds,
  payload: z.object({ calls: z.array(called) }),
  result: z.array(z.string()),
  async run({ calls }) {
    const api = createAwsApi()
    const answers = calls.map(async ({ service, path, target }) => {
      const headers =
        target === undefined ? {} : { 'x-amz-target': target, 'content-type': 'application/x-amz-json-1.1' }
      const request: AwsRequest = {
        service,
        method: target === undefined && service === 'scheduler' ? 'GET' : 'POST',
        path,
        headers,
        attempts: 1,
      }
      const body =
        service === 'scheduler' ? {} : { body: service === 'ssm' ? { Name: '/other' } : { queue: 'default' } }
      return api({ ...request, ...body }).then(
        () => 'allowed',
        (error: unknown) => (IztaError.is(error) && 'type' in error ? String(error.type) : String(error)),
      )
    })
    return Promise.all(answers)
  },
})

export const jobs = [greet, block, minutely, probe]
export const schedules = [everyMinute]
