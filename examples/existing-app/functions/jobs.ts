// The application's jobs and schedules.
import { defineJob, defineSchedule } from 'izta'
import * as z from 'zod'

export const sendWelcome = defineJob({
  id: 'send-welcome',
  payload: z.object({ email: z.email() }),
  async run({ email }, ctx) {
    ctx.log.info('welcome', { email })
  },
})

export const cleanUp = defineJob({ id: 'clean-up', run: () => {} })
export const nightly = defineSchedule({
  name: 'nightly',
  job: cleanUp,
  cron: '0 3 * * *',
  timeZone: 'Europe/Berlin',
})
