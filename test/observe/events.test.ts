// Every event, fired for real, with exactly the fields that docs/telemetry.md names; and what log lines say and do not.
import {
  createIzta,
  defineJob,
  defineSchedule,
  startRunner,
  type Izta,
  type IztaEventName,
  type IztaOptions,
} from 'izta'
import { createRunnerHandler, createSchedulerHandler } from 'izta/lambda'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))

const number = expect.any(Number) as number
const taskFields = { taskId: expect.any(String) as string, job: 'job', queue: 'default', attempt: 1 }
const failureFields = { durationMs: number, code: 'thrown', class: 'RangeError', message: 'out of luck' }

/** The fields of each event; the compiler knows whether one is missing. */
const fields: Record<IztaEventName, object> = {
  'task.claimed': { ...taskFields, waitedMs: number },
  'task.started': { ...taskFields, waitedMs: number },
  'task.finished': { ...taskFields, durationMs: number },
  'task.failed': { ...taskFields, ...failureFields },
  'task.retried': { ...taskFields, ...failureFields, delayMs: number },
  'task.released': taskFields,
  'task.deferred': { ...taskFields, delayMs: 5000 },
  'task.cancelled': taskFields,
  'task.lost': { ...taskFields, losses: 1 },
  'task.stuck': taskFields,
  'lease.expired': taskFields,
  'child.skipped': { taskId: taskFields.taskId, job: 'child', key: 'taken' },
  'statement.completed': { durationMs: number, succeeded: true },
  'turn.completed': { claimed: number, settled: number, durationMs: number },
  'runner.health': { healthy: false, stuck: 1, concurrency: 10 },
  'wake.sent': { queue: 'default' },
  'wake.failed': { queue: 'default', message: 'no such function' },
  'schedule.planned': { tasks: number, dropped: number, lagMs: number },
  'tick.completed': { durationMs: number, queues: [] },
}

const fired = new Set<IztaEventName>()

interface Line {
  readonly level: string
  readonly message: string
  readonly facts: Record<string, unknown>
}

function make(jobs: IztaOptions['jobs'], options: Partial<IztaOptions> = {}) {
  const lines: Line[] = []
  const write =
    (level: string) =>
    (message: string, facts: Record<string, unknown> = {}) =>
      void lines.push({ level, message, facts })
  const log = { debug() {}, info: write('info'), warn: write('warn'), error: write('error') }
  const izta = createIzta({ database, jobs, clock, log, ...options })
  const events: { name: IztaEventName; event: unknown }[] = []
  for (const name of Object.keys(fields) as IztaEventName[]) {
    izta.on(name, (event) => events.push({ name, event }))
  }
  const only = (name: IztaEventName) => {
    const found = events.filter((event) => event.name === name).map(({ event }) => event)
    expect(found).toHaveLength(1)
    fired.add(name)
    return found[0]
  }
  return { izta, lines, events, only }
}

const plain = defineJob({ id: 'job', run() {} })
const unlucky = defineJob({
  id: 'job',
  maxAttempts: 1,
  run() {
    throw new RangeError('out of luck')
  },
})

test('a run that succeeds: claimed, started, finished', async () => {
  const { izta, events, only } = make([plain])
  const { id } = await izta.enqueue(plain)
  await clock.advance({ seconds: 2 })
  await drain(izta)
  expect(only('task.claimed')).toEqual({ ...fields['task.claimed'], taskId: id, waitedMs: 2000 })
  expect(only('task.started')).toEqual({ ...fields['task.started'], taskId: id, waitedMs: 2000 })
  expect(only('task.finished')).toEqual({ ...fields['task.finished'], taskId: id })
  const turns = events.filter(({ name }) => name === 'turn.completed').map(({ event }) => event)
  expect(turns).toContainEqual({ claimed: 1, settled: 0, durationMs: 0 })
  expect(turns).toContainEqual({ claimed: 0, settled: 1, durationMs: 0 })
  const statements = events.filter(({ name }) => name === 'statement.completed').map(({ event }) => event)
  expect(statements).toHaveLength(turns.length + 1)
  for (const statement of statements) expect(statement).toEqual(fields['statement.completed'])
  fired.add('turn.completed').add('statement.completed')
})

test('a statement that fails is told too', async () => {
  const { izta, only } = make([plain], { database: { query: () => Promise.reject(new Error('refused')) } })
  await expect(izta.enqueue(plain)).rejects.toThrow('refused')
  expect(only('statement.completed')).toEqual({ durationMs: 0, succeeded: false })
})

test('an attempt that fails while more are left: retried', async () => {
  const twice = defineJob({
    id: 'job',
    backoff: { firstSeconds: 10, jitter: 'none' },
    run() {
      throw new RangeError('out of luck')
    },
  })
  const { izta, only } = make([twice])
  await izta.enqueue(twice)
  await drain(izta)
  expect(only('task.retried')).toEqual({ ...fields['task.retried'], delayMs: 10_000 })
})

test('the last attempt that fails: failed', async () => {
  const { izta, only } = make([unlucky])
  await izta.enqueue(unlucky)
  await drain(izta)
  expect(only('task.failed')).toEqual(fields['task.failed'])
})

test('a task whose handler obeys a stopping runner: released', async () => {
  const started = Promise.withResolvers<void>()
  const job = defineJob({
    id: 'job',
    run: (_, { signal }) =>
      new Promise<void>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error))
        started.resolve()
      }),
  })
  const { izta, only } = make([job])
  await izta.enqueue(job)
  const runner = startRunner(izta)
  await started.promise
  const stopped = runner.stop({ timeoutSeconds: 0 })
  await clock.advance({ seconds: 1 })
  await stopped
  expect(only('task.released')).toEqual(fields['task.released'])
})

test('a handler that ignores its signal: stuck, and the health of its runner', async () => {
  const started = Promise.withResolvers<void>()
  const freed = Promise.withResolvers<void>()
  const job = defineJob({
    id: 'job',
    run() {
      started.resolve()
      return freed.promise
    },
  })
  const { izta, only } = make([job])
  await izta.enqueue(job)
  const runner = startRunner(izta)
  await started.promise
  const stopped = runner.stop({ timeoutSeconds: 0 })
  await clock.advance({ seconds: 30 })
  await stopped
  expect(only('task.stuck')).toEqual(fields['task.stuck'])
  expect(only('runner.health')).toEqual(fields['runner.health'])
  freed.resolve()
})

test('a task of a job whose handler is elsewhere: deferred', async () => {
  const definition = defineJob({ id: 'job' })
  const { izta, only } = make([definition])
  await izta.enqueue(definition)
  await drain(izta)
  expect(only('task.deferred')).toEqual(fields['task.deferred'])
})

test('a task that is to be cancelled: cancelled', async () => {
  const { izta, only } = make([plain])
  await izta.enqueue(plain)
  await pool.query('update izta.task set cancel = true')
  await drain(izta)
  expect(only('task.cancelled')).toEqual(fields['task.cancelled'])
})

test('a task whose process died: lost', async () => {
  const { izta, only } = make([plain])
  await izta.enqueue(plain)
  await pool.query('update izta.task set lease = gen_random_uuid()')
  await drain(izta)
  expect(only('task.lost')).toEqual(fields['task.lost'])
})

test('an outcome that comes too late: lease.expired', async () => {
  const slow = defineJob({
    id: 'job',
    run: async () =>
      void (await pool.query('update izta.task set lease = gen_random_uuid(), claims = claims + 1')),
  })
  const { izta, only, lines } = make([slow])
  const { id } = await izta.enqueue(slow)
  await drain(izta)
  expect(only('lease.expired')).toEqual(fields['lease.expired'])
  expect(lines.at(-1)?.facts).toEqual({ task: id, job: 'job', queue: 'default', attempt: 1 })
})

test('a child whose key is held: skipped', async () => {
  const child = defineJob({ id: 'child' })
  const parent = defineJob({ id: 'job', run: (_, ctx) => ctx.enqueue(child, undefined, { key: 'taken' }) })
  const { izta, only } = make([parent, child])
  await izta.enqueue(child, undefined, { key: 'taken', delaySeconds: 60 })
  await izta.enqueue(parent)
  await drain(izta)
  expect(only('child.skipped')).toEqual(fields['child.skipped'])
})

test('a wake that is taken: sent; one that is not: failed', async () => {
  const taken = make([plain], { wake: { wake() {} } })
  await taken.izta.enqueue(plain)
  expect(taken.only('wake.sent')).toEqual(fields['wake.sent'])
  await pool.query("update izta.queue set woken_at = '-infinity'")
  const failing = make([plain], { wake: { wake: () => Promise.reject(new Error('no such function')) } })
  await failing.izta.enqueue(plain)
  expect(failing.only('wake.failed')).toEqual(fields['wake.failed'])
})

test('a tick that makes tasks of slots: planned, with how late it comes; and completed', async () => {
  const hourly = defineSchedule({ name: 'hourly', job: plain, cron: '@hourly' })
  const { izta, only, events } = make([plain], { schedules: [hourly] })
  const tick = createSchedulerHandler({ izta })
  await tick()
  expect(only('tick.completed')).toEqual(fields['tick.completed'])
  events.length = 0
  // Two slots pass in an outage: the later one replaces the task of the other, which was made ahead.
  await clock.advanceTo(new Date(Math.ceil(clock.now() / 3_600_000 + 1) * 3_600_000 + 90_000))
  await izta.queues.pause('stopped')
  await izta.enqueue(plain, undefined, { queue: 'stopped' })
  events.length = 0
  await tick()
  expect(only('schedule.planned')).toEqual({ ...fields['schedule.planned'], tasks: 2, lagMs: 90_000 })
  expect(only('tick.completed')).toEqual({
    durationMs: 0,
    queues: [
      { queue: 'default', paused: false, due: 1, oldestDueMs: 90_000 },
      { queue: 'stopped', paused: true, due: 1, oldestDueMs: 0 },
    ],
  })
})

test('every event has been fired by the tests above', () => {
  expect(Object.keys(fields).filter((name) => !fired.has(name as IztaEventName))).toEqual([])
})

/** What a failed task has left in the log. */
async function failureLine(izta: Izta, lines: Line[]): Promise<Line | undefined> {
  await drain(izta)
  return lines.find(({ message }) => message === 'task failed')
}

test('the line of a failed task has its facts and what was thrown', async () => {
  const { izta, lines } = make([unlucky])
  const { id } = await izta.enqueue(unlucky)
  expect(await failureLine(izta, lines)).toEqual({
    level: 'error',
    message: 'task failed',
    facts: {
      task: id,
      job: 'job',
      queue: 'default',
      attempt: 1,
      code: 'thrown',
      class: 'RangeError',
      error: 'out of luck',
    },
  })
})

test('without logMessages it has the code and the class only', async () => {
  const { izta, lines } = make([unlucky], { logMessages: false })
  await izta.enqueue(unlucky)
  const line = await failureLine(izta, lines)
  expect(line?.facts).toMatchObject({ code: 'thrown', class: 'RangeError' })
  expect(line?.facts).not.toHaveProperty('error')
})

const secret = 'correct-horse-battery-staple'
test.each([
  [
    'a declared error',
    'declared',
    defineJob({
      id: 'job',
      error: z.object({ token: z.string() }),
      run: (_, ctx) => ctx.fail({ token: secret }, { retry: false }),
    }),
  ],
  ['a refused payload', 'payload-refused', defineJob({ id: 'job', payload: z.literal('other'), run() {} })],
  [
    'a refused result',
    'result-refused',
    defineJob({ id: 'job', maxAttempts: 1, result: z.literal('other'), run: () => secret as 'other' }),
  ],
])('%s is not quoted in the log', async (_, code, job) => {
  const stored = defineJob({ id: 'job', payload: z.string() })
  await make([stored]).izta.enqueue(stored, secret, { maxAttempts: 1 })
  // Deployed since: the same id, another job.
  const { izta, lines } = make([job])
  expect((await failureLine(izta, lines))?.facts).toMatchObject({ code })
  expect(JSON.stringify(lines)).not.toContain(secret)
})

test('every line of an invocation has its id, whoever writes it, and no other line', async () => {
  const chatty = defineJob({
    id: 'job',
    async run(_, { log }) {
      log.info('halfway')
      await Promise.resolve()
      throw new RangeError('out of luck')
    },
  })
  const { izta, lines } = make([chatty], {
    wake: { wake: () => Promise.reject(new Error('no such function')) },
  })
  await izta.enqueue(chatty, undefined, { maxAttempts: 1 })
  expect(lines.map(({ facts }) => facts['invocation'])).toEqual([undefined])
  lines.length = 0
  const context = (awsRequestId: string) => ({ awsRequestId, getRemainingTimeInMillis: () => 300_000 })
  await createSchedulerHandler({ izta })({}, context('of-the-tick'))
  const done = createRunnerHandler({ izta, lingerSeconds: 0 })({}, context('of-the-run'))
  await untilDone(done)
  expect(lines.map(({ message }) => message)).toEqual(
    expect.arrayContaining(['halfway', 'task failed', 'a runner leaves']),
  )
  for (const { facts } of lines) expect(['of-the-tick', 'of-the-run']).toContain(facts['invocation'])
  expect(lines.find(({ message }) => message === 'halfway')?.facts).toMatchObject({
    invocation: 'of-the-run',
    job: 'job',
    queue: 'default',
    attempt: 1,
  })
})

/** Moves the clock on, by which an invocation waits before its last look. */
async function untilDone(done: Promise<unknown>): Promise<void> {
  let isDone = false
  void done.finally(() => (isDone = true))
  while (!isDone) {
    await new Promise(setImmediate)
    await clock.advance({ milliseconds: 50 })
  }
  await done
}
