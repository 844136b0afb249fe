// drain: runs what is due, and nothing else.
import { createIzta, defineJob, defineSchedule, OptionError } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.schedule'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  run: ({ numerator, denominator }) => numerator / denominator,
})
const fanOut = defineJob({
  id: 'fan-out',
  payload: z.number(),
  run(count, ctx) {
    for (let n = 1; n <= count; n++) ctx.enqueue(divide, { numerator: n, denominator: 1 })
  },
})
const izta = createIzta({ database, jobs: [divide, fanOut], clock, log })

test('the example of drain', async () => {
  await izta.enqueue(divide, { numerator: 1, denominator: 2 })
  const { finished } = await drain(izta)
  expect(finished).toBe(1)
})

test('it runs what tasks enqueue, and returns when nothing is due', async () => {
  await izta.enqueue(fanOut, 25)
  expect(await drain(izta)).toEqual({
    claimed: 26,
    finished: 26,
    failed: 0,
    retried: 0,
    released: 0,
    cancelled: 0,
    stuck: [],
    more: false,
  })
})

test('it wakes nobody: a backlog and what is left are its own', async () => {
  const woken: string[] = []
  const wake = { wake: (queue: string) => void woken.push(queue) }
  const quiet = createIzta({ database, jobs: [divide, fanOut], clock, log, wake })
  await izta.enqueueMany(
    divide,
    Array.from({ length: 30 }, () => ({ numerator: 1, denominator: 2 })),
  )
  expect(await drain(quiet)).toMatchObject({ finished: 30, more: false })
  expect(woken).toEqual([])
})

test('tasks of the future and delayed retries stay', async () => {
  const failing = defineJob({
    id: 'failing',
    backoff: { firstSeconds: 1, jitter: 'none' },
    run: () => Promise.reject(new Error('no')),
  })
  const own = createIzta({ database, jobs: [failing], clock, log })
  await own.enqueue(failing, undefined, { delaySeconds: 60 })
  await own.enqueue(failing)
  expect(await drain(own)).toMatchObject({ claimed: 1, retried: 1 })
  expect(await drain(own)).toMatchObject({ claimed: 0 })
  await clock.advance({ seconds: 1 })
  expect(await drain(own)).toMatchObject({ claimed: 1, retried: 1 })
})

test('queues limits it to some queues, and a paused queue is left alone', async () => {
  await izta.enqueueMany([
    [divide, { numerator: 1, denominator: 1 }, { queue: 'a' }],
    [divide, { numerator: 1, denominator: 1 }, { queue: 'b' }],
    [divide, { numerator: 1, denominator: 1 }, { queue: 'c' }],
  ])
  expect(await drain(izta, { queues: ['a'] })).toMatchObject({ finished: 1 })
  await izta.queues.pause('b')
  expect(await drain(izta)).toMatchObject({ finished: 1 })
  await izta.queues.resume('b')
  expect(await drain(izta, { queues: ['b', 'c'] })).toMatchObject({ finished: 1 })
})

test('concurrency limits how many handlers run at once', async () => {
  let running = 0
  let most = 0
  const job = defineJob({
    id: 'counted',
    async run() {
      most = Math.max(most, ++running)
      await new Promise(setImmediate)
      running--
    },
  })
  const own = createIzta({ database, jobs: [job], clock, log })
  await own.enqueueMany(Array.from({ length: 12 }, () => [job] as const))
  await drain(own, { concurrency: 3 })
  expect(most).toBe(3)
})

test('schedules: true turns due slots into tasks first', async () => {
  const ratio = { numerator: 1, denominator: 4 }
  const hourly = defineSchedule({ name: 'hourly', job: divide, payload: ratio, every: { hours: 1 } })
  const own = createIzta({ database, jobs: [divide], schedules: [hourly], clock, log })
  await drain(own)
  expect(await own.schedules.list()).toEqual([])
  await drain(own, { schedules: true })
  await clock.advance({ hours: 1 })
  expect(await drain(own, { schedules: true })).toMatchObject({ finished: 1 })
})

test('unknown and impossible options are refused', async () => {
  await expect(drain(izta, { parallel: 2 } as never)).rejects.toThrow(OptionError)
  await expect(drain(izta, { concurrency: 0 })).rejects.toThrow(OptionError)
})

test('work that outlasts a run goes on in another, and the summary is of both', async () => {
  const slow = defineJob({
    id: 'slow',
    timeoutSeconds: 60,
    // Longer together than the 180 s that one run may take.
    run: () => clock.advance({ seconds: 50 }),
  })
  const own = createIzta({ database, jobs: [slow], clock, log })
  await own.enqueueMany(
    slow,
    Array.from({ length: 8 }, () => undefined),
  )
  expect(await drain(own, { concurrency: 1 })).toMatchObject({ finished: 8, stuck: [], more: false })
})

test('a handler that never ends is told, since its work is left', async () => {
  const stuck = defineJob({ id: 'stuck', timeoutSeconds: 1, run: () => new Promise(() => {}) })
  const other = await testDatabase()
  const own = createIzta({ database: other.database, jobs: [stuck], log })
  const { id } = await own.enqueue(stuck)
  await expect(drain(own)).rejects.toMatchObject({
    code: 'drain-stuck',
    message: expect.stringContaining(id) as string,
  })
})
