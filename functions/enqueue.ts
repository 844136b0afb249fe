// The enqueue function: takes tasks by invoke, over HTTP, from SQS and EventBridge.
import { createEnqueueHandler } from '../src/aws/lambda.ts'
import { openIzta } from './izta.ts'
import { jobs } from './jobs/index.ts'

export const handler = createEnqueueHandler({ izta: openIzta({ jobs }) })
