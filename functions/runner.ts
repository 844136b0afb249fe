// The runner function: claims due tasks and runs them.
import { createRunnerHandler } from '../src/aws/lambda.ts'
import { izta } from './izta.ts'

export const handler = createRunnerHandler({ izta })
