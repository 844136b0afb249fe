// The runner function: claims due tasks of IZTA_QUEUES and runs them, IZTA_CONCURRENCY at once.
import { createRunnerHandler } from '../src/aws/lambda.ts'
import { environment } from '../src/environment.ts'
import { alarm } from './alarm.ts'
import { openIzta } from './izta.ts'
import { jobs } from './jobs/index.ts'
import { metrics } from './metrics.ts'

const queues = environment('IZTA_QUEUES')
const concurrency = environment('IZTA_CONCURRENCY')
const lingerSeconds = environment('IZTA_LINGER_SECONDS')

export const handler = createRunnerHandler({
  izta: openIzta({ jobs }),
  alarm,
  metrics,
  ...(queues === undefined ? {} : { queues: queues.split(',').map((queue) => queue.trim()) }),
  ...(concurrency === undefined ? {} : { concurrency: Number(concurrency) }),
  ...(lingerSeconds === undefined ? {} : { lingerSeconds: Number(lingerSeconds) }),
})
