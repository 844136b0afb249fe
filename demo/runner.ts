// The runner as a process of its own, for `--crash`: like the entry file of a Lambda function.
import { createRunnerHandler } from '../src/aws/lambda.ts'
import { pgDatabase } from '../src/adapters/pg.ts'
import { createIzta } from '../src/index.ts'
import { jobs } from './jobs.ts'
import { quietLog } from './quiet-log.ts'

const url = process.env['DATABASE_URL']
if (url === undefined)
  throw new Error('demo/runner.ts is started by the local stack, which sets DATABASE_URL.')

export const handler = createRunnerHandler({
  izta: createIzta({ database: pgDatabase(url), jobs, log: quietLog }),
  concurrency: 10,
})
