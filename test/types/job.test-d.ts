// What the types of jobs let through and refuse: payload, result, declared error, handlers.
/* oxlint-disable vitest/expect-expect -- the compiler is what expects here */
import type { StandardSchemaV1 } from '@standard-schema/spec'
import {
  createIzta,
  defineJob,
  implementJob,
  type Handler,
  type Job,
  type JobDefinition,
  type PayloadInput,
} from 'izta'
import { pgDatabase } from 'izta/pg'
import * as v from 'valibot'
import { describe, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import type { ping } from './ping.ts'
import type { pong } from './pong.ts'

const resize = defineJob({
  id: 'resize',
  payload: z.object({ url: z.string().transform((text) => new URL(text)), width: z.number().default(100) }),
  result: z.object({ bytes: z.string().transform(Number) }),
  error: z.object({ code: z.enum(['gone', 'not-an-image']) }),
  run({ url, width }, ctx) {
    expectTypeOf(url).toEqualTypeOf<URL>()
    expectTypeOf(width).toBeNumber()
    if (width === 0) return ctx.fail({ code: 'not-an-image' }, { retry: false, retryAfterSeconds: undefined })
    return { bytes: '17' }
  },
})
const sweep = defineJob({ id: 'sweep', run: () => undefined })
const lenient = defineJob({ id: 'lenient', payload: z.object({ to: z.string() }).optional() })
const izta = createIzta({ database: pgDatabase('postgres://localhost/x'), jobs: [resize, sweep] })

describe('a job', () => {
  test('takes the input of its payload schema and runs with its output', () => {
    expectTypeOf<PayloadInput<typeof resize>>().toEqualTypeOf<{ url: string; width?: number | undefined }>()
    void izta.enqueue(resize, { url: 'https://example.com/a.png' })
    // @ts-expect-error -- the output of the schema is no input
    void izta.enqueue(resize, { url: new URL('https://example.com') })
    // @ts-expect-error -- the payload is missing
    void izta.enqueue(resize)
  })

  test('must return the input of its result schema', () => {
    defineJob({ id: 'a', result: z.number(), run: () => 1 })
    defineJob({ id: 'a', result: z.number(), run: async () => 1 })
    // @ts-expect-error -- a text is no number
    defineJob({ id: 'a', result: z.number(), run: () => 'one' })
    // @ts-expect-error -- nothing is no number
    defineJob({ id: 'a', result: z.number(), run() {} })
    defineJob({
      id: 'a',
      payload: z.object({ n: z.number() }),
      result: z.object({ n: z.number() }),
      // @ts-expect-error -- another type of n
      async run({ n }, ctx) {
        return { n: `${n} of ${ctx.attempt}` }
      },
    })
    defineJob({
      id: 'a',
      payload: z.object({ n: z.number() }),
      result: z.object({ n: z.number() }),
      // @ts-expect-error -- a return that was forgotten
      async run({ n }) {
        await Promise.resolve({ n })
      },
    })
    // A definition without a handler stays one.
    expectTypeOf(defineJob({ id: 'a', run: undefined })).not.toHaveProperty('run')
  })

  test('may return anything without a result schema', () => {
    defineJob({ id: 'a', run: () => Symbol('not stored') })
  })

  test('fails with the input of its error schema only', () => {
    defineJob({
      id: 'a',
      error: z.object({ code: z.literal('x') }),
      run(_, ctx) {
        // @ts-expect-error -- another code
        if (ctx.attempt === 1) return ctx.fail({ code: 'y' })
        // @ts-expect-error -- unknown option
        if (ctx.attempt === 2) return ctx.fail({ code: 'x' }, { retries: 3 })
        return ctx.fail({ code: 'x' })
      },
    })
  })

  test('without an error schema fails with a reason in words, or an error', () => {
    defineJob({
      id: 'a',
      run(_, ctx) {
        if (ctx.attempt === 1) return ctx.fail('the feed is empty')
        if (ctx.attempt === 2) return ctx.fail(new Error('the feed is empty'))
        // @ts-expect-error -- an object is no declared error here
        return ctx.fail({ code: 'x' })
      },
    })
  })

  test('narrows its payload after `return ctx.fail(…)`', () => {
    defineJob({
      id: 'a',
      payload: z.object({ to: z.string().nullable() }),
      run({ to }, ctx) {
        if (to === null) return ctx.fail('nobody')
        expectTypeOf(to).toBeString()
        return undefined
      },
    })
  })

  test('without a payload schema takes none', () => {
    void izta.enqueue(sweep)
    void izta.enqueue(sweep, undefined, { priority: 0 })
    // @ts-expect-error -- the job takes no payload
    void izta.enqueue(sweep, { all: true })
  })

  test('whose schema allows undefined may go without a payload', () => {
    void izta.enqueue(lenient)
    void izta.enqueue(lenient, { to: 'x' }, { key: 'x' })
    // @ts-expect-error -- `to` is a text
    void izta.enqueue(lenient, { to: 1 })
  })

  test('takes options that may be undefined, and no unknown ones', () => {
    const queue = process.env['QUEUE']
    defineJob({ id: 'a', name: queue, queue, priority: undefined, retention: { finishedDays: undefined } })
    defineJob({ id: 'a', backoff: { jitter: undefined, maxSeconds: undefined }, payload: undefined })
    void izta.enqueue(sweep, undefined, { queue, delaySeconds: undefined, runAt: undefined })
    // @ts-expect-error -- unknown option
    defineJob({ id: 'a', retries: 3 })
    // @ts-expect-error -- unknown option
    void izta.enqueue(sweep, undefined, { delay: 5 })
    // @ts-expect-error -- the id is missing
    defineJob({ queue: 'a' })
  })

  test('may enqueue itself', () => {
    const crawl = defineJob({
      id: 'crawl',
      payload: z.object({ depth: z.number() }),
      run({ depth }, ctx) {
        ctx.enqueue(crawl, { depth: depth + 1 })
        // @ts-expect-error -- depth is a number
        ctx.enqueue(crawl, { depth: 'deeper' })
      },
    })
    expectTypeOf<PayloadInput<typeof crawl>>().toEqualTypeOf<{ depth: number }>()
  })

  test('may enqueue one of another file that enqueues it', () => {
    expectTypeOf<PayloadInput<typeof ping>>().toEqualTypeOf<{ left: number }>()
    expectTypeOf<PayloadInput<typeof pong>>().toEqualTypeOf<{ left: number }>()
  })
})

describe('a definition without its handler', () => {
  const syncFeed = defineJob({
    id: 'sync-feed',
    payload: z.object({ url: z.url() }),
    result: z.object({ status: z.number() }),
  })

  test('is implemented elsewhere with the same types', () => {
    const syncFeedJob = implementJob(syncFeed, async ({ url }, ctx) => {
      expectTypeOf(url).toBeString()
      expectTypeOf(ctx.signal).toEqualTypeOf<AbortSignal>()
      return { status: (await fetch(url, { signal: ctx.signal })).status }
    })
    expectTypeOf(syncFeed).toExtend<JobDefinition>()
    expectTypeOf(syncFeed).not.toHaveProperty('run')
    expectTypeOf(syncFeedJob).toExtend<JobDefinition>()
    expectTypeOf(syncFeedJob).toHaveProperty('run')
    expectTypeOf<PayloadInput<typeof syncFeedJob>>().toEqualTypeOf<PayloadInput<typeof syncFeed>>()
    // @ts-expect-error -- the result is missing
    implementJob(syncFeed, async () => {})
  })

  test('gives the type of its handler to a function that stands alone', () => {
    type Of<D> = D extends JobDefinition<infer P, infer R, infer E> ? Handler<P, R, E> : never
    const run: Of<typeof syncFeed> = ({ url }) => ({ status: url.length })
    implementJob(syncFeed, run)
  })
})

describe('any Standard Schema', () => {
  test('of Valibot gives input and output', () => {
    const job = defineJob({
      id: 'a',
      payload: v.object({
        at: v.pipe(
          v.string(),
          v.transform((text) => new Date(text)),
        ),
        size: v.optional(v.number(), 1),
      }),
      result: v.number(),
      error: v.object({ code: v.literal('late') }),
      run({ at, size }, ctx) {
        expectTypeOf(at).toEqualTypeOf<Date>()
        expectTypeOf(size).toBeNumber()
        return size > 5 ? ctx.fail({ code: 'late' }) : size
      },
    })
    expectTypeOf<PayloadInput<typeof job>>().toEqualTypeOf<{ at: string; size?: number | undefined }>()
    expectTypeOf(job).toExtend<Job>()
  })

  test('written by hand gives input and output', () => {
    const digits: StandardSchemaV1<string, number> = {
      '~standard': { version: 1, vendor: 'hand', validate: (value) => ({ value: Number(value) }) },
    }
    const job = defineJob({ id: 'a', payload: digits, run: (count) => expectTypeOf(count).toBeNumber() })
    expectTypeOf<PayloadInput<typeof job>>().toBeString()
  })

  test('is needed: a plain type or class is none', () => {
    // @ts-expect-error -- no schema
    defineJob({ id: 'a', payload: { url: 'string' } })
    // @ts-expect-error -- no schema
    defineJob({ id: 'a', payload: String })
  })
})
