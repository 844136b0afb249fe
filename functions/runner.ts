// The runner function: claims due tasks of IZTA_QUEUES and runs them, IZTA_CONCURRENCY at once.
import { createRunnerHandler } from '../src/aws/lambda.ts'
import { environment } from '../src/config.ts'
import { izta } from './izta.ts'

const queues = environment('IZTA_QUEUES')
const concurrency = environment('IZTA_CONCURRENCY')

export const handler = createRunnerHandler({
  izta,
  ...(queues === undefined ? {} : { queues: queues.split(',').map((queue) => queue.trim()) }),
  ...(concurrency === undefined ? {} : { concurrency: Number(concurrency) }),
})
