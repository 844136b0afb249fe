import { createRunnerHandler } from 'izta/lambda'
import { izta } from './izta.ts'
export const handler = createRunnerHandler({ izta })
