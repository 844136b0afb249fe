// What becomes of a task for everything that its handler may do.
import { createIzta, defineJob, type AnyJob, type JobContext, type Task } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

type Handler = (ctx: JobContext<typeof shortage>) => unknown
const shortage = z.object({ code: z.literal('shortage'), missing: z.number() })
const backoff = { firstSeconds: 10, jitter: 'none' } as const

/** Runs one task of a job with this handler and reads it back. */
async function outcomeOf(run: Handler, options: { result?: z.ZodType; maxAttempts?: number } = {}) {
  const { izta, job } = instance(run, options)
  const { id } = await izta.enqueue(job)
  const summary = await drain(izta)
  return { izta, id, summary, task: (await izta.get(job, id)) as Task<typeof job> }
}

function instance(run: Handler, options: { result?: z.ZodType; maxAttempts?: number } = {}) {
  const job = defineJob({
    id: 'job',
    result: options.result ?? z.unknown(),
    error: shortage,
    backoff,
    maxAttempts: options.maxAttempts ?? 3,
    run: (_payload, ctx) => run(ctx) as never,
  })
  return { job, izta: createIzta({ database, jobs: [job], clock, log }) }
}

test('a handler that returns has finished, with its result', async () => {
  const { task, summary } = await outcomeOf(async () => ({ sum: 3 }))
  expect(task).toMatchObject({ status: 'finished', result: { sum: 3 }, attempt: 1, errors: [] })
  expect(summary).toMatchObject({ claimed: 1, finished: 1, failed: 0, stuck: [], more: false })
})

test('a handler may take its context apart', async () => {
  const { task } = await outcomeOf(
    ({ task: { job }, attempt, losses, remainingMs, enqueue, log: own, fail }) => {
      own.info('apart')
      if (attempt === 2) return { job, losses, hasTime: remainingMs() > 0, enqueues: typeof enqueue }
      return fail({ code: 'shortage', missing: 1 }, { retryAfterSeconds: 0 })
    },
  )
  expect(task).toMatchObject({
    status: 'finished',
    attempt: 2,
    result: { job: 'job', losses: 0, hasTime: true, enqueues: 'function' },
  })
})

test('a signal that is asked for only after the timeout has aborted', async () => {
  const asked = Promise.withResolvers<AbortSignal>()
  const over = Promise.withResolvers<void>()
  const slow = defineJob({
    id: 'slow',
    timeoutSeconds: 5,
    async run(_payload, ctx) {
      await over.promise
      asked.resolve(ctx.signal)
      expect(ctx.signal).toBe(ctx.signal)
    },
  })
  const izta = createIzta({ database, jobs: [slow], clock, log })
  await izta.enqueue(slow)
  const started = new Promise<void>((resolve) => void izta.on('task.started', () => resolve()))
  const drained = drain(izta)
  await started
  await clock.advance({ seconds: 5 })
  over.resolve()
  const signal = await asked.promise
  expect(signal).toMatchObject({ aborted: true, reason: { code: 'timeout' } })
  expect(await drained).toMatchObject({ retried: 1 })
})

test('a job without a result schema stores nothing of what its handler returns', async () => {
  const job = defineJob({ id: 'mute', run: () => ({ secret: 1 }) })
  const izta = createIzta({ database, jobs: [job], clock, log })
  const { id } = await izta.enqueue(job)
  await drain(izta)
  const { rows } = await pool.query('select status, result from izta.history where id = $1', [id])
  expect(rows).toEqual([{ status: 'finished', result: null }])
})

test('a declared error is stored as it was declared, and retried', async () => {
  const { task } = await outcomeOf((ctx) => ctx.fail({ code: 'shortage', missing: 2 }))
  expect(task).toMatchObject({
    status: 'failing',
    code: 'declared',
    error: { code: 'shortage', missing: 2 },
    errors: [{ code: 'declared', attempt: 1, error: { missing: 2 } }],
    dueAt: new Date(clock.now() + 10_000),
  })
})

test('a declared error with retry: false ends the task', async () => {
  const { task } = await outcomeOf((ctx) => ctx.fail({ code: 'shortage', missing: 1 }, { retry: false }))
  expect(task).toMatchObject({ status: 'failed', code: 'declared', attempt: 1, maxAttempts: 3 })
})

test('retryAfterSeconds takes the place of the backoff', async () => {
  const { task } = await outcomeOf((ctx) =>
    ctx.fail({ code: 'shortage', missing: 1 }, { retryAfterSeconds: 77 }),
  )
  expect(task).toMatchObject({ status: 'failing', dueAt: new Date(clock.now() + 77_000) })
})

test('an attempt has failed also when the handler catches what ctx.fail throws', async () => {
  const { task } = await outcomeOf((ctx) => {
    try {
      ctx.fail({ code: 'shortage', missing: 5 })
    } catch {
      // As careless handlers do.
    }
    return 'all is well'
  })
  expect(task).toMatchObject({ status: 'failing', error: { missing: 5 } })
})

test('a declared error that its schema refuses is a failed attempt', async () => {
  const { task } = await outcomeOf((ctx) => ctx.fail({ code: 'shortage', missing: 'many' as never }))
  expect(task).toMatchObject({ status: 'failing', code: 'result-refused', error: undefined })
  expect(task.errors[0]?.message).toMatch(/does not fit the job's error schema: "?missing"?: /)
})

test('an unknown option of ctx.fail is a failed attempt that names it', async () => {
  const { task } = await outcomeOf((ctx) =>
    ctx.fail({ code: 'shortage', missing: 1 }, { retries: 1 } as never),
  )
  expect(task).toMatchObject({ status: 'failing', code: 'thrown' })
  expect(task.errors[0]?.message).toContain('unknown option "retries"')
})

class Hostile {
  get message(): string {
    throw new Error('no message for you')
  }
  get name(): string {
    throw new Error('no name for you')
  }
  toJSON(): string {
    throw new Error('no JSON for you')
  }
  toString(): string {
    throw new Error('no text for you')
  }
}
const hostileError = Object.defineProperty(new Error('x'), 'name', {
  get() {
    throw new Error('no name for you')
  },
})
class CardDeclined extends Error {}
class OutOfStock extends RangeError {}
class Named extends Error {
  override readonly name = 'named-by-hand'
}
const unprintable = 'a value of type object that cannot be printed'

test.each([
  ['an Error', new TypeError('broken'), 'TypeError', 'broken'],
  ['an error of a class that sets no name', new CardDeclined('no'), 'CardDeclined', 'no'],
  ['an error of a class below another of JavaScript', new OutOfStock('no'), 'OutOfStock', 'no'],
  ['an error of a class with a name', new Named('no'), 'named-by-hand', 'no'],
  ['an error of a class without any', new (class extends Error {})('no'), 'Error', 'no'],
  [
    'an error without a constructor',
    Object.assign(new Error('no'), { constructor: undefined }),
    'Error',
    'no',
  ],
  ['null', null, 'null', 'null'],
  ['undefined', undefined, 'undefined', 'undefined'],
  ['a string', 'just words', 'string', 'just words'],
  ['an object', { why: 42 }, 'object', '{"why":42}'],
  ['a symbol', Symbol('s'), 'symbol', 'Symbol(s)'],
  ['an object whose getters throw', new Hostile(), 'object', unprintable],
  ['an error whose name throws', hostileError, 'object', 'x'],
  ['a proxy that refuses everything', hostileProxy(), 'object', unprintable],
  ['text with NUL and a lone surrogate', new Error('\u0000\uD800'), 'Error', '\u0000\uD800'],
])(
  'a handler that throws %s has failed readably, and its neighbours finish',
  async (_, thrown, name, message) => {
    const job = defineJob({
      id: 'thrower',
      payload: z.boolean(),
      backoff,
      run(isBad) {
        // oxlint-disable-next-line typescript/only-throw-error -- anything can be thrown
        if (isBad) throw thrown
      },
    })
    const izta = createIzta({ database, jobs: [job], clock, log })
    const [bad, good] = await izta.enqueueMany(job, [true, false])
    await drain(izta)
    const task = await izta.get(job, bad?.id ?? '')
    expect(task).toMatchObject({
      status: 'failing',
      code: 'thrown',
      errors: [{ class: name, message, attempt: 1 }],
    })
    expect(await izta.get(job, good?.id ?? '')).toMatchObject({ status: 'finished' })
  },
)

function hostileProxy(): object {
  const refuse = () => {
    throw new Error('refused')
  }
  return new Proxy({}, { get: refuse, getPrototypeOf: refuse, ownKeys: refuse, has: refuse })
}

test('a huge message is cut before it is stored, logged or told to listeners', async () => {
  const { izta, job } = instance(() => {
    throw Object.assign(new Error('m'.repeat(5_000_000)), { name: 'N'.repeat(5_000_000) })
  })
  const told: number[] = []
  izta.on('task.retried', ({ message }) => told.push(message.length))
  const { id } = await izta.enqueue(job)
  await drain(izta)
  const [entry] = (await izta.get(job, id))?.errors ?? []
  expect(entry?.message).toHaveLength(8193)
  expect(entry?.class).toHaveLength(201)
  expect(entry?.stack).toHaveLength(8193)
  expect(told).toEqual([8193])
})

test.each([
  ['its schema refuses', z.number(), 'seven', /does not fit the job's schema/],
  ['is not JSON', z.unknown(), 7n, /cannot be stored: .*bigint/],
  ['is above 1 MiB', z.unknown(), 'x'.repeat(2 ** 20), /cannot be stored: .*1048576 bytes/],
])('a result that %s is a failed attempt', async (_, result, returned, message) => {
  const { task } = await outcomeOf(() => returned, { result })
  expect(task).toMatchObject({ status: 'failing', code: 'result-refused' })
  expect(task.errors[0]?.message).toMatch(message)
})

test('after maxAttempts failed attempts the task has failed, with one entry for each', async () => {
  const { izta, id, task } = await outcomeOf(() => Promise.reject(new Error('no')), { maxAttempts: 2 })
  expect(task).toMatchObject({ status: 'failing', attempt: 1 })
  await clock.advance({ seconds: 10 })
  await drain(izta)
  const [job] = [defineJob({ id: 'job' })]
  expect(await izta.get(job, id)).toMatchObject({
    status: 'failed',
    attempt: 2,
    errors: [{ attempt: 1 }, { attempt: 2 }],
  })
})

test('with full jitter the delay lies between 0 and the exponential ceiling', async () => {
  const job = defineJob({
    id: 'jittered',
    backoff: { firstSeconds: 100 },
    run: () => Promise.reject(new Error('no')),
  })
  const izta = createIzta({ database, jobs: [job], clock, log })
  await izta.enqueueMany(Array.from({ length: 30 }, () => [job] as const))
  const delays: number[] = []
  izta.on('task.retried', ({ delayMs }) => delays.push(delayMs))
  await drain(izta, { concurrency: 30 })
  expect(delays).toHaveLength(30)
  expect(Math.min(...delays)).toBeGreaterThanOrEqual(0)
  expect(Math.max(...delays)).toBeLessThanOrEqual(100_000)
  expect(new Set(delays).size).toBeGreaterThan(20)
})

test('ctx tells attempt, losses, facts of the task and the time that is left', async () => {
  const seen: unknown[] = []
  const { izta, job } = instance((ctx) => {
    const { attempt, losses, task } = ctx
    seen.push({
      attempt,
      losses,
      left: ctx.remainingMs(),
      key: task.key,
      queue: task.queue,
      dueAt: task.dueAt,
    })
    if (attempt === 1) throw new Error('once')
    return null
  })
  await izta.enqueue(job, undefined, { key: 'k', queue: 'q' })
  const dueAt = clock.date
  await drain(izta)
  await clock.advance({ seconds: 10 })
  await drain(izta)
  const same = { losses: 0, left: 60_000, key: 'k', queue: 'q' }
  expect(seen).toEqual([
    { attempt: 1, dueAt, ...same },
    { attempt: 2, dueAt: clock.date, ...same },
  ])
})

test('a task of a job without handler here waits min(5 s × 2ⁿ, 10 min), costs no attempt, and runs elsewhere', async () => {
  const definition = defineJob({ id: 'elsewhere' })
  const izta = createIzta({ database, jobs: [definition], clock, log })
  const { id } = await izta.enqueue(definition)
  const delays: number[] = []
  izta.on('task.deferred', ({ delayMs }) => delays.push(delayMs / 1000))
  for (let n = 0; n < 9; n++) {
    await drain(izta)
    await clock.advance({ seconds: delays.at(-1) ?? 0 })
  }
  expect(delays).toEqual([5, 10, 20, 40, 80, 160, 320, 600, 600])
  expect(await izta.get(definition, id)).toMatchObject({
    status: 'pending',
    attempt: 0,
    losses: 0,
    errors: [],
  })
  const other = createIzta({ database, jobs: [defineJob({ id: 'elsewhere', run: () => {} })], clock, log })
  expect(await drain(other)).toMatchObject({ finished: 1 })
})

test('a stored payload that today’s schema refuses fails at once, with the paths', async () => {
  const before = defineJob({ id: 'changed', payload: z.object({ to: z.string() }) })
  const { id } = await createIzta({ database, jobs: [before], clock, log }).enqueue(before, { to: 'a' })
  const after = defineJob({
    id: 'changed',
    payload: z.object({ to: z.object({ name: z.string() }) }),
    run: () => {},
  })
  const izta = createIzta({ database, jobs: [after], clock, log })
  await drain(izta)
  const task = await izta.get(after, id)
  expect(task).toMatchObject({
    status: 'failed',
    code: 'payload-refused',
    attempt: 0,
    errors: [{ attempt: 0 }],
  })
  expect(task?.errors[0]?.message).toMatch(/"?to"?: /)
})

test('the payload’s transform runs once, when the task runs', async () => {
  const seen: unknown[] = []
  const job: AnyJob = defineJob({
    id: 'transforming',
    payload: z.string().transform((text) => new Date(text)),
    run: (at) => void seen.push(at),
  })
  const izta = createIzta({ database, jobs: [job], clock, log })
  await izta.enqueue(job, '2030-05-05T00:00:00Z')
  await drain(izta)
  expect(seen).toEqual([new Date('2030-05-05T00:00:00Z')])
})
