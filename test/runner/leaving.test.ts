// Timeouts, the deadline, and handlers that ignore their signals.
import { createIzta, defineJob, type Izta, type JobContext } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import type { RunOptions } from '../../src/runner/run.ts'
import { startRun } from '../../src/runner/runner.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

/** How a handler reacts to its signal. */
type Habit = 'obeys' | 'ignores' | 'returns' | 'instant'

/** A job whose handlers behave as their payload says; `started` resolves when so many have begun. */
function behaving(options: { timeoutSeconds?: number; maxAttempts?: number } = {}) {
  const begun: string[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const freed = Promise.withResolvers<void>()
  const job = defineJob({
    id: 'behaving',
    payload: z.enum(['obeys', 'ignores', 'returns', 'instant']),
    result: z.string().optional(),
    timeoutSeconds: options.timeoutSeconds ?? 60,
    maxAttempts: options.maxAttempts ?? 3,
    backoff: { firstSeconds: 0 },
    async run(habit: Habit, ctx) {
      begun.push(ctx.task.id)
      for (const one of waiting) if (begun.length >= one.count) one.resolve()
      if (habit === 'instant') return 'at once'
      if (habit === 'ignores') return freed.promise.then(() => 'at last')
      await aborted(ctx)
      if (habit === 'returns') return `in spite of ${(ctx.signal.reason as { code: string }).code}`
      throw ctx.signal.reason
    },
  })
  const started = (count: number) =>
    new Promise<void>((resolve) => {
      if (begun.length >= count) resolve()
      else waiting.push({ count, resolve })
    })
  const izta = createIzta({ database, jobs: [job], clock, log })
  return { job, izta, started, begun, freed }
}

const aborted = ({ signal }: JobContext<never> | { signal: AbortSignal }) =>
  new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))

function invoke(izta: Izta, remainingSeconds: number, options: Partial<RunOptions> = {}) {
  const config = configOf(izta)
  const deadline = deadlineAfter(clock, remainingSeconds * 1000, config.jobs.values())
  const capacity = options.capacity ?? new Capacity(10)
  return {
    capacity,
    run: startRun({ config, queues: [], capacity, deadline, whenIdle: 'leave', hops: 0, ...options }),
  }
}

/** After a claim that brought something: moves on until the next one has brought nothing. */
async function untilExhausted(izta: Izta): Promise<void> {
  const answered = Promise.withResolvers<unknown>()
  const off = izta.on('turn.completed', answered.resolve)
  await new Promise(setImmediate)
  await clock.advance({ milliseconds: 50 })
  await answered.promise
  off()
  await new Promise(setImmediate)
}

/** Earlier than any timeout, as after a claim whose answer took its time. */
const nearDeadline = (stopInSeconds: number) => ({
  claimUntilMs: clock.now() + 1000,
  stopAtMs: clock.now() + stopInSeconds * 1000,
  leaveAtMs: clock.now() + stopInSeconds * 1000 + 3000,
  endsAtMs: clock.now() + stopInSeconds * 1000 + 5000,
})

const rows = async () => (await pool.query('select * from izta.task order by id')).rows

test('a handler that stops at its timeout has failed with code timeout, also when it returns something', async () => {
  const { izta, job, started } = behaving({ maxAttempts: 1 })
  const tasks = await izta.enqueueMany(job, ['obeys', 'returns'])
  const done = drain(izta)
  await started(2)
  await clock.advance({ seconds: 60 })
  expect(await done).toMatchObject({ failed: 2, stuck: [] })
  for (const { id } of tasks) {
    // oxlint-disable-next-line no-await-in-loop -- two
    expect(await izta.get(job, id)).toMatchObject({ status: 'failed', code: 'timeout', attempt: 1 })
  }
})

test('the signal’s reason says why', async () => {
  const { izta, job, started } = behaving()
  const reasons: unknown[] = []
  const telling = defineJob({
    id: 'telling',
    timeoutSeconds: 20,
    maxAttempts: 1,
    async run(_, ctx) {
      await aborted(ctx)
      reasons.push((ctx.signal.reason as { code: string }).code, ctx.remainingMs())
    },
  })
  const both = createIzta({ database, jobs: [job, telling], clock, log })
  await both.enqueue(telling)
  const { id } = await izta.enqueue(job, 'returns')
  const { run } = invoke(both, 900, { deadline: nearDeadline(30), whenIdle: 'leave' })
  await started(1)
  await clock.advance({ seconds: 30 })
  await run.done
  expect(reasons).toEqual(['timeout', 0])
  expect(await izta.get(job, id)).toMatchObject({ result: 'in spite of deadline' })
})

test('a handler that ignores its timeout: nothing more is claimed, the rest settles, its retry waits for the lease', async () => {
  const { izta, job, started, freed, begun } = behaving({ timeoutSeconds: 60 })
  const [stuck] = await izta.enqueueMany(job, ['ignores', 'instant', 'instant'])
  const stuckTasks: string[] = []
  const { run, capacity } = invoke(izta, 900, { onStuck: ({ id }) => stuckTasks.push(id) })
  await started(3)
  const leaseEndsAt = clock.now() + 900_000 + 2000
  await clock.advance({ seconds: 65 })
  await izta.enqueue(job, 'instant')
  const summary = await run.done
  expect(summary).toMatchObject({ finished: 2, retried: 1, stuck: [stuck?.id] })
  expect(begun).toHaveLength(3)
  expect(stuckTasks).toEqual([stuck?.id])
  expect([...capacity.running]).toEqual([stuck?.id])
  const [retried] = await rows()
  expect(retried).toMatchObject({ id: stuck?.id, attempt: 1, losses: 0, lease: null })
  expect(retried.run_at.getTime()).toBeGreaterThanOrEqual(leaseEndsAt)
  freed.resolve()
})

test('what a handler returns after it was given up changes nothing', async () => {
  const { izta, job, started, freed } = behaving({ timeoutSeconds: 60, maxAttempts: 1 })
  const { id } = await izta.enqueue(job, 'ignores')
  const { run, capacity } = invoke(izta, 900)
  await started(1)
  await clock.advance({ seconds: 65 })
  await run.done
  freed.resolve()
  await new Promise(setImmediate)
  expect(capacity.running.size).toBe(0)
  expect(await izta.get(job, id)).toMatchObject({ status: 'failed', code: 'timeout' })
})

test('near the deadline: what stops is due again at once without attempt or loss, what returns has finished, the rest stays leased', async () => {
  const { izta, job, started, freed } = behaving({ timeoutSeconds: 60 })
  const wakes: [string, number][] = []
  const woken = createIzta({
    database,
    jobs: [job],
    clock,
    log,
    wake: { wake: (queue, hops) => void wakes.push([queue, hops]) },
  })
  const enqueuedAt = clock.date
  const [obeys, returns, ignores] = await izta.enqueueMany(job, ['obeys', 'returns', 'ignores'])
  const { run, capacity } = invoke(woken, 900, { hops: 3, deadline: nearDeadline(30) })
  await started(3)
  await untilExhausted(woken)
  await clock.advanceTo(new Date(enqueuedAt.getTime() + 33_000))
  const summary = await run.done
  expect(summary).toMatchObject({ finished: 1, released: 1, retried: 0, stuck: [ignores?.id], more: true })
  expect(await izta.get(job, returns?.id ?? '')).toMatchObject({
    status: 'finished',
    result: expect.any(String),
  })
  expect(await izta.get(job, obeys?.id ?? '')).toMatchObject({
    status: 'pending',
    attempt: 0,
    losses: 0,
    dueAt: enqueuedAt,
  })
  expect(await izta.get(job, ignores?.id ?? '')).toMatchObject({ status: 'running', attempt: 0 })
  expect([...capacity.running]).toEqual([ignores?.id])
  expect(wakes.at(-1)).toEqual(['*', 4])
  freed.resolve()
})

test('nothing is claimed once the longest timeout no longer fits', async () => {
  const { izta, job, started, begun } = behaving({ timeoutSeconds: 60 })
  await izta.enqueue(job, 'returns')
  const { run } = invoke(izta, 70, { capacity: new Capacity(1) })
  await started(1)
  await clock.advance({ seconds: 5 })
  await izta.enqueue(job, 'instant')
  run.recheck()
  await clock.advance({ seconds: 60 })
  expect(await run.done).toMatchObject({ claimed: 1, more: true })
  expect(begun).toHaveLength(1)
})

test('an invocation too short for a job’s timeout is refused, naming both', () => {
  const { izta } = behaving({ timeoutSeconds: 300 })
  expect(() => invoke(izta, 304)).toThrow(
    'Job "behaving" may run 300 s, with 5 s to stop in order, but the invocation has only 304 s left: raise the function\'s timeout above 305 s or lower the job\'s timeoutSeconds.',
  )
})

test('the timeout of a definition without handler does not count', () => {
  const elsewhere = defineJob({ id: 'elsewhere', timeoutSeconds: 86_400 })
  const izta = createIzta({ database, jobs: [elsewhere], clock, log })
  expect(deadlineAfter(clock, 10_000, configOf(izta).jobs.values())).toMatchObject({
    claimUntilMs: clock.now() + 5000,
  })
})

test('an invocation that has less than the time to stop is refused', () => {
  expect(() => deadlineAfter(clock, 4000, [])).toThrow('The invocation has 4 s left, less than the 5 s')
})

test('a task that a stopped runner hands back is run by the next one at once', async () => {
  const { izta, job, started } = behaving()
  await izta.enqueue(job, 'obeys')
  const { run } = invoke(izta, 900)
  await started(1)
  run.drain()
  run.stopRunning('stopping')
  expect(await run.done).toMatchObject({ released: 1, more: true })
  expect(await rows()).toMatchObject([{ attempt: 0, losses: 0, lease: null, run_at: clock.date }])
})

test('leaving early ends the run without those that do not stop', async () => {
  const { izta, job, started, freed } = behaving()
  const { id } = await izta.enqueue(job, 'ignores')
  const { run } = invoke(izta, 900)
  await started(1)
  run.leave()
  expect(await run.done).toMatchObject({ stuck: [id] })
  expect(await izta.get(job, id)).toMatchObject({ status: 'running' })
  freed.resolve()
})

test('a task whose handler still works here after its lease is over is put off, not run beside it', async () => {
  const { izta, job, started, freed, begun } = behaving({ timeoutSeconds: 60 })
  const { id } = await izta.enqueue(job, 'ignores')
  const { run, capacity } = invoke(izta, 900)
  await started(1)
  run.leave()
  await run.done
  await clock.advance({ seconds: 903 })
  const next = invoke(izta, 900, { capacity, whenIdle: 'leave-quietly' })
  expect(await next.run.done).toMatchObject({ claimed: 1, released: 1 })
  expect(begun).toEqual([id])
  expect(await rows()).toMatchObject([{ lease: null, losses: 1 }])
  freed.resolve()
})

test('a cancelled task that runs: its signal aborts within watchSeconds; thrown it is cancelled, returned it has finished', async () => {
  const { izta, job, started } = behaving()
  const [obeys, returns] = await izta.enqueueMany(job, ['obeys', 'returns'])
  const done = drain(izta)
  await started(2)
  expect(await izta.cancel(obeys?.id ?? '')).toEqual({ outcome: 'cancelling' })
  expect(await izta.cancel(returns?.id ?? '')).toEqual({ outcome: 'cancelling' })
  await clock.advance({ seconds: 5 })
  expect(await done).toMatchObject({ finished: 1, cancelled: 1 })
  expect(await izta.get(job, obeys?.id ?? '')).toMatchObject({ status: 'cancelled', errors: [] })
  expect(await izta.get(job, returns?.id ?? '')).toMatchObject({
    status: 'finished',
    result: 'in spite of cancelled',
  })
})

test('a retry of a task marked for cancellation becomes cancelled', async () => {
  const begun = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  const job = defineJob({
    id: 'failing',
    async run() {
      begun.resolve()
      await go.promise
      throw new Error('no')
    },
  })
  const izta = createIzta({ database, jobs: [job], clock, log })
  const { id } = await izta.enqueue(job)
  const done = drain(izta)
  await begun.promise
  await izta.cancel(id)
  go.resolve()
  await done
  expect(await izta.get(job, id)).toMatchObject({ status: 'cancelled' })
})

test('a task that is lost after it was marked becomes cancelled without another run', async () => {
  const { izta, job, started, begun, freed } = behaving()
  const { id } = await izta.enqueue(job, 'ignores')
  const { run } = invoke(izta, 900)
  await started(1)
  await izta.cancel(id)
  run.leave()
  await run.done
  await clock.advance({ seconds: 903 })
  expect(await drain(izta)).toMatchObject({ cancelled: 1 })
  expect(begun).toHaveLength(1)
  expect(await izta.get(job, id)).toMatchObject({ status: 'cancelled' })
  freed.resolve()
})

test('a handler that blocks the process past the deadline: its late outcome is accepted while nobody else has the task', async () => {
  const { izta, blocking, id } = await blockingTask()
  const { run } = invokeOnRealClock(izta)
  expect(await run.done).toMatchObject({ claimed: 1, finished: 1, stuck: [] })
  expect(await izta.get(blocking, id)).toMatchObject({
    status: 'finished',
    result: 'late',
    attempt: 1,
    losses: 0,
  })
})

test('a handler that blocks the process past the deadline: its late outcome changes nothing once somebody else has the task', async () => {
  const { izta, blocking, id, beforeReturn } = await blockingTask()
  const expired: string[] = []
  izta.on('lease.expired', ({ taskId }) => expired.push(taskId))
  // The lease is over by the database's clock, and another process has claimed the task.
  beforeReturn.action = () =>
    pool.query(`update izta.task set lease = gen_random_uuid(), claims = claims + 1, losses = 1`)
  const { run } = invokeOnRealClock(izta)
  expect(await run.done).toMatchObject({ claimed: 1, finished: 0 })
  expect(expired).toEqual([id])
  expect(await izta.get(blocking, id)).toMatchObject({ status: 'running', attempt: 0, losses: 1 })
})

async function blockingTask() {
  const beforeReturn: { action: () => unknown } = { action: () => {} }
  const blocking = defineJob({
    id: 'blocking',
    timeoutSeconds: 1,
    result: z.string(),
    async run() {
      await beforeReturn.action()
      blockFor(1200)
      return 'late'
    },
  })
  const izta = createIzta({ database, jobs: [blocking], log })
  const { id } = await izta.enqueue(blocking)
  return { izta, blocking, id, beforeReturn }
}

function invokeOnRealClock(izta: Izta) {
  const now = performance.now()
  const deadline = {
    claimUntilMs: now + 500,
    stopAtMs: now + 600,
    leaveAtMs: now + 800,
    endsAtMs: now + 1000,
  }
  return invoke(izta, 900, { deadline, whenIdle: 'leave' })
}

function blockFor(ms: number): void {
  const until = performance.now() + ms
  while (performance.now() < until);
}
