// Enqueues with a key or an id of their own travel together as well, and a key that is held keeps only its own calls.
import { createIzta, DatabaseError, defineJob, type Database, type Izta } from 'izta'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
const log = { debug() {}, info() {}, warn() {}, error() {} }
const note = defineJob({ id: 'note', payload: z.string() })

type Rows = Awaited<ReturnType<Database['query']>>
/** Payloads here are `p` and a number. */
const payloadsIn = ({ values }: Parameters<Database['query']>[0]) => values.join(' ').match(/\bp\d+\b/g) ?? []

/** The database, and the payloads of each enqueue that it was sent; `meddle` may answer instead of it. */
function between(
  meddle: (payloads: string[], send: () => Promise<Rows>) => Promise<Rows> = (_, send) => send(),
  callTimeoutSeconds?: number,
) {
  const sent: string[][] = []
  const wrapped: Database = {
    connections: 20,
    joinsEnqueues: true,
    query(statement) {
      const payloads = payloadsIn(statement)
      if (payloads.length === 0) return database.query(statement)
      sent.push(payloads)
      return meddle(payloads, () => database.query(statement))
    },
  }
  return { sent, izta: createIzta({ database: wrapped, jobs: [note], log, callTimeoutSeconds }) }
}

const keyed = (izta: Izta, number: number, key = `k${number}`) => izta.enqueue(note, `p${number}`, { key })
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n)
const isHeld = (payload: string) => Number(payload.slice(1)) < 50
const lockTimeout = () => new DatabaseError('lock-timeout', 'held', { retryable: true, sqlState: '55P03' })

test('enqueues with different keys travel together, each with its own answer', async () => {
  const { izta, sent } = between()
  await keyed(izta, 99, 'k7')
  const answers = await Promise.all(numbers(10).map((n) => keyed(izta, n)))
  expect(sent.slice(1)).toEqual([['p0'], ['p1'], ['p2'], ['p3'], ['p4', 'p5', 'p6', 'p7', 'p8', 'p9']])
  expect(answers.map(({ created }) => created)).toEqual(numbers(10).map((n) => n !== 7))
})

test('enqueues without a name do not wait for those that have one', async () => {
  const release = Promise.withResolvers<void>()
  const { izta } = between(async (payloads, send) => {
    if (payloads.some(isHeld)) await release.promise
    return send()
  })
  const held = numbers(10).map((n) => keyed(izta, n))
  expect(await izta.enqueue(note, 'p90')).toMatchObject({ created: true })
  release.resolve()
  await Promise.all(held)
})

test('while a key is in flight its other calls wait for that, and then go together', async () => {
  const release = Promise.withResolvers<void>()
  const { izta, sent } = between(async (payloads, send) => {
    if (payloads.includes('p0')) await release.promise
    return send()
  })
  const first = keyed(izta, 0, 'same')
  const others = [1, 2, 3].map((n) => keyed(izta, n, 'same'))
  await keyed(izta, 4, 'other')
  expect(sent).toEqual([['p0'], ['p4']])
  release.resolve()
  const { id } = await first
  expect(await Promise.all(others)).toEqual([1, 2, 3].map(() => ({ id, created: false, status: 'pending' })))
  expect(sent).toEqual([['p0'], ['p4'], ['p1', 'p2', 'p3']])
})

test('one of many calls at once gets a key, and the others are told of it', async () => {
  const { izta, sent } = between()
  const answers = await Promise.all(numbers(600).map((n) => keyed(izta, n, 'same')))
  expect(answers.filter(({ created }) => created)).toHaveLength(1)
  expect(new Set(answers.map(({ id }) => id)).size).toBe(1)
  expect(sent.length).toBeLessThan(10)
})

test('calls with the same id never share a statement, and one of them makes the task', async () => {
  const { izta, sent } = between()
  const id = crypto.randomUUID()
  const blockers = numbers(4).map((n) => keyed(izta, n))
  const answers = await Promise.all([10, 11, 12].map((n) => izta.enqueue(note, `p${n}`, { id })))
  await Promise.all(blockers)
  expect(answers.map(({ created }) => created)).toEqual([true, false, false])
  expect(sent.slice(4)).toEqual([['p10'], ['p11'], ['p12']])
})

test('a joint call that meets a held key is sent apart by keys, and only that key waits on', async () => {
  const release = Promise.withResolvers<void>()
  const { izta, sent } = between(async (payloads, send) => {
    if (!payloads.includes('p7')) return send()
    if (payloads.length > 1) throw lockTimeout()
    await release.promise
    return send()
  })
  const blockers = numbers(4).map((n) => keyed(izta, n))
  const held = keyed(izta, 7)
  const others = [4, 5, 6, 8].map((n) => keyed(izta, n))
  await Promise.all([...blockers, ...others])
  expect(sent.slice(4).map((payloads) => payloads.length)).toEqual([5, 1, 1, 1, 1, 1])
  // The lane goes on meanwhile.
  await Promise.all(numbers(10).map((n) => keyed(izta, 20 + n)))
  release.resolve()
  expect(await held).toMatchObject({ created: true })
})

test('keys that are held do not use up the flights of others', async () => {
  const { izta } = between(async (payloads, send) => {
    if (payloads.some(isHeld)) throw lockTimeout()
    return send()
  })
  const held = Promise.allSettled(numbers(8).map((n) => keyed(izta, n)))
  expect(await Promise.all([90, 91, 92].map((n) => keyed(izta, n)))).toMatchObject(
    numbers(3).map(() => ({ created: true })),
  )
  expect(await held).toMatchObject(
    numbers(8).map(() => ({ status: 'rejected', reason: { code: 'lock-timeout', outcome: 'not-applied' } })),
  )
})

test('a call that waits for others is told in its own time, and is not sent later', async () => {
  const release = Promise.withResolvers<void>()
  const { izta, sent } = between(async (_, send) => {
    await release.promise
    return send()
  }, 0.1)
  const calls = [keyed(izta, 0, 'same'), keyed(izta, 1, 'same')]
  expect(await Promise.allSettled(calls)).toMatchObject([
    { reason: { code: 'database-unreachable', outcome: 'unknown' } },
    { reason: { code: 'busy', outcome: 'not-applied' } },
  ])
  release.resolve()
  await izta.counts()
  expect(sent.flat()).not.toContain('p1')
})

test('a call in flight with others is told in its own time', async () => {
  const late = Promise.withResolvers<Rows>()
  const { izta } = between((payloads, send) => (payloads.length > 1 ? late.promise : send()), 0.1)
  const answers = await Promise.allSettled(numbers(8).map((n) => keyed(izta, n)))
  expect(answers.map(({ status }) => status)).toEqual([
    ...numbers(4).map(() => 'fulfilled'),
    ...numbers(4).map(() => 'rejected'),
  ])
  expect(answers[4]).toMatchObject({ reason: { code: 'database-unreachable', outcome: 'unknown' } })
  late.resolve([])
})
