// The stored schedules follow the definitions in code: whose they are, what a change does, and who may change them.
import { createIzta, defineJob, defineSchedule, type IztaOptions, type Schedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import * as z from 'zod'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { planSchedules } from '../../src/scheduler/plan.ts'
import { syncDefinitions } from '../../src/scheduler/sync.ts'
import { claim, newLease, onConnection, outcome, pidOf, settle, untilBlockedBy } from '../store/statements.ts'
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

describe('definitions in code', () => {
  test('a hundred restarts leave one row and one task', async () => {
    for (let restart = 0; restart < 100; restart++) await make([every(60)]).tick()
    const { rows } = await pool.query('select count(*)::int as count from izta.schedule')
    expect(rows).toEqual([{ count: 1 }])
    expect(await minutes()).toEqual([60])
  })

  test('eight first deployments at once leave one row', async () => {
    await Promise.all(Array.from({ length: 8 }, () => make([every(60)]).sync()))
    await make([every(60)]).tick()
    expect(await minutes()).toEqual([60])
  })

  test('a changed definition replaces the tasks that have not started, no slot is lost or doubled', async () => {
    await make([every(10, { payload: 1 })]).tick()
    await clock.advance({ minutes: 10 })
    const lease = newLease()
    const [running] = await claim(database, 1, { lease })
    await make([every(10, { payload: 1 })]).tick()
    const changed = make([every(10, { payload: 2 })])
    await changed.tick()
    await clock.advance({ minutes: 10 })
    await changed.tick()
    expect(await slots()).toEqual([
      { minute: 10, payload: 1 },
      { minute: 20, payload: 2 },
      { minute: 30, payload: 2 },
    ])
    expect((await settle(database, lease, [outcome(running!, 'finish')])).unsettled).toEqual([])
  })

  test('a definition that changes during an outage keeps the slots that were missed', async () => {
    const old = make([every(10, { payload: 1, missed: 'all' })])
    await old.tick()
    await clock.advance({ minutes: 10 })
    await drain(old)
    await clock.advance({ minutes: 35 })
    const changed = make([every(10, { payload: 2, missed: 'all' })])
    await changed.tick()
    expect(await minutes()).toEqual([10, 20, 30, 40, 50])
  })

  test('a task of an old slot that was retried by hand is no slot to be made again', async () => {
    const app = make([every(10, { payload: 1, missed: 'all' })])
    await app.tick()
    for (let step = 0; step < 4; step++) {
      await clock.advance({ minutes: 10 })
      await app.tick()
      await drain(app)
    }
    const { rows } = await pool.query<{ id: string }>('select id from izta.history order by slot')
    await app.retry(rows[0]!.id, { force: true })
    await make([every(10, { payload: 2, missed: 'all' })]).tick()
    expect(await minutes()).toEqual([10, 20, 30, 40, 50])
  })

  test('a waiting task of an old slot that was cancelled and retried is no slot to be made again', async () => {
    const app = make([every(10, { payload: 1, missed: 'all' })])
    await app.tick()
    const { rows } = await pool.query<{ id: string }>('select id from izta.task')
    await app.cancel(rows[0]!.id)
    await clock.advance({ minutes: 25 })
    await app.tick()
    await drain(app)
    await app.retry(rows[0]!.id)
    await make([every(10, { payload: 2, missed: 'all' })]).tick()
    expect(await minutes()).toEqual([10, 20, 30])
  })

  test('a removed definition stops, and its task that has not started goes', async () => {
    await make([every(10)]).tick()
    await make([]).tick()
    expect(await minutes()).toEqual([])
    await clock.advance({ minutes: 30 })
    await make([]).tick()
    expect(await minutes()).toEqual([])
  })

  test('a payload that its job refuses is told with the name of its schedule', async () => {
    const wrong = every(10, { payload: 'text' })
    await expect(make([wrong]).migrate()).rejects.toThrow('Schedule "schedule": Payload of job "job" refused')
    await expect(make([]).schedules.put(wrong)).rejects.toThrow('Schedule "schedule": Payload of job "job"')
  })

  test('an instance that was given no schedules leaves the stored ones alone', async () => {
    await make([every(10)]).tick()
    const silent = createIzta({ database, jobs: [job], log })
    await silent.migrate()
    await tick(configOf(silent))
    expect(await silent.schedules.list()).toHaveLength(1)
    expect(await minutes()).toEqual([10])
    await make([]).migrate()
    expect(await silent.schedules.list()).toEqual([])
  })

  test('a scheduler brings back what another process has removed, and no later than after ten minutes', async () => {
    const app = make([every(10)], { clock })
    await app.tick()
    await make([]).sync()
    await clock.advance({ minutes: 9 })
    await app.tick()
    expect(await app.schedules.list()).toEqual([])
    await clock.advance({ minutes: 1 })
    await app.tick()
    expect(await app.schedules.list()).toHaveLength(1)
  })

  test('a deployment older than the last that synced changes nothing', async () => {
    const older = make([every(10)], { deployedAt: new Date('2029-01-01') })
    const newer = make([every(20)], { deployedAt: new Date('2029-01-02') })
    await older.tick()
    await newer.tick()
    const why = /was not (stored|removed): a newer deployment \(deployed 2029-01-02T00:00:00.000Z, seen 2030-/
    expect(await older.sync()).toMatchObject({
      stored: [],
      changed: [],
      removed: [],
      leftOut: [{ name: 'schedule', reason: 'newer-deployment', message: expect.stringMatching(why) }],
    })
    expect(await make([], { deployedAt: new Date('2029-01-01') }).sync()).toMatchObject({
      removed: [],
      leftOut: [{ name: 'schedule', reason: 'not-removed', message: expect.stringMatching(why) }],
    })
    expect(await minutes()).toEqual([20])
    expect(await newer.sync()).toMatchObject({ stored: ['schedule'], changed: [], leftOut: [] })
  })

  test('the schedules of another app are left alone, also under one name', async () => {
    const ours = make([every(10)], { app: 'ours' })
    const theirs = make([every(20), every(30, { name: 'theirs' })], { app: 'theirs' })
    await ours.sync()
    expect(await theirs.sync()).toMatchObject({
      stored: ['theirs'],
      changed: ['theirs'],
      leftOut: [{ name: 'schedule', reason: 'name-taken', message: expect.stringContaining('app "ours"') }],
    })
    expect(await make([], { app: 'ours' }).sync()).toMatchObject({ removed: ['schedule'] })
    expect((await ours.schedules.list()).map(({ name, app }) => ({ name, app }))).toEqual([
      { name: 'theirs', app: 'theirs' },
    ])
  })

  test('a sync that waited for a tick leaves no task of the old definition beside those of the new one', async () => {
    const old = make([every(10, { payload: 1 })])
    await old.sync()
    const ticking = await connect()
    await ticking.query('begin')
    await make([], { database: onConnection(ticking) }).plan()
    const changed = make([every(10, { payload: 2 })])
    const syncing = changed.sync()
    await untilBlockedBy(pool, await pidOf(ticking))
    await ticking.query('commit')
    expect(await syncing).toMatchObject({ changed: ['schedule'] })
    await changed.tick()
    expect(await slots()).toEqual([{ minute: 10, payload: 2 }])
  })

  test('a tick that waited for a sync makes nothing of the old definition', async () => {
    const old = make([every(10, { payload: 1 })])
    await old.sync()
    const syncing = await connect()
    await syncing.query('begin')
    await make([every(10, { payload: 2 })], { database: onConnection(syncing) }).sync()
    const planning = old.plan()
    await untilBlockedBy(pool, await pidOf(syncing))
    await syncing.query('commit')
    expect(await planning).toBe(0)
    await old.plan()
    expect(await slots()).toEqual([{ minute: 10, payload: 2 }])
  })

  test('a newer sync that waited for an older one removes what that has just added', async () => {
    const syncing = await connect()
    await syncing.query('begin')
    await make([every(10)], { database: onConnection(syncing), deployedAt: new Date('2029-01-01') }).sync()
    const waiting = make([], { deployedAt: new Date('2029-01-02') }).sync()
    await untilBlockedBy(pool, await pidOf(syncing))
    await syncing.query('commit')
    expect(await waiting).toMatchObject({ removed: ['schedule'] })
  })
})

test('a rule that no definition would accept is not stored', async () => {
  const forged = { ...every(10), rule: { type: 'cron', cron: '0 0 31 2 *', timeZone: 'UTC' } } as Schedule
  const refused = 'Schedule "schedule", cron "0 0 31 2 *": never fires: no such month has a day 31.'
  await expect(make([forged]).sync()).rejects.toThrow(refused)
  await expect(make([]).schedules.put(forged)).rejects.toMatchObject({ code: 'invalid-definition' })
})

test('another spelling of an expression is no change', async () => {
  const cron = (text: string) => defineSchedule({ name: 'schedule', job, cron: text })
  await make([cron('0 9 * * MON-FRI')]).sync()
  expect(await make([cron('00 09 ? * 1,2,3,4,5')]).sync()).toMatchObject({ changed: [] })
  expect(await make([cron('0 9 * * 1-6')]).sync()).toMatchObject({ changed: ['schedule'] })
})
