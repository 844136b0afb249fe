import {
  createIzta,
  defineJob,
  defineSchedule,
  type Clock,
  type Database,
  type IztaOptions,
  type Logger,
} from 'izta'
import { createRunnerHandler, createSchedulerHandler } from 'izta/lambda'
import { createTestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))

/** They would fail the file for a rejection that is meant. */
const testRunners = process.listeners('unhandledRejection')

interface Line {
  readonly message: string
  readonly facts: Record<string, unknown>
}

function recordingLogger(lines: Line[] = []): Logger & { lines: Line[] } {
  const write = (message: string, facts: Record<string, unknown> = {}) => void lines.push({ message, facts })
  return { debug() {}, info() {}, warn: write, error: write, lines }
}

const make = (options: Omit<IztaOptions, 'database'> & { database?: Database }) =>
  createIzta({ database, log: recordingLogger(), ...options })

const minutes = (count: number) => ({ getRemainingTimeInMillis: () => count * 60_000 })

const echo = defineJob({ id: 'echo', payload: z.string(), result: z.string(), run: (text) => text })

/** What EventBridge Scheduler sends when no input is configured. */
const schedulerEvent = {
  version: '0',
  id: '53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa',
  'detail-type': 'Scheduled Event',
  source: 'aws.scheduler',
  time: '2026-11-24T02:00:00Z',
  detail: '{}',
}

test.each([
  ['a wake', { queue: 'default', hops: 2 }],
  ['a tick of EventBridge Scheduler', schedulerEvent],
  ['nothing', {}],
  ['null', null],
  ['text', 'now'],
  ['hops that are no number', { hops: 'many' }],
])('any event starts a run: %s', async (_, event) => {
  const izta = make({ jobs: [echo] })
  const { id } = await izta.enqueue(echo, 'hello')
  const summary = await createRunnerHandler({ izta })(event, minutes(5))
  expect(summary).toMatchObject({ claimed: 1, finished: 1, stuck: [], more: false })
  expect(await izta.get(echo, id)).toMatchObject({ status: 'finished', result: 'hello' })
})

test('the same trigger twice runs a task once', async () => {
  const runs: string[] = []
  const note = defineJob({ id: 'note', payload: z.string(), run: (text) => void runs.push(text) })
  const izta = make({ jobs: [note] })
  const handler = createRunnerHandler({ izta })
  await izta.enqueue(note, 'once')
  await handler({ queue: 'default', hops: 0 }, minutes(5))
  await handler({ queue: 'default', hops: 0 }, minutes(5))
  expect(runs).toEqual(['once'])
})

test('ten runners on one queue at once run nothing twice and leave nothing', async () => {
  const runs: number[] = []
  const count = defineJob({ id: 'count', payload: z.int(), run: (n) => void runs.push(n) })
  const izta = make({ jobs: [count] })
  const numbers = Array.from({ length: 500 }, (_, n) => n)
  await izta.enqueueMany(count, numbers)
  const handlers = Array.from({ length: 10 }, () => createRunnerHandler({ izta: make({ jobs: [count] }) }))
  const summaries = await Promise.all(handlers.map((handler) => handler({}, minutes(5))))
  expect(runs.toSorted((a, b) => a - b)).toEqual(numbers)
  expect(summaries.reduce((sum, { finished }) => sum + finished, 0)).toBe(500)
})

test('a runner claims from its queues only', async () => {
  const izta = make({ jobs: [echo] })
  const [mine, other] = await Promise.all([
    izta.enqueue(echo, 'mine', { queue: 'mine' }),
    izta.enqueue(echo, 'other', { queue: 'other' }),
  ])
  await createRunnerHandler({ izta, queues: ['mine'] })({}, minutes(5))
  expect(await izta.get(echo, mine.id)).toMatchObject({ status: 'finished' })
  expect(await izta.get(echo, other.id)).toMatchObject({ status: 'pending' })
})

test('a light invocation makes three calls, and once an hour a fourth that prunes', async () => {
  const calls: string[] = []
  const counting: Database = {
    query(statement) {
      calls.push(/turn|prune/.exec(statement.text)?.[0] ?? statement.text)
      return database.query(statement)
    },
  }
  let skippedMs = 0
  const clock: Clock = {
    now: () => performance.now() + skippedMs,
    after(ms, callback) {
      const timer = setTimeout(callback, ms)
      return () => clearTimeout(timer)
    },
  }
  const handler = createRunnerHandler({
    izta: make({ jobs: [echo], database: counting, clock }),
    lingerSeconds: 0,
  })
  const izta = make({ jobs: [echo] })
  const callsOfOne = async () => {
    await izta.enqueue(echo, 'hello')
    calls.length = 0
    expect(await handler({}, minutes(5))).toMatchObject({ finished: 1 })
    return calls.join(' ')
  }
  expect(await callsOfOne()).toBe('turn turn turn prune')
  expect(await callsOfOne()).toBe('turn turn turn')
  skippedMs = 3_600_000
  expect(await callsOfOne()).toBe('turn turn turn prune')
})

test('wakes that a run has sent are awaited before the process may freeze', async () => {
  const taken = Promise.withResolvers<void>()
  const sent: string[] = []
  const wake = { wake: (queue: string) => (sent.push(queue), taken.promise) }
  const parent = defineJob({
    id: 'parent',
    run: (_, ctx) => ctx.enqueue(echo, 'child', { queue: 'children' }),
  })
  const izta = make({ jobs: [parent, echo], wake })
  await make({ jobs: [parent] }).enqueue(parent, undefined, { queue: 'parents' })
  let ended = false
  const running = createRunnerHandler({ izta, queues: ['parents'] })({}, minutes(5)).then(
    () => (ended = true),
  )
  while (sent.length === 0) await new Promise((resolve) => setImmediate(resolve))
  await pool.query('select pg_sleep(0.2)')
  expect(ended).toBe(false)
  taken.resolve()
  await running
  expect(sent).toEqual(['children'])
})

test('a rejection that nobody handles is logged and blames no task', async () => {
  const log = recordingLogger()
  const careless = defineJob({
    id: 'careless',
    run: async () => {
      void Promise.reject(new Error('forgotten'))
      await new Promise((resolve) => setImmediate(resolve))
    },
  })
  const izta = make({ jobs: [careless], log })
  const { id } = await izta.enqueue(careless)
  for (const listener of testRunners) process.off('unhandledRejection', listener)
  try {
    await createRunnerHandler({ izta })({}, minutes(5))
  } finally {
    for (const listener of testRunners) process.on('unhandledRejection', listener)
  }
  expect(await izta.get(careless, id)).toMatchObject({ status: 'finished', errors: [] })
  expect(log.lines).toContainEqual({
    message: expect.stringContaining('nobody handled it'),
    facts: expect.objectContaining({ error: 'forgotten' }),
  })
})

test('a long job of another queue does not stop a runner; its task in this queue is deferred, and only it', async () => {
  const feed = defineJob({ id: 'feed', queue: 'feeds', timeoutSeconds: 20, run: () => {} })
  const report = defineJob({ id: 'report', timeoutSeconds: 290, run: () => {} })
  const log = recordingLogger()
  const izta = make({ jobs: [feed, report], log })
  await izta.enqueue(report, undefined, { queue: 'feeds' })
  await izta.enqueue(feed)
  const handler = createRunnerHandler({ izta, queues: ['feeds'], lingerSeconds: 0 })
  expect(await handler({}, minutes(2))).toMatchObject({ finished: 1, released: 1, more: false })
  expect(log.lines.map(({ message }) => message)).toEqual([
    "the job is of another queue, and its timeout does not fit into this runner's time: the task waits",
  ])
  await expect(createRunnerHandler({ izta, queues: ['default'] })({}, minutes(2))).rejects.toThrow(
    'Job "report" may run 290 s',
  )
})

test('a job whose timeout does not fit into the invocation is an error that names both', async () => {
  const slow = defineJob({ id: 'slow', timeoutSeconds: 290, run: () => {} })
  const izta = make({ jobs: [slow] })
  const { id } = await izta.enqueue(slow)
  const running = createRunnerHandler({ izta })({}, { getRemainingTimeInMillis: () => 292_000 })
  await expect(running).rejects.toThrow(/"slow" may run 290 s.*292 s/s)
  expect(await izta.get(slow, id)).toMatchObject({ status: 'pending' })
})

test('a job without its handler bounds no invocation, and is told of once', async () => {
  const elsewhere = defineJob({ id: 'elsewhere', timeoutSeconds: 3600 })
  const log = recordingLogger()
  const handler = createRunnerHandler({ izta: make({ jobs: [echo, elsewhere], log }) })
  await handler({}, minutes(5))
  await handler({}, minutes(5))
  expect(log.lines).toEqual([
    { message: expect.stringContaining('no handler'), facts: { jobs: ['elsewhere'] } },
  ])
})

test('options of the handler are checked', () => {
  const izta = make({ jobs: [] })
  expect(() => createRunnerHandler({ izta, concurrency: 0 })).toThrow('option "concurrency"')
  expect(() => createRunnerHandler({ izta, queues: ['a b'] })).toThrow('option "queues.0"')
  expect(() => createRunnerHandler({ izta, timeout: 1 } as never)).toThrow('unknown option "timeout"')
  expect(() => createRunnerHandler({} as never)).toThrow('createIzta')
})

const timed = await testDatabase()

test('a handler that ignores its signal ends the process last of all, when everything else is settled', async () => {
  const clock = await createTestClock({ database: timed.database })
  const steps: string[] = []
  const recording: Database = {
    query(statement) {
      if (statement.text.includes('turn')) steps.push('turn')
      return timed.database.query(statement)
    },
  }
  const deaf = Promise.withResolvers<void>()
  const started = Promise.withResolvers<void>()
  const ignores = defineJob({
    id: 'ignores',
    timeoutSeconds: 10,
    run() {
      started.resolve()
      return deaf.promise
    },
  })
  const heeds = defineJob({
    id: 'heeds',
    timeoutSeconds: 60,
    run: (_, { signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  })
  const izta = make({ jobs: [ignores, heeds, echo], database: recording, clock })
  const exits: number[] = []
  const handler = createRunnerHandler({
    izta,
    exit: (code) => {
      exits.push(code)
      steps.push('exit')
    },
  })
  const { id } = await izta.enqueue(ignores)
  const other = await izta.enqueue(heeds)
  const endsAtMs = clock.now() + 300_000
  const running = handler({}, { getRemainingTimeInMillis: () => endsAtMs - clock.now() })
  await started.promise
  await clock.advance({ seconds: 15 })
  const late = await izta.enqueue(echo, 'too late for this process')
  await clock.advance({ seconds: 50 })
  expect(exits).toEqual([])
  expect(await running).toMatchObject({ stuck: [id], retried: 2 })
  expect(exits).toEqual([1])
  expect(steps.at(-1)).toBe('exit')
  const attempt = await izta.get(ignores, id)
  expect(attempt).toMatchObject({ status: 'failing', code: 'timeout', attempt: 1, losses: 0 })
  // Not before this process is surely gone.
  expect(attempt?.dueAt.getTime()).toBeGreaterThanOrEqual(endsAtMs)
  expect(await izta.get(heeds, other.id)).toMatchObject({ status: 'failing', code: 'timeout' })
  expect(await izta.get(echo, late.id)).toMatchObject({ status: 'pending' })

  const again = await handler({}, { getRemainingTimeInMillis: () => 300_000 })
  expect(again).toMatchObject({ claimed: 0, stuck: [id], more: true })
  expect(exits).toEqual([1, 1])
  deaf.resolve()
})

test('two ticks at once make one task of a slot', async () => {
  const other = await testDatabase()
  const clock = await createTestClock({ database: other.database })
  const hourly = defineSchedule({ name: 'hourly', job: echo, payload: 'tick', cron: '0 * * * *' })
  const handlers = Array.from({ length: 2 }, () =>
    createSchedulerHandler({
      izta: make({ jobs: [echo], schedules: [hourly], database: other.database, clock }),
    }),
  )
  await make({ jobs: [echo], schedules: [hourly], database: other.database, clock }).migrate()
  await clock.advance({ minutes: 59 })
  const summaries = await Promise.all(handlers.map((handler) => handler(schedulerEvent, {})))
  expect(summaries.reduce((sum, { made }) => sum + made, 0)).toBe(1)
  expect(await handlers[0]?.()).toEqual({ made: 0, woken: [], pruned: 0 })
})
