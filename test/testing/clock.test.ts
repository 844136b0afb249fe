// The test clock: the database and Node move together.
import { createIzta, defineJob } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test, vi } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }
const databaseNow = async () => (await pool.query('select izta.now() as now')).rows[0].now as Date

test('the example of createTestClock', async () => {
  const reminded: string[] = []
  const remind = defineJob({
    id: 'remind',
    payload: z.object({ userId: z.string() }),
    run: ({ userId }) => void reminded.push(userId),
  })
  const [jobs, userId] = [[remind], 'u1']

  const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
  const izta = createIzta({ database, jobs, clock, log })
  await izta.enqueue(remind, { userId }, { delaySeconds: 3600 })
  await drain(izta)
  expect(reminded).toEqual([])
  await clock.advance({ hours: 1 })
  await drain(izta) // runs it
  expect(reminded).toEqual(['u1'])
})

test('it stands still until it is moved, in the database as well', async () => {
  const at = new Date('2031-05-05T12:00:00Z')
  const clock = await createTestClock({ database, at })
  expect([clock.date, await databaseNow(), await databaseNow(), clock.now()]).toEqual([
    at,
    at,
    at,
    at.getTime(),
  ])
})

test('it starts at 2030 unless told otherwise, and a second clock replaces the first', async () => {
  await createTestClock({ database, at: new Date('2040-01-01T00:00:00Z') })
  const clock = await createTestClock({ database })
  expect(clock.date).toEqual(new Date('2030-01-01T00:00:00Z'))
  expect(await databaseNow()).toEqual(clock.date)
})

test.for(['task', 'history'])('a database in use keeps its clock: rows in %s', async (table) => {
  const used = await testDatabase()
  const job = defineJob({ id: 'job', run() {} })
  const izta = createIzta({ database: used.database, jobs: [job], log })
  await izta.enqueue(job)
  if (table === 'history') await drain(izta)
  await expect(createTestClock({ database: used.database })).rejects.toThrow(
    'createTestClock: the schema "izta" of this database has tasks',
  )
  const { rows } = await used.pool.query('select izta.now() = now() as moves')
  expect(rows).toEqual([{ moves: true }])
})

test('a second clock may be made where tasks are under a test clock already', async () => {
  await createTestClock({ database })
  const job = defineJob({ id: 'job', run() {} })
  await createIzta({ database, jobs: [job], log }).enqueue(job)
  await expect(createTestClock({ database })).resolves.toBeDefined()
})

test('the parts of a span add up', async () => {
  const clock = await createTestClock({ database })
  await clock.advance({ days: 1, hours: 2, minutes: 3, seconds: 4, milliseconds: 5 })
  expect(clock.date).toEqual(new Date('2030-01-02T02:03:04.005Z'))
  expect(await databaseNow()).toEqual(clock.date)
})

test('timers fire in order, each at its own instant, those included that they set', async () => {
  const clock = await createTestClock({ database })
  const start = clock.now()
  const fired: [string, number][] = []
  const note = (name: string) => () => void fired.push([name, clock.now() - start])
  clock.after(3000, note('third'))
  clock.after(1000, () => {
    note('first')()
    clock.after(500, note('second'))
  })
  clock.after(10_001, note('too late'))
  const cancel = clock.after(2000, note('cancelled'))
  cancel()
  await clock.advance({ seconds: 10 })
  expect(fired).toEqual([
    ['first', 1000],
    ['second', 1500],
    ['third', 3000],
  ])
})

test('a timer sees the database at its own instant', async () => {
  const clock = await createTestClock({ database })
  const seen = new Promise<Date>((resolve) => void clock.after(1500, () => void databaseNow().then(resolve)))
  await clock.advanceTo(new Date(clock.now() + 1500))
  expect(await seen).toEqual(new Date('2030-01-01T00:00:01.500Z'))
})

test('it cannot go back', async () => {
  const clock = await createTestClock({ database })
  await expect(clock.advanceTo(new Date('2029-12-31T23:59:59Z'))).rejects.toThrow(
    'The clock stands at 2030-01-01T00:00:00.000Z and cannot go back.',
  )
  await expect(clock.advance({ seconds: -1 })).rejects.toThrow(RangeError)
})

test('it moves the clock of a schema with another name', async () => {
  const izta = createIzta({ database, jobs: [], schema: 'other', log })
  await izta.migrate()
  const clock = await createTestClock({ database, schema: 'other', at: new Date('2050-01-01T00:00:00Z') })
  await clock.advance({ minutes: 1 })
  const { rows } = await pool.query('select other.now() as now')
  expect(rows[0].now).toEqual(new Date('2050-01-01T00:01:00Z'))
})

test('Date follows where fake timers are told each move, and stays real otherwise', async () => {
  const seen: Date[] = []
  const look = defineJob({ id: 'look', run: () => void seen.push(new Date()) })
  const realMs = Date.now()
  const plain = await createTestClock({ database })
  const real = createIzta({ database, jobs: [look], clock: plain, log })
  await real.enqueue(look)
  await drain(real)
  expect(Math.abs((seen[0]?.getTime() ?? 0) - realMs)).toBeLessThan(60_000)
  vi.useFakeTimers({ toFake: ['Date'] })
  try {
    const clock = await createTestClock({ database, onMove: (date) => vi.setSystemTime(date) })
    const faked = createIzta({ database, jobs: [look], clock, log })
    await faked.enqueue(look)
    await faked.enqueue(look, undefined, { delaySeconds: 3600 })
    await drain(faked)
    await clock.advance({ hours: 1 })
    await drain(faked)
    expect(seen.slice(1)).toEqual([new Date('2030-01-01T00:00:00Z'), new Date('2030-01-01T01:00:00Z')])
  } finally {
    vi.useRealTimers()
  }
})
