// The scheduler function: turns schedules into tasks.
import { createSchedulerHandler } from '../src/aws/lambda.ts'
import { izta } from './izta.ts'

export const handler = createSchedulerHandler({ izta })
