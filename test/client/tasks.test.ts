// Cancel, retry, queues and wakes: what they did, and what they refuse.
import { randomUUID } from 'node:crypto'
import {
  createIzta,
  DatabaseUnreachableError,
  defineJob,
  IztaError,
  type Clock,
  type Database,
  type IztaOptions,
  type Logger,
} from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
const log: Logger = { debug() {}, info() {}, warn() {}, error() {} }
let isBroken = true
const flaky = defineJob({
  id: 'flaky',
  maxAttempts: 2,
  backoff: { firstSeconds: 60, jitter: 'none' },
  retention: { failedDays: 2 },
  run() {
    if (isBroken) throw new Error('broken')
  },
})
const bare = defineJob({ id: 'bare', retention: { finishedDays: 'none' }, run() {} })
const woken: string[] = []
const create = (options: Partial<IztaOptions> = {}) =>
  createIzta({
    database,
    jobs: [flaky, bare],
    clock,
    log,
    wake: { wake: (queue) => void woken.push(queue) },
    ...options,
  })
const izta = create()
const unknown = randomUUID()

beforeEach(async () => {
  isBroken = true
  woken.length = 0
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

/** Pauses before another try take no time. */
const impatient: Clock = {
  now: () => 0,
  after(_, callback) {
    queueMicrotask(callback)
    return () => {}
  },
}

/** Applies every statement, and loses the first answer. */
function losingOne(): Database {
  let isLost = false
  return {
    async query(statement) {
      const rows = await database.query(statement)
      if (isLost) return rows
      isLost = true
      const options = { retryable: true, outcome: 'unknown' } as const
      throw new DatabaseUnreachableError('database-unreachable', 'the answer was lost', options)
    },
  }
}

async function enqueueFailed(options: { key?: string } = {}): Promise<string> {
  const { id } = await izta.enqueue(flaky, undefined, { maxAttempts: 1, ...options })
  await drain(izta)
  return id
}

describe('cancel', () => {
  test('ends a waiting task at once, and keeps it as long as failed ones', async () => {
    const { id } = await izta.enqueue(flaky)
    expect(await izta.cancel(id)).toEqual({ outcome: 'cancelled' })
    expect(await izta.get(flaky, id)).toMatchObject({
      status: 'cancelled',
      finishedAt: clock.date,
      expiresAt: new Date(clock.date.getTime() + 2 * 86_400_000),
    })
    expect(await drain(izta)).toMatchObject({ claimed: 0 })
  })

  test('ends a failing task at once and keeps its errors', async () => {
    const { id } = await izta.enqueue(flaky)
    await drain(izta)
    expect(await izta.cancel(id)).toEqual({ outcome: 'cancelled' })
    expect(await izta.get(flaky, id)).toMatchObject({ status: 'cancelled', errors: [{ message: 'broken' }] })
  })

  test('frees the key', async () => {
    const { id } = await izta.enqueue(flaky, undefined, { key: 'k' })
    await izta.cancel(id)
    expect(await izta.enqueue(flaky, undefined, { key: 'k' })).toMatchObject({ created: true })
  })

  test('marks a running task, which is cancelled when it throws and finished when it returns', async () => {
    const outcomes: unknown[] = []
    const own = create({ jobs: [] })
    const stubborn = defineJob({
      id: 'stubborn',
      async run(_, ctx) {
        outcomes.push(await own.cancel(ctx.task.id))
        if (ctx.task.key === 'throws') throw new Error('gave up')
      },
    })
    const running = create({ jobs: [stubborn] })
    const [throws, returns] = await running.enqueueMany([
      [stubborn, undefined, { key: 'throws' }],
      [stubborn, undefined, { key: 'returns' }],
    ])
    await drain(running)
    expect(outcomes).toEqual([{ outcome: 'cancelling' }, { outcome: 'cancelling' }])
    expect(await running.get(stubborn, throws?.id ?? '')).toMatchObject({ status: 'cancelled' })
    expect(await running.get(stubborn, returns?.id ?? '')).toMatchObject({ status: 'finished' })
  })

  test('says how a task had ended before', async () => {
    isBroken = false
    const { id: finished } = await izta.enqueue(flaky)
    await drain(izta)
    isBroken = true
    const failed = await enqueueFailed()
    const { id: cancelled } = await izta.enqueue(flaky)
    await izta.cancel(cancelled)
    expect(await Promise.all([finished, failed, cancelled, unknown].map((id) => izta.cancel(id)))).toEqual([
      { outcome: 'already-finished' },
      { outcome: 'already-failed' },
      { outcome: 'already-cancelled' },
      { outcome: 'not-found' },
    ])
  })

  test('whose answer was lost is reported as done', async () => {
    const { id } = await izta.enqueue(flaky)
    expect(await create({ database: losingOne(), clock: impatient }).cancel(id)).toEqual({
      outcome: 'cancelled',
    })
  })
})

describe('retry', () => {
  test('runs a failed task again with the same id, attempts counted anew and errors kept', async () => {
    const id = await enqueueFailed({ key: 'k' })
    woken.length = 0
    expect(await izta.retry(id)).toEqual({ outcome: 'requeued' })
    expect(woken).toEqual(['default'])
    expect(await izta.get(flaky, id)).toMatchObject({
      status: 'pending',
      attempt: 0,
      key: 'k',
      errors: [{ message: 'broken' }],
    })
    isBroken = false
    await drain(izta)
    expect(await izta.get(flaky, id)).toMatchObject({ status: 'finished', attempt: 1, errors: [{}] })
  })

  test('runs a cancelled task again', async () => {
    const { id } = await izta.enqueue(flaky)
    await izta.cancel(id)
    expect(await izta.retry(id)).toEqual({ outcome: 'requeued' })
    expect(await drain(izta)).toMatchObject({ claimed: 1 })
  })

  test('makes a failing task due now', async () => {
    const { id } = await izta.enqueue(flaky)
    await drain(izta)
    expect(await izta.retry(id)).toEqual({ outcome: 'due-now' })
    expect(await izta.get(flaky, id)).toMatchObject({ status: 'failing', dueAt: clock.date })
    await drain(izta)
    expect(await izta.get(flaky, id)).toMatchObject({ status: 'failed', attempt: 2 })
  })

  test('runs a finished task again only by force', async () => {
    isBroken = false
    const { id } = await izta.enqueue(flaky)
    await drain(izta)
    expect(await refusalOf(izta.retry(id))).toMatchObject({
      name: 'StateError',
      code: 'task-finished',
      message: `Task ${id} has finished: pass { force: true } to run it again.`,
    })
    expect(await izta.retry(id, { force: true })).toEqual({ outcome: 'requeued' })
    expect(await drain(izta)).toMatchObject({ finished: 1 })
  })

  test('of a task that kept no payload is refused', async () => {
    const { id } = await izta.enqueue(bare)
    await drain(izta)
    expect(await refusalOf(izta.retry(id, { force: true }))).toMatchObject({ code: 'payload-gone' })
  })

  test('of a task that waits or runs is refused', async () => {
    const { id } = await izta.enqueue(flaky)
    expect(await refusalOf(izta.retry(id))).toMatchObject({
      code: 'task-unfinished',
      message: `Task ${id} is pending: there is nothing to retry.`,
    })
  })

  test('of a task that is not there is refused', async () => {
    expect(await refusalOf(izta.retry(unknown))).toMatchObject({ code: 'task-not-found' })
  })

  test('of a task whose key is taken by now names the holder', async () => {
    const id = await enqueueFailed({ key: 'k' })
    const holder = await izta.enqueue(flaky, undefined, { key: 'k' })
    expect(await refusalOf(izta.retry(id))).toMatchObject({
      name: 'KeyTakenError',
      code: 'key-taken',
      holderId: holder.id,
      message: `Key "k" is held by unfinished task ${holder.id}: wait for it to end or cancel it.`,
    })
  })

  test('whose key frees at that very moment is tried anew', async () => {
    const id = await enqueueFailed({ key: 'k' })
    const holder = await izta.enqueue(flaky, undefined, { key: 'k' })
    let answers = 0
    const racing = create({
      database: {
        async query(statement) {
          const rows = await database.query(statement)
          if (!statement.text.includes('retry_task_1') || ++answers > 1) return rows
          // As if the holder had ended between the conflict and the look for it.
          expect(rows).toMatchObject([{ outcome: null, status: 'failed', holder: holder.id }])
          await izta.cancel(holder.id)
          return [{ ...rows[0], holder: null }]
        },
      },
    })
    expect(await racing.retry(id)).toEqual({ outcome: 'requeued' })
    expect(answers).toBe(2)
  })

  test('whose answer was lost is reported as done, and wakes', async () => {
    const id = await enqueueFailed()
    woken.length = 0
    expect(await create({ database: losingOne(), clock: impatient }).retry(id)).toEqual({
      outcome: 'requeued',
    })
    expect(woken).toEqual(['default'])
  })

  test('with an unknown option is refused', async () => {
    expect((await refusalOf(izta.retry(unknown, { forced: true } as object))).message).toBe(
      'retry: unknown option "forced". Known: force, signal.',
    )
    expect((await refusalOf(izta.retry(unknown, { force: 1 } as object))).message).toBe(
      'retry: option "force": expected true or false; got 1.',
    )
  })
})

describe('a queue', () => {
  test('that is paused takes tasks and runs none, until it is resumed', async () => {
    isBroken = false
    await izta.queues.pause('default')
    const { id } = await izta.enqueue(flaky)
    expect(woken).toEqual([])
    expect(await drain(izta)).toMatchObject({ claimed: 0 })
    expect(await izta.get(flaky, id)).toMatchObject({ status: 'pending' })
    await izta.queues.resume('default')
    expect(woken).toEqual(['default'])
    expect(await drain(izta)).toMatchObject({ claimed: 1 })
  })

  test('is listed with what is due in it, and since when', async () => {
    await izta.enqueueMany([
      [flaky],
      [flaky, undefined, { queue: 'other' }],
      [flaky, undefined, { queue: 'other', delaySeconds: 60 }],
    ])
    await izta.queues.pause('quiet')
    expect(await izta.queues.list()).toEqual([
      { name: 'default', paused: false, due: 1, oldestDueAt: clock.date },
      { name: 'other', paused: false, due: 1, oldestDueAt: clock.date },
      { name: 'quiet', paused: true, due: 0, oldestDueAt: undefined },
    ])
  })

  test('may be paused and resumed twice', async () => {
    for (const call of ['pause', 'pause', 'resume', 'resume'] as const) await izta.queues[call]('default')
    expect(await izta.queues.list()).toMatchObject([{ name: 'default', paused: false }])
  })

  test.for(['', 'a b', 'ä', 'x'.repeat(101), 5, undefined])('cannot be called %o', async (name) => {
    for (const [what, call] of [
      ['queues.pause', izta.queues.pause(name as string)],
      ['queues.resume', izta.queues.resume(name as string)],
      ['wake', izta.wake(name as string)],
    ] as const) {
      expect((await refusalOf(call)).message).toContain(
        `${what}: name of a queue: expected 1 to 100 of A–Z a–z 0–9 . _ : -; got `,
      )
    }
  })
})

describe('wake', () => {
  test('goes to a queue once a second', async () => {
    await izta.wake('default')
    await izta.wake('default')
    expect(woken).toEqual(['default'])
    await clock.advance({ seconds: 2 })
    await izta.wake('default')
    expect(woken).toEqual(['default', 'default'])
  })

  test('leaves a paused queue alone', async () => {
    await izta.queues.pause('default')
    await izta.wake('default')
    expect(woken).toEqual([])
  })
})
