// The scheduler function: turns schedules into tasks.
import { createSchedulerHandler } from '../src/aws/lambda.ts'
import { environment } from '../src/environment.ts'
import { alarm } from './alarm.ts'
import { openIzta } from './izta.ts'
import { jobs } from './jobs/index.ts'
import { schedules } from './jobs/schedules.ts'
import { metrics } from './metrics.ts'

const lingerSeconds = environment('IZTA_LINGER_SECONDS')

export const handler = createSchedulerHandler({
  izta: openIzta({ jobs, schedules }),
  alarm,
  metrics,
  ...(lingerSeconds === undefined ? {} : { lingerSeconds: Number(lingerSeconds) }),
})
