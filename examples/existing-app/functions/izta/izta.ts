// The application's izta instance: what is here runs in all three functions.
import { createIzta } from 'izta'
import { invokeWake, secretDatabase } from 'izta/lambda'
import { pgDatabase } from 'izta/pg'
import { cleanUp, nightly, sendWelcome } from '../jobs.ts'

const { DATABASE_SECRET = '', RUNNER = '' } = process.env

export const izta = createIzta({
  database: secretDatabase({ secret: DATABASE_SECRET, open: pgDatabase }),
  jobs: [sendWelcome, cleanUp],
  schedules: [nightly],
  wake: invokeWake({ runners: { '*': RUNNER } }),
})
