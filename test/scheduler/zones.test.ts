// Newer data of time zones moves the slots that were made with older data, and no slot comes twice.
import { createIzta, defineJob, defineSchedule, type Schedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { defaults } from '../../src/defaults.ts'
import { ownZones, type ZoneData } from '../../src/job/zones.ts'
import { planSchedules } from '../../src/scheduler/plan.ts'
import { syncDefinitions } from '../../src/scheduler/sync.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const ran: string[] = []
const job = defineJob({
  id: 'job',
  run: (_, ctx) => void ran.push(ctx.task.slot?.toISOString().slice(5, 16) ?? ''),
})
const hourMs = 3_600_000

/** A zone whose clocks are always so many hours ahead of UTC, as this release of the data says. */
const release = (version: string, hours: number): ZoneData => ({ version, offsetAt: () => hours * hourMs })
const winter = release('2029b', 0)
const summer = release('2030a', 1)

const daily = (cron: string, options: object = {}): Schedule =>
  defineSchedule({ name: 'schedule', job, cron, timeZone: 'Africa/Casablanca', ...options })
function make(...schedules: Schedule[]) {
  const izta = createIzta({ database, jobs: [job], schedules, log })
  const config = configOf(izta)
  return Object.assign(izta, {
    sync: () => syncDefinitions(config),
    plan: (zones: ZoneData) => planSchedules(config, zones),
  })
}
async function waiting(): Promise<string[]> {
  const { rows } = await pool.query<{ slot: Date }>(
    'select slot from izta.task where slot is not null order by slot',
  )
  return rows.map(({ slot }) => slot.toISOString().slice(5, 16))
}
const ids = async () => (await pool.query('select id from izta.task order by id')).rows
const version = async () => (await pool.query('select zone_data from izta.schedule')).rows[0]?.zone_data
const at = (text: string) => clock.advanceTo(new Date(`2030-${text}:00Z`))

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.schedule, izta.app, izta.queue')
  ran.length = 0
})
// The clock never goes back: each test has a month of its own.

describe('newer data', () => {
  test('moves the slot that was made ahead, to an earlier instant', async () => {
    await at('01-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(winter)
    expect(await waiting()).toEqual(['01-11T09:00'])
    await app.plan(summer)
    expect(await waiting()).toEqual(['01-11T08:00'])
    expect(await version()).toBe('2030a')
    await at('01-12T12:00')
    await app.plan(summer)
    await drain(app)
    await app.plan(summer)
    expect(ran).toEqual(['01-12T08:00'])
    expect(await waiting()).toEqual(['01-13T08:00'])
  })

  test('moves it to a later instant', async () => {
    await at('02-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(release('2029b', 1))
    expect(await waiting()).toEqual(['02-11T08:00'])
    await app.plan(release('2030a', 0))
    expect(await waiting()).toEqual(['02-11T09:00'])
  })

  test('does not run a time of the clock again that has run an hour too early', async () => {
    await at('03-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(release('2029b', 1))
    await at('03-11T08:00')
    await drain(app)
    await at('03-11T08:30')
    await app.plan(release('2030a', 0))
    await at('03-11T09:30')
    await app.plan(release('2030a', 0))
    await drain(app)
    expect(ran).toEqual(['03-11T08:00'])
    expect(await waiting()).toEqual(['03-12T09:00'])
  })

  test('runs a time of the clock at once that has passed by it, as the policy says', async () => {
    for (const missed of ['once', 'skip'] as const) {
      await pool.query('truncate izta.task, izta.schedule, izta.app')
      await at(missed === 'once' ? '04-10T12:00' : '04-20T12:00')
      const app = make(daily('0 9 * * *', { missed }))
      await app.sync()
      await app.plan(winter)
      await at(missed === 'once' ? '04-11T08:30' : '04-21T08:30')
      await app.plan(summer)
      await drain(app)
      expect(ran).toEqual(['04-11T08:00'])
      expect(await waiting()).toEqual([missed === 'once' ? '04-12T08:00' : '04-22T08:00'])
    }
  })

  test('gives no instant a second task', async () => {
    await at('05-10T06:30')
    const app = make(daily('0 6-20 * * *', { missed: 'all' }))
    await app.sync()
    for (const hour of ['07', '08', '09']) {
      await app.plan(winter)
      await at(`05-10T${hour}:00`)
      await drain(app)
      await at(`05-10T${hour}:30`)
    }
    for (const hour of ['10', '11']) {
      await app.plan(summer)
      await at(`05-10T${hour}:00`)
      await drain(app)
      await at(`05-10T${hour}:30`)
    }
    expect(ran).toEqual(['05-10T07:00', '05-10T08:00', '05-10T09:00', '05-10T10:00', '05-10T11:00'])
  })

  test('that moves nothing leaves the tasks as they are, and is not looked at again', async () => {
    await at('06-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(winter)
    const before = await ids()
    await app.plan(release('2030a', 0))
    expect(await ids()).toEqual(before)
    expect(await version()).toBe('2030a')
    await app.plan(release('2030a', 3))
    expect(await ids()).toEqual(before)
  })

  test('at eight ticks at once moves it once', async () => {
    await at('07-10T12:00')
    const apps = Array.from({ length: 8 }, () => make(daily('0 9 * * *')))
    await apps[0]!.sync()
    await apps[0]!.plan(winter)
    await Promise.all(apps.map((app) => app.plan(summer)))
    expect(await waiting()).toEqual(['07-11T08:00'])
  })

  test('at the end of a pause, and of an outage', async () => {
    await at('08-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(winter)
    await app.schedules.pause('schedule')
    await app.schedules.resume('schedule')
    await app.plan(summer)
    expect(await waiting()).toEqual(['08-11T08:00'])
    await at('08-14T12:00')
    await app.plan(release('2030b', 2))
    expect(await waiting()).toEqual(['08-14T07:00', '08-15T07:00'])
  })

  test('leaves schedules alone that depend on no time zone', async () => {
    await at('09-10T12:00')
    const app = make(daily('0 9 * * *', { timeZone: 'UTC' }))
    await app.sync()
    await app.plan(winter)
    const before = await ids()
    await app.plan(summer)
    expect(await ids()).toEqual(before)
    expect(await version()).toBeNull()
  })
})

describe('older data', () => {
  test('changes nothing while a process with newer data ticks', async () => {
    await at('10-10T12:00')
    const app = make(daily('*/10 8-10 * * *'))
    await app.sync()
    for (let step = 0; step < 24 * 12; step++) {
      await app.plan(summer)
      await app.plan(winter)
      expect(await version()).toBe('2030a')
      await clock.advance({ minutes: 5 })
      await drain(app)
    }
    const hours = ['07', '08', '09'].flatMap((hour) =>
      ['00', '10', '20', '30', '40', '50'].map((minute) => `10-11T${hour}:${minute}`),
    )
    expect(ran).toEqual(hours)
  })

  test('goes on with the schedule when no process with newer data has come for long', async () => {
    await at('11-10T12:00')
    const app = make(daily('0 9 * * *'))
    await app.sync()
    await app.plan(summer)
    await at('11-11T08:00')
    await drain(app)
    await clock.advance({ seconds: defaults.schedule.lateSeconds })
    await app.plan(winter)
    expect(await waiting()).toEqual([])
    await clock.advance({ minutes: 1 })
    await app.plan(winter)
    expect(await waiting()).toEqual(['11-12T09:00'])
    expect(await version()).toBe('2029b')
    await app.plan(summer)
    expect(await waiting()).toEqual(['11-12T08:00'])
    expect(ran).toEqual(['11-11T08:00'])
  })
})

test('the data of this process has a version', () => {
  expect(ownZones.version).toMatch(/^20\d\d[a-z]+$/)
  expect(ownZones.offsetAt('Asia/Kathmandu', Date.now())).toBe(5.75 * hourMs)
})
