// Schedules changed by hand: pause and resume, dynamic ones, triggers; also while a tick is at work.
import {
  createIzta,
  DatabaseUnreachableError,
  defineJob,
  defineSchedule,
  type IztaOptions,
  type Schedule,
} from 'izta'
import { createTestClock, drain } from 'izta/testing'
import * as z from 'zod'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { planSchedules } from '../../src/scheduler/plan.ts'
import { syncDefinitions } from '../../src/scheduler/sync.ts'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import {
  claim,
  newLease,
  newTask,
  onConnection,
  outcome,
  pidOf,
  settle,
  untilBlockedBy,
} from '../store/statements.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, connect } = await testDatabase()
const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const job = defineJob({ id: 'job', payload: z.number().optional(), run: () => {} })

const make = (schedules: Schedule[], options: Partial<IztaOptions> = {}) => {
  // Repeats of a statement pause in real time: only the database's clock is moved.
  const izta = createIzta({ database, jobs: [job], schedules, log, ...options })
  const config = configOf(izta)
  return Object.assign(izta, {
    tick: () => tick(config),
    sync: () => syncDefinitions(config),
    plan: () => planSchedules(config),
  })
}
const every = (minutes: number, options: object = {}): Schedule =>
  defineSchedule({ name: 'schedule', job, every: { minutes }, ...options } as never)

let start = clock.date.getTime()
async function slots(): Promise<{ minute: number; payload: unknown }[]> {
  const { rows } = await pool.query<{ slot: Date; payload: unknown }>(
    `select slot, payload from izta.task where slot is not null
    union all select slot, payload from izta.history where slot is not null order by slot`,
  )
  return rows.map(({ slot, payload }) => ({ minute: (slot.getTime() - start) / 60_000, payload }))
}
const minutes = async () => (await slots()).map(({ minute }) => minute)

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.schedule, izta.app, izta.queue')
  await clock.advanceTo(new Date(Math.ceil((clock.date.getTime() + 1) / 86_400_000) * 86_400_000))
  start = clock.date.getTime()
})

describe('pause and resume', () => {
  test.for([
    ['once', [10, 50, 60]],
    ['skip', [10, 60]],
    ['all', [10, 20, 30, 40, 50, 60]],
  ] as const)('slots of the pause, missed: %s', async ([missed, expected]) => {
    const app = make([every(10, { missed })])
    await app.tick()
    await clock.advance({ minutes: 10 })
    await drain(app)
    await app.tick()
    await app.schedules.pause('schedule')
    expect(await minutes()).toEqual([10])
    await clock.advance({ minutes: 45 })
    await app.tick()
    expect(await minutes()).toEqual([10])
    await app.schedules.resume('schedule')
    await app.tick()
    expect(await minutes()).toEqual(expected)
  })

  test('a pause that is over before the next slot changes nothing', async () => {
    const app = make([every(10, { missed: 'skip' })])
    await app.tick()
    await app.schedules.pause('schedule')
    await app.schedules.pause('schedule')
    await clock.advance({ minutes: 5 })
    await app.schedules.resume('schedule')
    await app.tick()
    expect(await minutes()).toEqual([10])
  })

  test('a pause that waited for a tick leaves none of its tasks', async () => {
    const app = make([every(10)])
    await app.sync()
    const ticking = await connect()
    await ticking.query('begin')
    await make([], { database: onConnection(ticking) }).plan()
    const pausing = app.schedules.pause('schedule')
    await untilBlockedBy(pool, await pidOf(ticking))
    await ticking.query('commit')
    await pausing
    expect(await minutes()).toEqual([])
    await app.schedules.resume('schedule')
    await app.tick()
    expect(await minutes()).toEqual([10])
  })

  test('a pause leaves the task that runs', async () => {
    const app = make([every(10)])
    await app.tick()
    await clock.advance({ minutes: 10 })
    const lease = newLease()
    const [running] = await claim(database, 1, { lease })
    await app.schedules.pause('schedule')
    expect((await settle(database, lease, [outcome(running!, 'finish')])).unsettled).toEqual([])
  })

  test('a changed definition stays paused', async () => {
    const app = make([every(10)])
    await app.tick()
    await app.schedules.pause('schedule')
    await make([every(20)]).tick()
    expect(await app.schedules.list()).toMatchObject([
      { name: 'schedule', paused: true, nextSlotAt: undefined },
    ])
    expect(await minutes()).toEqual([])
  })
})

describe('dynamic schedules', () => {
  const app = make([])

  test('are put, changed and removed; a sync leaves them alone', async () => {
    await app.schedules.put(every(10))
    await make([]).tick()
    expect(await minutes()).toEqual([10])
    await app.schedules.put(every(10))
    expect(await minutes()).toEqual([10])
    await app.schedules.put(every(20))
    await app.tick()
    expect(await minutes()).toEqual([20])
    expect(await app.schedules.remove('schedule')).toBe(true)
    expect(await app.schedules.remove('schedule')).toBe(false)
    expect(await minutes()).toEqual([])
  })

  test('and those in code do not take each other’s names', async () => {
    const coded = make([every(10)])
    await coded.sync()
    await expect(app.schedules.put(every(20))).rejects.toMatchObject({ code: 'schedule-in-code' })
    await expect(app.schedules.remove('schedule')).rejects.toMatchObject({ code: 'schedule-in-code' })
    await app.schedules.put(every(20, { name: 'dynamic' }))
    expect(await make([every(20, { name: 'dynamic' })]).sync()).toMatchObject({
      stored: [],
      leftOut: [{ name: 'dynamic', reason: 'name-taken', message: expect.stringContaining('schedules.put') }],
    })
  })

  test('put ten times at once are one', async () => {
    await Promise.all(
      Array.from({ length: 10 }, (_, index) => app.schedules.put(every(10 + (index % 2) * 10))),
    )
    await app.tick()
    expect(await app.schedules.list()).toHaveLength(1)
    expect(await minutes()).toHaveLength(1)
  })

  test('a removal that waited for a tick leaves none of its tasks', async () => {
    await app.schedules.put(every(10))
    const ticking = await connect()
    await ticking.query('begin')
    await make([], { database: onConnection(ticking) }).plan()
    const removing = app.schedules.remove('schedule')
    await untilBlockedBy(pool, await pidOf(ticking))
    await ticking.query('commit')
    expect(await removing).toBe(true)
    expect(await minutes()).toEqual([])
  })
})

describe('trigger', () => {
  test('makes one task beside the slots, in a queue that runners know, and wakes it', async () => {
    const woken: string[] = []
    const app = make([], { wake: { wake: (queue) => void woken.push(queue) } })
    await app.schedules.put(every(10, { queue: 'new', payload: 7 }))
    await app.schedules.pause('schedule')
    const { id } = await app.schedules.trigger('schedule')
    expect(woken).toEqual(['new'])
    expect(await drain(app)).toMatchObject({ finished: 1 })
    expect(await app.get(job, id)).toMatchObject({
      status: 'finished',
      payload: 7,
      schedule: 'schedule',
      slot: undefined,
    })
    await expect(app.schedules.trigger('nothing')).rejects.toMatchObject({ code: 'schedule-not-found' })
  })

  test('of a schedule whose queue is paused wakes nobody', async () => {
    const woken: string[] = []
    const app = make([every(10)], { wake: { wake: (queue) => void woken.push(queue) } })
    await app.sync()
    await app.queues.pause('default')
    await app.schedules.trigger('schedule')
    expect(woken).toEqual([])
  })

  test('outlives a pause of its schedule: it was asked for', async () => {
    const app = make([every(10)])
    await app.sync()
    const { id } = await app.schedules.trigger('schedule')
    await app.schedules.pause('schedule')
    expect(await app.get(job, id)).toMatchObject({ status: 'pending' })
  })
})

test('a key that a stranger holds does not keep a tick waiting', async () => {
  const stranger = await connect()
  await stranger.query('begin')
  await onConnection(stranger).query(enqueueOnlyStatement([newTask({ key: 'key' })]))
  expect((await make([every(10)]).tick()).made).toBe(1)
  await stranger.query('rollback')
})

describe('removal', () => {
  test('a schedule of a renamed app goes when that app is named, and the new one takes its name', async () => {
    await make([every(10)], { app: 'old' }).tick()
    const renamed = make([every(10)], { app: 'new' })
    await expect(renamed.schedules.remove('schedule')).rejects.toThrow(`pass { app: 'old' }`)
    await expect(renamed.schedules.remove('schedule', { app: 'other' })).rejects.toThrow('of the app "old"')
    expect(await renamed.schedules.remove('schedule', { app: 'old' })).toBe(true)
    expect(await minutes()).toEqual([])
    await renamed.tick()
    expect(await renamed.schedules.list()).toMatchObject([{ name: 'schedule', app: 'new' }])
  })

  test('one whose answer is lost is told all the same', async () => {
    await make([]).schedules.put(every(10))
    let lost = false
    const losing: typeof database = {
      async query(statement) {
        const rows = await database.query(statement)
        if (lost || !statement.text.includes('delete from izta.schedule')) return rows
        lost = true
        throw new DatabaseUnreachableError('connection-lost', 'lost', { retryable: true })
      },
    }
    const { schedules } = make([], { database: losing })
    expect(await schedules.remove('schedule')).toBe(true)
    expect(lost).toBe(true)
    expect(await schedules.remove('schedule')).toBe(false)
  })
})
