import { createEnqueueHandler } from 'izta/lambda'
import { izta } from './izta.ts'
export const handler = createEnqueueHandler({ izta })
