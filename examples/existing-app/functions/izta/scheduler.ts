import { createSchedulerHandler } from 'izta/lambda'
import { izta } from './izta.ts'
export const handler = createSchedulerHandler({ izta })
