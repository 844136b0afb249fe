// Runners that wait for a task that is due soon, on a clock that stands still.
import { createIzta, defineJob, type Database, type Logger } from 'izta'
import { createRunnerHandler, createSchedulerHandler } from 'izta/lambda'
import { createTestClock, type TestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { linger, type LingerOptions } from '../../src/runner/linger.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
let clock: TestClock
let answered: PromiseWithResolvers<void>
let statements: number
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const runs: string[] = []
const note = defineJob({
  id: 'note',
  payload: z.string(),
  run: (text) => void runs.push(`${text} ${clock.date.toISOString().slice(11, 19)}`),
})
const woken: string[] = []
const make = () =>
  createIzta({
    database: counting,
    jobs: [note],
    log: quiet,
    clock,
    wake: { wake: (queue) => void woken.push(queue) },
  })

/** Tells when a runner has got its answer about what is due soon. */
const counting: Database = {
  async query(statement) {
    statements++
    const rows = await database.query(statement)
    if (statement.text.includes('set lingers_until')) setImmediate(answered.resolve)
    return rows
  },
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  clock = await createTestClock({ database, at: at('12:00:20') })
  answered = Promise.withResolvers()
  statements = 0
  runs.length = 0
  woken.length = 0
})

const at = (time: string) => new Date(`2030-01-01T${time}Z`)

function waitFor(options: Partial<LingerOptions> = {}): Promise<boolean> {
  const config = configOf(make())
  const deadline = deadlineAfter(clock, 300_000, [])
  return linger(config, {
    queues: [],
    deadline,
    lingerSeconds: 60,
    signal: new AbortController().signal,
    ...options,
  })
}

test('a leaving runner waits for a task that is due soon and starts it on time, without a statement meanwhile', async () => {
  const izta = make()
  await izta.enqueue(note, 'soon', { runAt: at('12:01:10') })
  let ended = false
  const endsAtMs = clock.now() + 300_000
  const running = createRunnerHandler({ izta })(
    {},
    { getRemainingTimeInMillis: () => endsAtMs - clock.now() },
  )
  void running.then(() => (ended = true))
  const advanceUntil = async (isOver: () => boolean) => {
    while (!isOver()) {
      await clock.advance({ milliseconds: 5 })
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  let hasAnswer = false
  void answered.promise.then(() => (hasAnswer = true))
  await advanceUntil(() => hasAnswer)
  const before = statements
  await clock.advanceTo(at('12:01:09'))
  expect([statements, runs]).toEqual([before, []])
  // What the run's own statements took on a clock that moved meanwhile.
  await clock.advanceTo(at('12:01:10.500'))
  while (runs.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect(runs).toEqual(['soon 12:01:10'])
  await advanceUntil(() => ended)
  expect(await running).toMatchObject({ claimed: 1, finished: 1, more: false })
})

test('one runner a queue waits, and the place is free again when the task is due', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'one', { runAt: at('12:00:50') }],
    [note, 'other queue', { runAt: at('12:01:00'), queue: 'other' }],
  ])
  const first = waitFor()
  await answered.promise
  expect(await waitFor({ queues: ['default'] })).toBe(false)
  answered = Promise.withResolvers()
  const second = waitFor()
  await answered.promise
  expect(await waitFor()).toBe(false)
  await clock.advance({ minutes: 1 })
  expect(await Promise.all([first, second])).toEqual([true, true])
  await izta.enqueue(note, 'next', { delaySeconds: 10 })
  answered = Promise.withResolvers()
  const third = waitFor()
  await answered.promise
  expect(await waitFor()).toBe(false)
  await clock.advance({ seconds: 11 })
  expect(await third).toBe(true)
})

test('an earlier task has its own runner beside one that waits longer', async () => {
  const izta = make()
  await izta.enqueue(note, 'late', { delaySeconds: 40 })
  const late = waitFor()
  await answered.promise
  await izta.enqueue(note, 'early', { delaySeconds: 20 })
  answered = Promise.withResolvers()
  const early = waitFor()
  await answered.promise
  await clock.advance({ seconds: 21 })
  expect(await early).toBe(true)
  await clock.advance({ seconds: 20 })
  expect(await late).toBe(true)
})

test.each([
  ['none of its queues is named', { queues: ['other'] }, ''],
  ['it is due too late', { lingerSeconds: 29 }, ''],
  ['waiting is turned off', { lingerSeconds: 0 }, ''],
  ['the invocation ends before', { deadlineSeconds: 34 }, ''],
  ['the queue is paused', {}, `update izta.queue set paused = true`],
  ['it is leased: its runner settles it', {}, 'update izta.task set lease = gen_random_uuid()'],
])(
  'nobody waits for a task when %s',
  async (
    _,
    { deadlineSeconds = 300, ...options }: Partial<LingerOptions> & { deadlineSeconds?: number },
    sql,
  ) => {
    await make().enqueue(note, 'in half a minute', { delaySeconds: 30 })
    await pool.query(sql)
    const deadline = deadlineAfter(clock, deadlineSeconds * 1000, [])
    expect(await waitFor({ deadline, ...options })).toBe(false)
  },
)

test('a runner that is stopped does not wait on', async () => {
  await make().enqueue(note, 'soon', { delaySeconds: 30 })
  const stop = new AbortController()
  const waiting = waitFor({ signal: stop.signal })
  await answered.promise
  stop.abort()
  expect(await waiting).toBe(false)
})

test('a tick wakes the queues whose next task is due before runners stop waiting, once', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'soon', { delaySeconds: 59, queue: 'soon' }],
    [note, 'later', { delaySeconds: 61, queue: 'later' }],
    [note, 'leased', { delaySeconds: 10, queue: 'leased' }],
  ])
  await pool.query(`update izta.task set lease = gen_random_uuid() where queue = 'leased'`)
  const tick = createSchedulerHandler({ izta })
  expect(await tick()).toMatchObject({ woken: ['soon'] })
  const waiting = waitFor({ queues: ['soon'] })
  await answered.promise
  await clock.advance({ seconds: 2 })
  expect(await tick()).toMatchObject({ woken: ['later'] })
  expect(await createSchedulerHandler({ izta, lingerSeconds: 0 })()).toMatchObject({ woken: [] })
  expect(woken).toEqual(['soon', 'later'])
  await clock.advance({ minutes: 1 })
  expect(await waiting).toBe(true)
})
