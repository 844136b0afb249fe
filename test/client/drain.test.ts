// A clock that stands still: schedules, retries and delays at times of the test's choosing.
import { createIzta, defineJob, defineSchedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { testDatabase } from '../support/database.ts'

const { database } = await testDatabase()
const clock = await createTestClock({ database })
const seen: string[] = []
const note = defineJob({ id: 'note', payload: z.string(), run: (text) => void seen.push(text) })
const hourly = defineSchedule({ name: 'hourly', job: note, payload: 'tick', cron: '0 * * * *' })
const izta = createIzta({ database, jobs: [note], schedules: [hourly], clock })

test('a slot is run when its time has come, once', async () => {
  await drain(izta, { schedules: true })
  expect(seen).toEqual([])
  await clock.advance({ hours: 1 })
  await drain(izta, { schedules: true })
  await drain(izta, { schedules: true })
  expect(seen).toEqual(['tick'])
  expect(await izta.schedules.preview('hourly', 2)).toEqual([
    new Date('2030-01-01T02:00:00Z'),
    new Date('2030-01-01T03:00:00Z'),
  ])
})
