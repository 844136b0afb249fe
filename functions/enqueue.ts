// The enqueue function: takes tasks by direct invoke or Function URL.
import { createEnqueueHandler } from '../src/aws/lambda.ts'
import { izta } from './izta.ts'

export const handler = createEnqueueHandler({ izta })
