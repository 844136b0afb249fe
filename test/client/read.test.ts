// Reading tasks back: one, lists in pages, counts, and waiting for the end.
import { randomUUID } from 'node:crypto'
import { createIzta, defineJob, IztaError, type ListOptions, type Logger, type Task } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
const log: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  maxAttempts: 2,
  backoff: { firstSeconds: 60, jitter: 'none' },
  run({ numerator, denominator }, ctx) {
    if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' })
    return numerator / denominator
  },
})
const sweep = defineJob({ id: 'sweep', queue: 'brooms', run() {} })
const unknown = randomUUID()
const izta = createIzta({ database, jobs: [divide, sweep], clock, log })

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
})

async function refusalOf(call: Promise<unknown>): Promise<IztaError> {
  const error = await call.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  if (IztaError.is(error)) return error
  throw error
}

async function collect(options?: ListOptions): Promise<string[]> {
  const ids: string[] = []
  for await (const task of izta.list(options)) ids.push(task.id)
  return ids
}

describe('a task', () => {
  test('is read with its facts at every status', async () => {
    const now = clock.date
    const { id } = await izta.enqueue(
      divide,
      { numerator: 1, denominator: 0 },
      { key: 'k', delaySeconds: 30 },
    )
    const pending: Task = {
      id,
      job: 'divide',
      queue: 'default',
      priority: 5,
      payload: { numerator: 1, denominator: 0 },
      attempt: 0,
      maxAttempts: 2,
      losses: 0,
      key: 'k',
      parent: undefined,
      schedule: undefined,
      slot: undefined,
      enqueuedAt: now,
      dueAt: new Date(now.getTime() + 30_000),
      errors: [],
      status: 'pending',
    }
    expect(await izta.get(divide, id)).toEqual(pending)

    await clock.advance({ seconds: 30 })
    await drain(izta)
    const failure = { code: 'declared', attempt: 1, at: clock.date, error: { code: 'divide-by-zero' } }
    expect(await izta.get(divide, id)).toMatchObject({
      status: 'failing',
      attempt: 1,
      code: 'declared',
      error: { code: 'divide-by-zero' },
      errors: [failure],
    })

    await clock.advance({ seconds: 60 })
    await drain(izta)
    expect(await izta.get(divide, id)).toMatchObject({
      status: 'failed',
      attempt: 2,
      code: 'declared',
      error: { code: 'divide-by-zero' },
      errors: [failure, { ...failure, attempt: 2, at: clock.date }],
      finishedAt: clock.date,
      expiresAt: new Date(clock.date.getTime() + 30 * 86_400_000),
    })
  })

  test('that has finished has its result, and nothing where the job stores none', async () => {
    const [quotient, swept] = await izta.enqueueMany([[divide, { numerator: 1, denominator: 2 }], [sweep]])
    await drain(izta)
    expect(await izta.get(divide, quotient?.id ?? '')).toMatchObject({ status: 'finished', result: 0.5 })
    expect(await izta.get(sweep, swept?.id ?? '')).toMatchObject({ status: 'finished', result: undefined })
  })

  test('that runs says when its lease ends', async () => {
    const seen: unknown[] = []
    const look = defineJob({
      id: 'look',
      run: async (_, ctx) => void seen.push(await own.get(look, ctx.task.id)),
    })
    const own = createIzta({ database, jobs: [look], clock, log })
    await own.enqueue(look)
    await drain(own)
    expect(seen).toEqual([expect.objectContaining({ status: 'running', leaseExpiresAt: expect.any(Date) })])
  })

  test('that is not there is undefined', async () => {
    expect(await izta.get(divide, unknown)).toBeUndefined()
  })

  test('of another job is an error that names both', async () => {
    const { id } = await izta.enqueue(sweep)
    for (const refusal of await Promise.all([izta.get(divide, id), izta.wait(divide, id)].map(refusalOf))) {
      expect(refusal).toMatchObject({
        code: 'job-mismatch',
        message: `Task ${id} belongs to job "sweep", not to "divide": pass the definition of "sweep".`,
      })
    }
  })

  test.for([undefined, null, 5, '', 'divide', `${unknown} `])('cannot be asked for by %o', async (id) => {
    for (const [what, refusal] of [
      ['get', refusalOf(izta.get(divide, id as never))],
      ['wait', refusalOf(izta.wait(divide, id as never))],
      ['cancel', refusalOf(izta.cancel(id as never))],
      ['retry', refusalOf(izta.retry(id as never))],
    ] as const) {
      expect(await refusal).toMatchObject({
        name: 'OptionError',
        message: `${what}: expected the id of a task, a UUID; got ${typeof id === 'string' ? JSON.stringify(id) : id}.`,
      })
    }
  })

  test('is asked for with its job', async () => {
    expect((await refusalOf(izta.get('divide' as never, unknown))).message).toBe(
      'get: expected what defineJob returns; got "divide".',
    )
  })
})

describe('a list', () => {
  test('has the newest id first, over unfinished and ended tasks, whatever the page', async () => {
    const ids: string[] = []
    for (let round = 0; round < 3; round++) {
      const answers = await izta.enqueueMany(divide, [
        { numerator: 1, denominator: 1 },
        { numerator: 1, denominator: 0 },
      ])
      ids.unshift(...answers.map(({ id }) => id).toReversed())
      if (round === 1) await drain(izta)
    }
    expect(await collect()).toEqual(ids)
    expect(await collect({ pageSize: 1 })).toEqual(ids)
    expect(await collect({ pageSize: 4 })).toEqual(ids)
    expect(await collect({ cursor: ids[1]! })).toEqual(ids.slice(2))
  })

  test('is limited by status, queue and job, all together', async () => {
    await izta.enqueueMany([
      [divide, { numerator: 1, denominator: 1 }],
      [divide, { numerator: 1, denominator: 0 }],
      [divide, { numerator: 1, denominator: 1 }, { queue: 'brooms' }],
      [sweep],
    ])
    await drain(izta)
    const { id } = await izta.enqueue(sweep)
    await izta.cancel((await izta.enqueue(sweep)).id)
    const sizes = async (options: ListOptions) => (await collect(options)).length
    expect(await sizes({ status: 'finished' })).toBe(3)
    expect(await sizes({ status: 'finished', queue: 'brooms' })).toBe(2)
    expect(await sizes({ status: 'finished', queue: 'brooms', job: divide })).toBe(1)
    expect(await sizes({ job: 'divide' })).toBe(3)
    expect(await sizes({ status: 'failing' })).toBe(1)
    expect(await sizes({ status: 'cancelled' })).toBe(1)
    expect(await sizes({ status: 'running' })).toBe(0)
    expect(await collect({ status: 'pending' })).toEqual([id])
  })

  test('a page holds no more than the driver can carry, but at least one task, and none is left out', async () => {
    const text = defineJob({ id: 'text', payload: z.string() })
    const narrow = createIzta({
      database: { ...database, replyLimitBytes: 20_000 },
      jobs: [text],
      clock,
      log,
    })
    const made = await narrow.enqueueMany(
      text,
      [4000, 4000, 4000, 30_000, 4000].map((length) => 'x'.repeat(length)),
    )
    const sizes: number[] = []
    const ids: string[] = []
    let cursor: string | undefined
    do {
      // oxlint-disable-next-line no-await-in-loop -- a page follows the one before
      const page = await narrow.listPage({ job: text, cursor })
      sizes.push(page.tasks.length)
      ids.push(...page.tasks.map(({ id }) => id))
      cursor = page.cursor
    } while (cursor !== undefined)
    expect(sizes).toEqual([1, 1, 2, 1])
    expect(ids).toEqual(made.map(({ id }) => id).toReversed())
    expect(await Array.fromAsync(narrow.list({ job: text }))).toHaveLength(5)
  })

  test('gives pages with a cursor, and none after the last', async () => {
    const answers = await izta.enqueueMany(sweep, [undefined, undefined, undefined, undefined])
    const [a, b, c, d] = answers.map(({ id }) => id).toReversed()
    const first = await izta.listPage({ job: sweep, pageSize: 2 })
    expect([first.tasks.map(({ id }) => id), first.cursor]).toEqual([[a, b], b])
    const second = await izta.listPage({ job: sweep, pageSize: 2, cursor: first.cursor })
    expect([second.tasks.map(({ id }) => id), second.cursor]).toEqual([[c, d], undefined])
    expect(await izta.listPage({ status: 'failed' })).toEqual({ tasks: [], cursor: undefined })
  })

  test('keeps its place while tasks are added', async () => {
    await izta.enqueueMany(sweep, [undefined, undefined, undefined])
    const seen: string[] = []
    for await (const { id } of izta.list({ pageSize: 1 })) {
      seen.push(id)
      await izta.enqueue(sweep)
    }
    expect(seen).toHaveLength(3)
  })

  test.for<[options: object, message: string]>([
    [
      { status: 'done' },
      'list: option "status": expected "pending" or "running" or "failing" or "failed" or "finished" or "cancelled"; got "done".',
    ],
    [{ queue: 'a b' }, 'list: option "queue": expected 1 to 100 of A–Z a–z 0–9 . _ : -; got "a b".'],
    [{ job: 5 }, 'list: option "job": expected a job, or the id of one; got 5.'],
    [{ pageSize: 0 }, 'list: option "pageSize": expected a whole number from 1 to 1000; got 0.'],
    [{ pageSize: 1001 }, 'list: option "pageSize": expected a whole number from 1 to 1000; got 1001.'],
    [{ cursor: '5' }, 'list: option "cursor": expected the id of a task, a UUID; got "5".'],
    [{ limit: 5 }, 'list: unknown option "limit". Known: status, queue, job, pageSize, cursor, signal.'],
  ])('with %o is refused', async ([options, message]) => {
    expect(await refusalOf(collect(options))).toMatchObject({ name: 'OptionError', message })
    expect(await refusalOf(izta.listPage(options))).toMatchObject({ name: 'OptionError', message })
  })
})

describe('counts', () => {
  const none = { pending: 0, running: 0, failing: 0, failed: 0, finished: 0, cancelled: 0 }

  test('are exact for unfinished tasks, and of ended ones those since an instant', async () => {
    await izta.enqueueMany([
      [divide, { numerator: 1, denominator: 1 }],
      [divide, { numerator: 1, denominator: 0 }],
      [sweep],
      [sweep, undefined, { delaySeconds: 3600 }],
    ])
    await drain(izta)
    const between = new Date(clock.date.getTime() + 1000)
    await clock.advance({ seconds: 2 })
    await izta.cancel((await izta.enqueue(sweep)).id)
    expect(await izta.counts()).toEqual({
      default: { ...none, failing: 1 },
      brooms: { ...none, pending: 1 },
    })
    expect(await izta.counts({ since: between })).toEqual({
      default: { ...none, failing: 1 },
      brooms: { ...none, pending: 1, cancelled: 1 },
    })
    expect(await izta.counts({ since: new Date(0) })).toEqual({
      default: { ...none, failing: 1, finished: 1 },
      brooms: { ...none, pending: 1, finished: 1, cancelled: 1 },
    })
  })

  test('of nothing are empty', async () => {
    expect(await izta.counts({ since: new Date(0) })).toEqual({})
  })

  test('take any name of a queue for what it is', async () => {
    await izta.enqueueMany([
      [sweep, undefined, { queue: '__proto__' }],
      [sweep, undefined, { queue: 'constructor' }],
    ])
    expect(Object.entries(await izta.counts()).toSorted(([one], [other]) => (one < other ? -1 : 1))).toEqual([
      ['__proto__', { ...none, pending: 1 }],
      ['constructor', { ...none, pending: 1 }],
    ])
    expect({}).not.toHaveProperty('pending')
  })

  test('refuse an instant that is none', async () => {
    expect((await refusalOf(izta.counts({ since: new Date(NaN) }))).message).toBe(
      'counts: option "since": expected a valid Date; got an invalid Date.',
    )
  })
})

describe('waiting', () => {
  test('gives the task at once when it has ended, however it ended', async () => {
    const [finished, cancelled] = await izta.enqueueMany([[sweep], [sweep, undefined, { delaySeconds: 60 }]])
    await drain(izta)
    await izta.cancel(cancelled?.id ?? '')
    expect(await izta.wait(sweep, finished?.id ?? '', { timeoutSeconds: 0 })).toMatchObject({
      status: 'finished',
    })
    expect(await izta.wait(sweep, cancelled?.id ?? '')).toMatchObject({ status: 'cancelled' })
  })

  test('looks again after 100 ms, then ever more seldom, up to every 2 s', async () => {
    const looksAt: number[] = []
    const pauses: number[] = []
    let nowMs = 0
    const own = createIzta({
      database: {
        query(statement) {
          looksAt.push(nowMs)
          return database.query(statement)
        },
      },
      jobs: [sweep],
      log,
      clock: {
        now: () => nowMs,
        after(ms, callback) {
          pauses.push(ms)
          nowMs += ms
          queueMicrotask(callback)
          return () => {}
        },
      },
    })
    const { id } = await izta.enqueue(sweep)
    const error = await refusalOf(own.wait(sweep, id, { timeoutSeconds: 10 }))
    expect(error).toMatchObject({
      name: 'WaitTimeoutError',
      code: 'wait-timeout',
      retryable: true,
      message: `Task ${id} had not ended after 10 s (status: pending): wait longer, or see that a runner works on its queue.`,
    })
    expect(pauses).toEqual([100, 200, 400, 800, 1600, 2000, 2000, 2000, 900])
    expect(looksAt.at(-1)).toBe(10_000)
  })

  test('asks for the payload only when the task has ended', async () => {
    const answers: string[][] = []
    const own = createIzta({
      database: {
        async query(statement) {
          const rows = await database.query(statement)
          answers.push(Object.keys(rows[0] ?? {}))
          return rows
        },
      },
      jobs: [sweep],
      clock,
      log,
    })
    const { id } = await izta.enqueue(sweep)
    expect(await refusalOf(own.wait(sweep, id, { timeoutSeconds: 0 }))).toMatchObject({
      code: 'wait-timeout',
    })
    expect(answers).toEqual([['job', 'status']])
    await izta.cancel(id)
    expect(await own.wait(sweep, id)).toMatchObject({ id, status: 'cancelled' })
    expect(answers).toHaveLength(3)
  })

  test('for a task that is not there is an error', async () => {
    expect(await refusalOf(izta.wait(sweep, unknown))).toMatchObject({
      name: 'StateError',
      code: 'task-not-found',
      message: `wait: there is no task ${unknown}: it was never committed, or its retention has ended.`,
    })
  })

  test.for([-1, NaN, 86_401, '5'])('for %o seconds is refused', async (timeoutSeconds) => {
    const error = await refusalOf(izta.wait(sweep, unknown, { timeoutSeconds: timeoutSeconds as number }))
    expect(error.message).toContain('wait: option "timeoutSeconds": expected a number from 0 to 86400; got ')
  })
})
