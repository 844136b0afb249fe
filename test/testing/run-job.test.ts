// runJob: a handler with every check and no database.
import { defineJob, PayloadError } from 'izta'
import { runJob } from 'izta/testing'
import { expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'

const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  async run({ numerator, denominator }, ctx) {
    if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' }, { retry: false })
    return numerator / denominator
  },
})

test('the example of runJob', async () => {
  const run = await runJob(divide, { numerator: 1, denominator: 2 })
  expect(run).toMatchObject({ status: 'finished', result: 0.5 })
})

test('a declared error comes back typed', async () => {
  const run = await runJob(divide, { numerator: 1, denominator: 0 })
  expect(run).toMatchObject({
    status: 'failed',
    code: 'declared',
    error: { code: 'divide-by-zero' },
    willRetry: false,
  })
  if (run.status === 'failed') expectTypeOf(run.error).toEqualTypeOf<{ code: 'divide-by-zero' } | undefined>()
  if (run.status === 'finished') expectTypeOf(run.result).toEqualTypeOf<number>()
})

test('a payload that enqueue would refuse is refused', async () => {
  await expect(runJob(divide, { numerator: 'one' } as never)).rejects.toThrow(PayloadError)
})

test('a result that its schema refuses is a failed attempt', async () => {
  const job = defineJob({ id: 'wrong', result: z.string(), run: () => 7 as never })
  expect(await runJob(job)).toMatchObject({ status: 'failed', code: 'result-refused', willRetry: true })
})

test('children are collected, in order, and belong to a finished run only', async () => {
  const parent = defineJob({
    id: 'parent',
    payload: z.boolean(),
    run(fails, ctx) {
      ctx.enqueue(divide, { numerator: 1, denominator: 1 }, { key: 'first' })
      ctx.enqueue(divide, { numerator: 2, denominator: 1 }, { queue: 'slow' })
      if (fails) throw new Error('too bad')
    },
  })
  expect(await runJob(parent, false)).toEqual({
    status: 'finished',
    result: undefined,
    children: [
      { job: 'divide', payload: { numerator: 1, denominator: 1 }, queue: 'default', key: 'first' },
      { job: 'divide', payload: { numerator: 2, denominator: 1 }, queue: 'slow', key: undefined },
    ],
  })
  expect(await runJob(parent, true)).toEqual({
    status: 'failed',
    code: 'thrown',
    message: 'too bad',
    error: undefined,
    willRetry: true,
  })
})

const telling = defineJob({
  id: 'telling',
  result: z.object({ attempt: z.number(), losses: z.number() }),
  maxAttempts: 3,
  run: (_, ctx) => (ctx.attempt === 3 ? ctx.fail('enough') : { attempt: ctx.attempt, losses: ctx.losses }),
})

test('attempt and losses are what the options say, 1 and 0 by default', async () => {
  expect(await runJob(telling)).toMatchObject({ result: { attempt: 1, losses: 0 } })
  expect(await runJob(telling, undefined, { attempt: 2, losses: 1 })).toMatchObject({
    result: { attempt: 2, losses: 1 },
  })
})

test('the last attempt is not followed by another', async () => {
  expect(await runJob(telling, undefined, { attempt: 3 })).toMatchObject({
    status: 'failed',
    willRetry: false,
  })
})

const patient = defineJob({
  id: 'patient',
  async run(_, { signal }) {
    signal.throwIfAborted()
    await new Promise((_resolve, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason as Error)),
    )
  },
})

test('signal cancels the task, before the run or during it', async () => {
  expect(await runJob(patient, undefined, { signal: AbortSignal.abort() })).toEqual({ status: 'cancelled' })
  const controller = new AbortController()
  const run = runJob(patient, undefined, { signal: controller.signal })
  controller.abort()
  expect(await run).toEqual({ status: 'cancelled' })
})

test('log receives what the handler logs, with the task’s facts', async () => {
  const lines: unknown[] = []
  const job = defineJob({ id: 'logging', run: (_, ctx) => ctx.log.info('half way', { done: 5 }) })
  await runJob(job, undefined, { log: { ...log, info: (...line) => lines.push(line) }, attempt: 2 })
  expect(lines).toEqual([['half way', expect.objectContaining({ job: 'logging', attempt: 2, done: 5 })]])
})

test('a definition without handler is refused', async () => {
  await expect(runJob(defineJob({ id: 'elsewhere' }))).rejects.toThrow(
    'Job "elsewhere" has no handler: pass what implementJob returns.',
  )
})
