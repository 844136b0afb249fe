// Single enqueues that travel together: which do, and what each learns when their call fails.
import { createIzta, DatabaseError, defineJob, type Database, type Izta, type Tracing } from 'izta'
import { neonDatabase } from 'izta/neon'
import { pgDatabase } from 'izta/pg'
import { AsyncLocalStorage } from 'node:async_hooks'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { enqueuedBy } from '../support/enqueued.ts'

const { database, pool, url } = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }
const note = defineJob({ id: 'note', payload: z.string() })

/** The database, and what it was sent; `meddle` may answer instead of it. */
function between(
  meddle: (payloads: string[], send: () => Promise<Record<string, string | null>[]>) => unknown = (_, send) =>
    send(),
  joinsEnqueues = true,
) {
  const sent: string[][] = []
  const wrapped: Database = {
    joinsEnqueues,
    async query(statement) {
      const tasks = enqueuedBy(statement)
      if (tasks === undefined) return database.query(statement)
      const payloads = tasks.map(({ payload }) => JSON.parse(payload) as string)
      sent.push(payloads)
      return (await meddle(payloads, () => database.query(statement))) as Record<string, string | null>[]
    },
  }
  return { sent, wrapped, izta: createIzta({ database: wrapped, jobs: [note], log }) }
}

const enqueueAll = (izta: Izta, count: number) =>
  Promise.allSettled(Array.from({ length: count }, (_, n) => izta.enqueue(note, `${n}`)))

const stored = async () =>
  (await pool.query(`select id, payload #>> '{}' as text from izta.task order by (payload #>> '{}')::int`))
    .rows

const refusal = (options: { code?: string; outcome?: 'unknown'; retryable?: boolean } = {}) =>
  new DatabaseError(options.code ?? 'data-refused', 'no', options)

test('what comes while four calls are on their way goes together in the next, each with its own answer', async () => {
  const { izta, sent } = between()
  const answers = await enqueueAll(izta, 10)
  expect(sent).toEqual([['0'], ['1'], ['2'], ['3'], ['4', '5', '6', '7', '8', '9']])
  expect((await stored()).map(({ id }) => id)).toEqual(
    answers.map((answer) => (answer.status === 'fulfilled' ? answer.value.id : answer.reason)),
  )
  expect(answers.map((answer) => answer.status === 'fulfilled' && answer.value.created)).not.toContain(false)
})

test('a process with nothing on its way sends at once', async () => {
  const { izta, sent } = between()
  await izta.enqueue(note, '1')
  await izta.enqueue(note, '2')
  expect(sent).toEqual([['1'], ['2']])
})

test('nothing is joined where a statement may belong to the transaction of its caller', async () => {
  const { izta, sent } = between(undefined, false)
  await enqueueAll(izta, 10)
  expect(sent).toHaveLength(10)
  expect(pgDatabase(pool).joinsEnqueues).toBeUndefined()
  const own = pgDatabase(url)
  expect(own.joinsEnqueues).toBe(true)
  await own.close?.()
  expect(neonDatabase(url).joinsEnqueues).toBe(true)
  expect(neonDatabase({ connectionString: () => url }).joinsEnqueues).toBeUndefined()
})

test('a refusal of a joint call is that of the one task to blame', async () => {
  const { izta, sent } = between((payloads, send) => {
    if (payloads.includes('7')) throw refusal()
    return send()
  })
  const answers = await enqueueAll(izta, 10)
  expect(answers.flatMap(({ status }, n) => (status === 'rejected' ? [n] : []))).toEqual([7])
  expect((await stored()).map(({ text }) => text)).toEqual(['0', '1', '2', '3', '4', '5', '6', '8', '9'])
  // Of six the halves, of the half that is refused again, and so on: never more than one at a time.
  expect(sent.slice(4)).toEqual([
    ['4', '5', '6', '7', '8', '9'],
    ['4', '5', '6'],
    ['7', '8', '9'],
    ['7', '8'],
    ['7'],
    ['8'],
    ['9'],
  ])
})

test('an error that is no fault of a value is told to all, and nothing is sent again', async () => {
  const { izta, sent } = between((payloads, send) => {
    if (payloads.length > 1) throw refusal({ code: 'database-access' })
    return send()
  })
  const answers = await enqueueAll(izta, 8)
  expect(answers.slice(4)).toMatchObject(
    Array.from({ length: 4 }, () => ({ status: 'rejected', reason: { code: 'database-access' } })),
  )
  expect(sent).toHaveLength(5)
})

test('wakes that take long hold up their own callers only', async () => {
  const delivered = Promise.withResolvers<void>()
  const { wrapped } = between()
  const izta = createIzta({ database: wrapped, jobs: [note], log, wake: { wake: () => delivered.promise } })
  const first = [1, 2, 3, 4].map((n) => izta.enqueue(note, `${n}`, { queue: `queue-${n}` }))
  // Its queue was woken just now: it has nothing to wait for.
  await pool.query(`insert into izta.queue (name, woken_at) values ('awake', now())`)
  expect(await izta.enqueue(note, '5', { queue: 'awake' })).toMatchObject({ created: true })
  delivered.resolve()
  expect(await Promise.all(first)).toHaveLength(4)
})

test('a call for others runs in the context of none of them', async () => {
  const context = new AsyncLocalStorage<number>()
  const seen: (number | undefined)[] = []
  const { izta } = between((_, send) => {
    seen.push(context.getStore())
    return send()
  })
  await Promise.all(Array.from({ length: 10 }, (_, n) => context.run(n, () => izta.enqueue(note, `${n}`))))
  expect(seen).toEqual([0, 1, 2, 3, undefined])
})

test('a joint call whose answer is lost is sent again, and every task is told that it was made', async () => {
  let lose = true
  const { izta, sent } = between(async (payloads, send) => {
    const rows = await send()
    if (payloads.length === 1 || !lose) return rows
    lose = false
    throw refusal({ outcome: 'unknown', retryable: true })
  })
  const answers = await enqueueAll(izta, 10)
  expect(answers).toMatchObject(answers.map(() => ({ status: 'fulfilled', value: { created: true } })))
  expect(sent.slice(4)).toEqual([sent[5], sent[5]])
  expect(await stored()).toHaveLength(10)
})

test('a joint call that may have been applied is not taken apart: all its callers learn that', async () => {
  const { izta, sent } = between(async (payloads, send) => {
    if (payloads.length === 1) return send()
    throw refusal({ outcome: 'unknown', code: 'database-error' })
  })
  const answers = await enqueueAll(izta, 8)
  expect(answers.slice(4)).toMatchObject(
    Array.from({ length: 4 }, () => ({ status: 'rejected', reason: { outcome: 'unknown' } })),
  )
  expect(sent).toHaveLength(5)
})

test('a call that fails makes place for those that wait', async () => {
  const { izta } = between((payloads, send) => {
    if (Number(payloads[0]) < 4) throw refusal()
    return send()
  })
  const answers = await enqueueAll(izta, 6)
  expect(answers.map(({ status }) => status)).toEqual([
    ...Array(4).fill('rejected'),
    'fulfilled',
    'fulfilled',
  ])
})

test('a joint call holds 250 tasks and 8 MiB at most, or one that is larger', async () => {
  const { izta, sent } = between()
  await enqueueAll(izta, 4 + 600)
  expect(sent.map((payloads) => payloads.length)).toEqual([1, 1, 1, 1, 250, 250, 100])
  sent.length = 0
  const large = between()
  const text = '1' + 'x'.repeat(1024 * 1024 - 10)
  await Promise.all(Array.from({ length: 14 }, () => large.izta.enqueue(note, text)))
  expect(large.sent.map((payloads) => payloads.length)).toEqual([1, 1, 1, 1, 8, 2])
})

test('each task carries the trace of its own caller', async () => {
  let spans = 0
  const tracing: Tracing = {
    enqueue: (_tasks, send) => send(`trace-${spans++}`),
    current: () => undefined,
    run: (_task, run) => run(undefined),
  }
  const izta = createIzta({ database: { ...database, joinsEnqueues: true }, jobs: [note], log, tracing })
  await enqueueAll(izta, 10)
  const { rows } = await pool.query(`select trace from izta.task order by (payload #>> '{}')::int`)
  expect(rows.map(({ trace }) => trace)).toEqual(Array.from({ length: 10 }, (_, n) => `trace-${n}`))
})

test('many callers of a real pool: every task is there once', async () => {
  const own = pgDatabase(url)
  let statements = 0
  const counted: Database = {
    ...own,
    query(statement) {
      statements++
      return own.query(statement)
    },
  }
  const izta = createIzta({ database: counted, jobs: [note], log })
  const answers = await enqueueAll(izta, 2000)
  expect(answers.filter(({ status }) => status === 'rejected')).toEqual([])
  expect((await stored()).map(({ text }) => Number(text))).toEqual(Array.from({ length: 2000 }, (_, n) => n))
  expect(statements).toBeLessThan(20)
  await own.close?.()
})
