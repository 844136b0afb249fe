// A statement on its way through the gate: what its caller is told when its time ends, and when its place is free again.
import { expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import type { Database, QueryOptions, Row, Statement } from '../../src/db/database.ts'
import { forOneCall, throughGate, untilDeadline } from '../../src/db/gated.ts'

const statement = (text: string): Statement => ({ lane: 'quick', text, values: [] })

/** Answers when the test says so. */
function manual(connections: number) {
  const sent: { text: string; signal: QueryOptions['signal']; answer: PromiseWithResolvers<Row[]> }[] = []
  const database: Database = {
    connections,
    query({ text }, { signal } = {}) {
      const answer = Promise.withResolvers<Row[]>()
      sent.push({ text, signal, answer })
      return answer.promise
    },
  }
  return { database, sent, texts: () => sent.map(({ text }) => text) }
}

const settled = (promise: Promise<unknown>) => promise.catch((error: unknown) => error)

test('more statements than connections wait in izta, in order, and all are answered', async () => {
  const { database, sent, texts } = manual(2)
  const gated = throughGate(database)
  const answers = ['a', 'b', 'c', 'd'].map((text) => gated.query(statement(text)))
  expect(texts()).toEqual(['a', 'b'])
  sent[1]?.answer.resolve([{ n: 'b' }])
  expect(await answers[1]).toEqual([{ n: 'b' }])
  expect(texts()).toEqual(['a', 'b', 'c'])
  sent[0]?.answer.reject(new Error('broken'))
  await settled(answers[0] as Promise<unknown>)
  expect(texts()).toEqual(['a', 'b', 'c', 'd'])
  sent[2]?.answer.resolve([])
  sent[3]?.answer.resolve([])
  expect(await Promise.all(answers.slice(2))).toEqual([[], []])
})

test('two instances over one adapter share its connections', async () => {
  const { database, sent, texts } = manual(1)
  const answers = [throughGate(database), throughGate(database)].map((gated, n) =>
    gated.query(statement(String(n))),
  )
  expect(texts()).toEqual(['0'])
  sent[0]?.answer.resolve([])
  await answers[0]
  expect(texts()).toEqual(['0', '1'])
  sent[1]?.answer.resolve([])
  await answers[1]
})

test('a call that was never sent is told as busy: not applied, and worth another try', async () => {
  const { database, sent, texts } = manual(1)
  const first = throughGate(database).query(statement('first'))
  const error = await settled(throughGate(database, { callTimeoutSeconds: 0.02 }).query(statement('second')))
  expect(error).toMatchObject({ code: 'busy', retryable: true, outcome: 'not-applied' })
  expect(String(error)).toContain('the adapter carries 1 at a time')
  sent[0]?.answer.resolve([])
  await first
  expect(texts()).toEqual(['first'])
})

test('a call that finds no place leaves time for an answer, or an idle database would be told as unreachable', async () => {
  const { database, sent, texts } = manual(1)
  const [first, second] = ['first', 'second'].map((text) =>
    settled(throughGate(database, { callTimeoutSeconds: 0.25 }).query(statement(text))),
  )
  // Has a fifth of its time left when the other waits no longer.
  expect(await second).toMatchObject({ code: 'busy' })
  expect(sent[0]?.signal?.aborted).toBe(false)
  sent[0]?.answer.resolve([])
  expect(await first).toEqual([])
  expect(texts()).toEqual(['first'])
})

test('a statement without an answer in time is told as unknown, and its adapter is told to give it up', async () => {
  const { database, sent } = manual(1)
  const gated = throughGate(database, { callTimeoutSeconds: 0.02 })
  const error = await settled(gated.query(statement('stalled')))
  expect(error).toMatchObject({ code: 'database-unreachable', retryable: true, outcome: 'unknown' })
  expect(sent[0]?.signal?.aborted).toBe(true)
})

test('a statement in flight keeps its place until the adapter has given it up', async () => {
  const { database, sent, texts } = manual(1)
  await settled(throughGate(database, { callTimeoutSeconds: 0.02 }).query(statement('stalled')))
  const next = throughGate(database).query(statement('next'))
  expect(texts()).toEqual(['stalled'])
  sent[0]?.answer.reject(new Error('given up'))
  await new Promise(setImmediate)
  expect(texts()).toEqual(['stalled', 'next'])
  sent[1]?.answer.resolve([])
  await next
})

test.for(['before it is sent', 'in flight'] as const)('a signal ends a call %s', async (when) => {
  const { database, sent } = manual(1)
  const other = when === 'in flight' ? undefined : throughGate(database).query(statement('other'))
  const controller = new AbortController()
  const gated = throughGate(database)
  const call = settled(gated.query(statement('call'), { ...gated.limits(), signal: controller.signal }))
  controller.abort(new Error('the request was closed'))
  expect(await call).toMatchObject({
    code: 'aborted',
    outcome: when === 'in flight' ? 'unknown' : 'not-applied',
    cause: { message: 'the request was closed' },
  })
  for (const { answer } of sent) answer.resolve([])
  await other
})

test('a signal that has aborted already sends nothing', async () => {
  const { database, texts } = manual(1)
  const gated = throughGate(database)
  const limits = { ...gated.limits(), signal: AbortSignal.abort() }
  expect(await settled(gated.query(statement('never'), limits))).toMatchObject({ code: 'aborted' })
  expect(texts()).toEqual([])
})

test('an adapter that throws at once does not keep its place', async () => {
  let calls = 0
  const gated = throughGate({
    connections: 1,
    query() {
      calls++
      throw Object.assign(new Error('at once'), { code: '40001' })
    },
  })
  for (let n = 0; n < 3; n++) {
    expect(await settled(gated.query(statement('call')))).toMatchObject({ code: 'serialization' })
  }
  expect(calls).toBe(3)
})

test('the statements of one call share its time and its signal', () => {
  const { database } = manual(1)
  const { signal } = new AbortController()
  const gated = throughGate(database)
  const call = forOneCall(gated, { signal })
  expect(call.limits()).toBe(call.limits())
  expect(call.limits().signal).toBe(signal)
  expect(forOneCall(gated, { untilMs: 1 }).limits().untilMs).toBe(1)
})

test.for([
  ['a parsed number', [{ id: '1', claims: 3 }], '3 in column "claims"'],
  ['a parsed boolean', [{ paused: false }], 'false in column "paused"'],
  ['parsed JSON', [{ payload: { secret: 1 } }], 'in column "payload"'],
  ['rows as arrays', [['1']], 'in place of a row'],
  ['the whole result of a driver', { rows: [] }, 'in place of rows'],
] as const)('an adapter that answers with %s is told how to answer', async ([, rows, told]) => {
  const gated = throughGate({ query: async () => rows as never })
  const error = await settled(gated.query(statement('select')))
  expect(error).toMatchObject({ code: 'rows-not-text', retryable: false, outcome: 'unknown' })
  expect(String(error)).toContain(told)
  expect(String(error)).toContain('getTypeParser')
})

test('until a deadline every call has its own time, and none goes beyond', () => {
  const { database } = manual(1)
  const soon = systemClock.now() + 50
  expect(untilDeadline(throughGate(database), soon).limits().untilMs).toBe(soon)
  const late = systemClock.now() + 1e6
  expect(untilDeadline(throughGate(database), late).limits().untilMs).toBeLessThan(late)
})
