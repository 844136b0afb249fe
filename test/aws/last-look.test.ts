// The last look of a runner, and the wait for a task that is due soon, on a clock that stands still.
import { createIzta, DatabaseError, defineJob, type Database, type Logger } from 'izta'
import { createRunnerHandler, createSchedulerHandler, type RunnerHandlerOptions } from 'izta/lambda'
import { createTestClock, type TestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { lastLook, type LastLook, type LastLookOptions } from '../../src/runner/leave.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
let clock: TestClock
let answered: PromiseWithResolvers<void>
/** What was said to the database. */
const sent: string[] = []
/** What happens before or after a statement, before its answer arrives. */
let meddle: { before?: (kind: string) => unknown; after?: (kind: string) => unknown }
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
    wake: { wake: (queue, hops) => void woken.push(`${queue} ${hops}`) },
  })

const kinds = [
  ['turn', 'izta.turn_1'],
  ['look', 'set lingers_until'],
] as const

/** Tells when a runner has got its answer about what is due soon. */
const counting: Database = {
  async query(statement) {
    const kind = kinds.find(([, text]) => statement.text.includes(text))?.[0]
    if (kind === undefined) return database.query(statement)
    sent.push(kind)
    await meddle.before?.(kind)
    const rows = await database.query(statement)
    await meddle.after?.(kind)
    if (kind === 'look') setImmediate(answered.resolve)
    return rows
  },
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  clock = await createTestClock({ database, at: at('12:00:20') })
  answered = Promise.withResolvers()
  sent.length = 0
  meddle = {}
  runs.length = 0
  woken.length = 0
})

const at = (time: string) => new Date(`2030-01-01T${time}Z`)

/** Moves on to the last look; the answer comes when a task is due, or nobody waits. */
async function waitFor(
  options: Partial<LastLookOptions> = {},
): Promise<{ readonly answer: Promise<LastLook> }> {
  const config = configOf(make())
  const deadline = deadlineAfter(clock, 300_000, [])
  const answer = lastLook(config, {
    queues: [],
    deadline,
    lingerSeconds: 60,
    signal: new AbortController().signal,
    ...options,
  })
  await clock.advance({ milliseconds: 50 })
  return { answer }
}

/** An invocation; `until` moves the clock on in small steps. */
function invoke(options: Partial<RunnerHandlerOptions> = {}, remainingSeconds = 300) {
  const endsAtMs = clock.now() + remainingSeconds * 1000
  let ended = false
  const handler = createRunnerHandler({ izta: make(), ...options })
  const done = handler({ hops: 2 }, { getRemainingTimeInMillis: () => endsAtMs - clock.now() })
  void done.finally(() => (ended = true)).catch(() => {})
  const until = async (isOver: () => boolean) => {
    while (!isOver()) {
      // oxlint-disable no-await-in-loop -- one step after the other
      await clock.advance({ milliseconds: 5 })
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  return { until, end: () => until(() => ended).then(() => done) }
}

test('a leaving runner waits for a task that is due soon and starts it on time, without a statement meanwhile', async () => {
  const izta = make()
  await izta.enqueue(note, 'soon', { runAt: at('12:01:10') })
  const { until, end } = invoke()
  let hasAnswer = false
  void answered.promise.then(() => (hasAnswer = true))
  await until(() => hasAnswer)
  const before = sent.length
  await clock.advanceTo(at('12:01:09'))
  expect([sent.length, runs]).toEqual([before, []])
  // What the run's own statements took on a clock that moved meanwhile.
  await clock.advanceTo(at('12:01:10.500'))
  while (runs.length === 0) await new Promise((resolve) => setImmediate(resolve))
  expect(runs).toEqual(['soon 12:01:10'])
  expect(await end()).toMatchObject({ claimed: 1, finished: 1, more: false })
})

test.each([60, 0])(
  'what was enqueued as the last claim came back empty is found by the last look, with lingerSeconds %i',
  async (lingerSeconds) => {
    meddle.after = async () => {
      // As if it had seen the mark before it was cleared: nobody hears its wake.
      if (sent.length === 1) await make().enqueue(note, 'just in time')
    }
    const { end } = invoke({ lingerSeconds })
    expect(await end()).toMatchObject({ claimed: 1, finished: 1, more: false })
    expect(sent).toEqual(['turn', 'look', 'turn', 'turn', 'look'])
  },
)

test.each([
  [20, ['turn', 'turn', 'look']],
  [0, ['turn', 'look']],
])('an invocation with %i instant tasks sends %j', async (tasks, expected) => {
  const texts = Array.from({ length: tasks }, (_, n) => `${n}`)
  await createIzta({ database, jobs: [note], clock }).enqueueMany(note, texts)
  const { end } = invoke({ concurrency: 50 })
  expect(await end()).toMatchObject({ finished: tasks, more: false })
  expect(sent).toEqual(expected)
})

test('a due task that somebody else holds a lock on is not waited for, and hides none that is due soon', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'locked'],
    [note, 'soon', { delaySeconds: 20 }],
  ])
  const other = await pool.connect()
  await other.query(`begin; select from izta.task where payload #>> '{}' = 'locked' for update`)
  const { until, end } = invoke()
  await until(() => runs.length === 1)
  const looksMeanwhile = sent.filter((kind) => kind === 'look').length
  await other.query('rollback')
  other.release()
  expect(runs).toEqual(['soon 12:00:40'])
  expect(looksMeanwhile).toBe(1)
  expect(await end()).toMatchObject({ claimed: 2, finished: 2, more: false })
})

test('a task that is cancelled while a runner waits for it does not keep the next from its time', async () => {
  const izta = make()
  const first = await izta.enqueue(note, 'cancelled', { delaySeconds: 20 })
  await izta.enqueue(note, 'next', { delaySeconds: 40 })
  const { until, end } = invoke()
  await until(() => sent.includes('look'))
  await izta.cancel(first.id)
  expect(await end()).toMatchObject({ claimed: 1, finished: 1 })
  expect(runs).toEqual(['next 12:01:00'])
})

test('a claim that comes a little early, since clocks drift, is made again', async () => {
  await make().enqueue(note, 'soon', { delaySeconds: 20 })
  const { until, end } = invoke()
  let hasAnswer = false
  void answered.promise.then(() => (hasAnswer = true))
  await until(() => hasAnswer)
  const turns = sent.filter((kind) => kind === 'turn').length
  const claimed = Promise.withResolvers<void>()
  meddle.before = () => pool.query(`update izta.test_clock set at = '2030-01-01T12:00:39.99Z'`)
  meddle.after = () => claimed.resolve()
  await clock.advanceTo(at('12:00:41'))
  await claimed.promise
  expect([sent.filter((kind) => kind === 'turn').length, runs]).toEqual([turns + 1, []])
  meddle = {}
  expect(await end()).toMatchObject({ claimed: 1, finished: 1 })
})

test('what is stored while another task runs is found a pause later, not when that has ended', async () => {
  const gate = Promise.withResolvers<void>()
  const gated = defineJob({ id: 'gated', run: () => gate.promise })
  const izta = createIzta({ database: counting, jobs: [note, gated], log: quiet, clock })
  await izta.enqueue(gated)
  const startedAtMs = clock.now()
  meddle.after = async () => {
    // The answer to the first empty claim is on its way, and the mark is cleared.
    if (sent.length === 2) await make().enqueue(note, 'meanwhile')
  }
  const { until, end } = invoke({ izta })
  await until(() => runs.length === 1)
  expect(clock.now() - startedAtMs).toBeLessThan(1000)
  gate.resolve()
  expect(await end()).toMatchObject({ finished: 2 })
})

test('when the last look fails a successor looks', async () => {
  meddle.before = (kind) => {
    if (kind === 'look') throw new DatabaseError('database-refused', 'no', {})
  }
  expect(await invoke().end()).toMatchObject({ claimed: 0, more: true })
  expect(woken).toEqual(['* 3'])
})

test('what the last look finds past the last claim is left to a successor', async () => {
  meddle.after = () => make().enqueue(note, 'too late for this one')
  // The job's timeout, the time to stop, and less than the pause before the last look.
  const { end } = invoke({}, 65.03)
  expect(await end()).toMatchObject({ claimed: 0, more: true })
  expect(woken.at(-1)).toBe('* 3')
})

test('one runner a queue waits, and the place is free again when the task is due', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'one', { runAt: at('12:00:50') }],
    [note, 'other queue', { runAt: at('12:01:00'), queue: 'other' }],
  ])
  const { answer: first } = await waitFor()
  await answered.promise
  expect(await (await waitFor({ queues: ['default'] })).answer).toBe('nothing')
  answered = Promise.withResolvers()
  const { answer: second } = await waitFor()
  await answered.promise
  expect(await (await waitFor()).answer).toBe('nothing')
  await clock.advance({ minutes: 1 })
  expect(await Promise.all([first, second])).toEqual(['due', 'due'])
  await pool.query('delete from izta.task')
  await izta.enqueue(note, 'next', { delaySeconds: 10 })
  answered = Promise.withResolvers()
  const { answer: third } = await waitFor()
  await answered.promise
  expect(await (await waitFor()).answer).toBe('nothing')
  await clock.advance({ seconds: 11 })
  expect(await third).toBe('due')
})

test('an earlier task has its own runner beside one that waits longer', async () => {
  const izta = make()
  await izta.enqueue(note, 'late', { delaySeconds: 40 })
  const { answer: late } = await waitFor()
  await answered.promise
  await izta.enqueue(note, 'early', { delaySeconds: 20 })
  answered = Promise.withResolvers()
  const { answer: early } = await waitFor()
  await answered.promise
  await clock.advance({ seconds: 21 })
  expect(await early).toBe('due')
  await clock.advance({ seconds: 20 })
  expect(await late).toBe('due')
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
    { deadlineSeconds = 300, ...options }: Partial<LastLookOptions> & { deadlineSeconds?: number },
    sql,
  ) => {
    await make().enqueue(note, 'in half a minute', { delaySeconds: 30 })
    await pool.query(sql)
    const deadline = deadlineAfter(clock, deadlineSeconds * 1000, [])
    expect(await (await waitFor({ deadline, ...options })).answer).toBe('nothing')
  },
)

test('a runner that is stopped does not wait on', async () => {
  await make().enqueue(note, 'soon', { delaySeconds: 30 })
  const stop = new AbortController()
  const { answer: waiting } = await waitFor({ signal: stop.signal })
  await answered.promise
  stop.abort()
  expect(await waiting).toBe('unknown')
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
  const { answer: waiting } = await waitFor({ queues: ['soon'] })
  await answered.promise
  await clock.advance({ seconds: 2 })
  expect(await tick()).toMatchObject({ woken: ['later'] })
  expect(await createSchedulerHandler({ izta, lingerSeconds: 0 })()).toMatchObject({ woken: [] })
  expect(woken).toEqual(['soon 0', 'later 0'])
  await clock.advance({ minutes: 1 })
  expect(await waiting).toBe('due')
})
