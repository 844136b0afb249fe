// How long a call takes at most, and how its caller can end it.
import { createIzta, defineJob, IztaError, type CallOptions, type Database, type Izta } from 'izta'
import { createEnqueueHandler } from 'izta/lambda'
import { expect, test } from 'vitest'

const job = defineJob({ id: 'job' })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const id = '0198a000-0000-7000-8000-000000000000'
/** Never answers, as a machine that stands still. */
const stalled = (): Database => ({ joinsEnqueues: true, query: () => new Promise(() => {}) })
const create = (callTimeoutSeconds?: number) =>
  createIzta({ database: stalled(), jobs: [job], log, callTimeoutSeconds })

async function failureOf(call: Promise<unknown>): Promise<unknown> {
  return call.then(
    () => 'resolved',
    (error: unknown) => error,
  )
}

const calls: readonly [name: string, call: (izta: Izta, options?: CallOptions) => Promise<unknown>][] = [
  ['enqueue', (izta, options) => izta.enqueue(job, undefined, options)],
  ['enqueue with a key', (izta, options) => izta.enqueue(job, undefined, { ...options, key: 'k' })],
  ['enqueueMany', (izta, options) => izta.enqueueMany(job, [undefined], options)],
  ['counts', (izta, options) => izta.counts(options)],
  ['listPage', (izta, options) => izta.listPage(options)],
  ['wait', (izta, options) => izta.wait(job, id, options)],
  ['retry', (izta, options) => izta.retry(id, options)],
]

test.for([...calls, ['cancel', (izta: Izta) => izta.cancel(id)] as const])(
  '%s is told in its time that the database gives no answer',
  async ([, call]) => {
    expect(await failureOf(call(create(0.1)))).toMatchObject({
      code: 'database-unreachable',
      retryable: true,
      outcome: 'unknown',
    })
  },
)

test.for(calls)('%s ends when its signal aborts', async ([, call]) => {
  const controller = new AbortController()
  const failure = failureOf(call(create(), { signal: controller.signal }))
  await new Promise(setImmediate)
  controller.abort()
  expect(await failure).toMatchObject({ code: 'aborted', outcome: 'unknown' })
})

test.for(calls)('%s with a signal that has aborted sends nothing', async ([, call]) => {
  expect(await failureOf(call(create(), { signal: AbortSignal.abort() }))).toMatchObject({
    code: 'aborted',
    outcome: 'not-applied',
  })
})

test.for(calls)('%s refuses what is no signal', async ([, call]) => {
  const failure = await failureOf(call(create(), { signal: 'soon' as never }))
  expect(IztaError.is(failure) && failure.message).toContain('expected an AbortSignal')
})

test('an enqueue function tells of a stalled database before its own time is over', async () => {
  const handler = createEnqueueHandler({ izta: create() })
  const event = { tasks: [{ job: 'job' }], onError: 'answer' }
  const answer = await handler(event, { getRemainingTimeInMillis: () => 700 })
  expect(answer).toMatchObject({ statusCode: 503, error: { code: 'database-unreachable', retryable: true } })
})
