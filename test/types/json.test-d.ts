// Which schemas the types of jobs refuse, because their values are not JSON, and which values of the others.
/* oxlint-disable vitest/expect-expect -- the compiler is what expects here */
import { type } from 'arktype'
import {
  createIzta,
  defineJob,
  type JobContext,
  type JsonValue,
  type PayloadInput,
  type ResultOutput,
} from 'izta'
import { pgDatabase } from 'izta/pg'
import * as v from 'valibot'
import { describe, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import type { OutputCheck, PayloadCheck } from '../../src/job/json-types.ts'

class Money {
  cents = 1
  plus(other: Money) {
    return other.cents + this.cents
  }
}
const isoDate = z.codec(z.iso.datetime(), z.date(), {
  decode: (text) => new Date(text),
  encode: (date) => date.toISOString(),
})
const dateIso = z.codec(z.date(), z.iso.datetime(), {
  decode: (date) => date.toISOString(),
  encode: (text) => new Date(text),
})
const tree = z.object({
  name: z.string(),
  get children() {
    return z.array(tree)
  },
})
const datedTree = z.object({
  at: z.date(),
  get children() {
    return z.array(datedTree)
  },
})
const izta = createIzta({ database: pgDatabase('postgres://localhost/x'), jobs: [] })

describe('a payload schema', () => {
  test('of zod is refused where its input is not JSON', () => {
    // @ts-expect-error -- a Date
    defineJob({ id: 'a', payload: z.date() })
    // @ts-expect-error -- a Date that may be missing
    defineJob({ id: 'a', payload: z.object({ at: z.date().optional() }) })
    // @ts-expect-error -- a Date somewhere
    defineJob({ id: 'a', payload: z.object({ list: z.array(z.object({ at: z.date().nullable() })) }) })
    // @ts-expect-error -- a Date in a record
    defineJob({ id: 'a', payload: z.record(z.string(), z.date()) })
    // @ts-expect-error -- a Date in one of several
    defineJob({ id: 'a', payload: z.union([z.string(), z.object({ at: z.date() })]) })
    // @ts-expect-error -- a Date in itself again
    defineJob({ id: 'a', payload: datedTree })
    // @ts-expect-error -- a Map
    defineJob({ id: 'a', payload: z.map(z.string(), z.string()) })
    // @ts-expect-error -- a Set
    defineJob({ id: 'a', payload: z.object({ tags: z.set(z.string()) }) })
    // @ts-expect-error -- a bigint
    defineJob({ id: 'a', payload: z.object({ id: z.bigint() }) })
    // @ts-expect-error -- a symbol
    defineJob({ id: 'a', payload: z.object({ id: z.symbol() }) })
    // @ts-expect-error -- symbols as keys
    defineJob({ id: 'a', payload: z.record(z.symbol(), z.string()) })
    // @ts-expect-error -- a function
    defineJob({ id: 'a', payload: z.object({ done: z.custom<() => void>() }) })
    // @ts-expect-error -- a function that may be missing
    defineJob({ id: 'a', payload: z.object({ done: z.custom<() => void>().optional() }) })
    // @ts-expect-error -- a class
    defineJob({ id: 'a', payload: z.custom<typeof Money>() })
    // @ts-expect-error -- an instance with methods
    defineJob({ id: 'a', payload: z.object({ price: z.instanceof(Money) }) })
    // @ts-expect-error -- a URL
    defineJob({ id: 'a', payload: z.instanceof(URL) })
    // @ts-expect-error -- an Error
    defineJob({ id: 'a', payload: z.instanceof(Error) })
    // @ts-expect-error -- bytes
    defineJob({ id: 'a', payload: z.instanceof(Uint8Array) })
    // @ts-expect-error -- a file
    defineJob({ id: 'a', payload: z.file() })
    // @ts-expect-error -- a promise
    defineJob({ id: 'a', payload: z.custom<Promise<string>>() })
    // @ts-expect-error -- items that may be undefined
    defineJob({ id: 'a', payload: z.array(z.string().optional()) })
    // @ts-expect-error -- a last item that may be given as undefined
    defineJob({ id: 'a', payload: z.tuple([z.string(), z.number().optional()]) })
    // @ts-expect-error -- wanted by the schema, and left out when undefined
    defineJob({ id: 'a', payload: z.object({ a: z.union([z.string(), z.undefined()]) }) })
    // @ts-expect-error -- the input of a codec the wrong way round
    defineJob({ id: 'a', payload: z.object({ at: dateIso }) })
  })

  test('of Valibot is refused where its input is not JSON', () => {
    // @ts-expect-error -- a Date
    defineJob({ id: 'a', payload: v.object({ at: v.date() }) })
    // @ts-expect-error -- a Map
    defineJob({ id: 'a', payload: v.map(v.string(), v.string()) })
    // @ts-expect-error -- a Set
    defineJob({ id: 'a', payload: v.object({ tags: v.optional(v.set(v.string())) }) })
    // @ts-expect-error -- a bigint
    defineJob({ id: 'a', payload: v.array(v.bigint()) })
    // @ts-expect-error -- bytes
    defineJob({ id: 'a', payload: v.blob() })
    // @ts-expect-error -- wanted by the schema, and left out when undefined
    defineJob({ id: 'a', payload: v.object({ a: v.undefinedable(v.string()) }) })
  })

  test('of ArkType is refused where its input is not JSON', () => {
    // @ts-expect-error -- a Date
    defineJob({ id: 'a', payload: type({ at: 'Date' }) })
    // @ts-expect-error -- a Date that may be missing
    defineJob({ id: 'a', payload: type({ 'at?': 'Date | null' }) })
    // @ts-expect-error -- a Map
    defineJob({ id: 'a', payload: type({ list: 'Map' }) })
    // @ts-expect-error -- a bigint
    defineJob({ id: 'a', payload: type('bigint[]') })
    // @ts-expect-error -- wanted by the schema, and left out when undefined
    defineJob({ id: 'a', payload: type({ a: 'string | undefined' }) })
  })

  test('is taken where its input is JSON, whatever its output is', () => {
    const job = defineJob({
      id: 'a',
      payload: z.object({ at: isoDate, url: z.string().transform((text) => new URL(text)) }),
      run: (payload) => expectTypeOf(payload).toEqualTypeOf<{ at: Date; url: URL }>(),
    })
    expectTypeOf<PayloadInput<typeof job>>().toEqualTypeOf<{ at: string; url: string }>()
    // @ts-expect-error -- the input is text
    void izta.enqueue(job, { at: new Date(), url: '' })
    defineJob({ id: 'a', payload: tree })
    defineJob({ id: 'a', payload: z.json() })
    defineJob({ id: 'a', payload: z.string().brand('id') })
    defineJob({ id: 'a', payload: z.object({ a: z.literal('a') }).brand('id') })
    defineJob({ id: 'a', payload: z.object({}) })
    defineJob({ id: 'a', payload: z.strictObject({}) })
    defineJob({ id: 'a', payload: z.null() })
    defineJob({ id: 'a', payload: z.undefined() })
    defineJob({ id: 'a', payload: z.never() })
    defineJob({ id: 'a', payload: z.record(z.enum(['a', 'b']), z.number().optional()) })
    defineJob({ id: 'a', payload: z.readonly(z.tuple([z.string(), z.number()], z.boolean())) })
    defineJob({ id: 'a', payload: z.object({ a: z.string().nullish(), b: z.number().default(1) }) })
    defineJob({ id: 'a', payload: v.object({ a: v.optional(v.string()), b: v.nullish(v.number(), 1) }) })
    defineJob({
      id: 'a',
      payload: v.variant('k', [v.object({ k: v.literal(1) }), v.object({ k: v.literal(2) })]),
    })
    defineJob({ id: 'a', payload: type({ 'a?': 'string', b: 'number[] | null', 'c?': { d: 'boolean' } }) })
    defineJob({ id: 'a', payload: type('string.date.iso.parse') })
  })
})

describe('a result schema', () => {
  test('is refused where its output is not JSON', () => {
    // @ts-expect-error -- a Date
    defineJob({ id: 'a', result: z.object({ at: z.date() }), run: () => ({ at: new Date() }) })
    // @ts-expect-error -- the output of a codec the wrong way round
    defineJob({ id: 'a', result: isoDate, run: () => new Date().toISOString() })
    // @ts-expect-error -- a Set
    defineJob({ id: 'a', result: v.set(v.string()) })
    // @ts-expect-error -- a bigint
    defineJob({ id: 'a', result: type({ n: 'bigint' }) })
  })

  test('may have any input', () => {
    const job = defineJob({
      id: 'a',
      result: z.object({ at: dateIso, tags: z.set(z.string()).transform((tags) => [...tags]) }),
      run: () => ({ at: new Date(), tags: new Set(['a']) }),
    })
    expectTypeOf<ResultOutput<typeof job>>().toEqualTypeOf<{ at: string; tags: string[] }>()
    defineJob({ id: 'a', result: dateIso, run: () => new Date() })
  })

  test('may have properties that are undefined', () => {
    const result = z.object({ note: z.string().optional(), more: z.union([z.string(), z.undefined()]) })
    defineJob({ id: 'a', result, run: () => ({ note: undefined, more: undefined }) })
  })
})

test('an error schema is refused where its output is not JSON', () => {
  // @ts-expect-error -- a Date
  defineJob({ id: 'a', error: z.object({ until: z.date() }) })
  // @ts-expect-error -- a Map
  defineJob({ id: 'a', error: v.map(v.string(), v.string()) })
  defineJob({
    id: 'a',
    error: z.object({ until: dateIso }),
    run: (_, ctx) => ctx.fail({ until: new Date() }),
  })
})

describe('a part of a schema that is unknown', () => {
  const job = defineJob({
    id: 'a',
    payload: z.object({ at: z.coerce.date(), data: z.record(z.string(), z.unknown()), 'more?': z.unknown() }),
    result: z.object({ data: z.unknown() }),
    error: z.unknown(),
    run: (_, ctx) =>
      ctx.attempt === 1 ? ctx.fail(['late']) : { data: { list: [1, null, { a: undefined }] } },
  })

  test('takes JSON, and nothing else', () => {
    void izta.enqueue(job, { at: '2030-01-01', data: { list: [1, 'a', { b: null }] }, 'more?': 1 })
    // @ts-expect-error -- a Date
    void izta.enqueue(job, { at: new Date(), data: {}, 'more?': 1 })
    // @ts-expect-error -- a Date
    void izta.enqueue(job, { at: '2030-01-01', data: { at: new Date() }, 'more?': 1 })
    // @ts-expect-error -- a bigint
    void izta.enqueue(job, { at: '2030-01-01', data: {}, 'more?': 1n })
    // @ts-expect-error -- a Date
    defineJob({ id: 'a', result: z.object({ data: z.unknown() }), run: () => ({ data: new Date() }) })
    // @ts-expect-error -- a Map
    defineJob({ id: 'a', result: z.unknown(), run: () => new Map() })
    // @ts-expect-error -- a Set
    const fail = (ctx: JobContext<typeof job.error>) => ctx.fail(new Set())
    expectTypeOf(fail).toBeFunction()
  })

  test('may be left out where the whole payload is unknown', () => {
    const anything = defineJob({ id: 'a', payload: z.unknown() })
    void izta.enqueue(anything)
    void izta.enqueue(anything, { a: [1] })
    expectTypeOf<PayloadInput<typeof anything>>().toEqualTypeOf<JsonValue | undefined>()
    // @ts-expect-error -- a Date
    void izta.enqueue(anything, new Date())
  })
})

test('a refusal names the place and the type', () => {
  type Advice = `A codec or transform makes it JSON: see "Dates and other values" in izta's docs/api.md.`
  expectTypeOf<
    PayloadCheck<{ list: { at: Date | null }[] }>
  >().toEqualTypeOf<`The payload schema's input at "list[].at" is a Date, which JSON cannot hold. ${Advice}`>()
  expectTypeOf<
    OutputCheck<Map<string, 1> | string, 'result'>
  >().toEqualTypeOf<`The result schema's output is a Map, which JSON cannot hold. ${Advice}`>()
  expectTypeOf<PayloadCheck<{ price: Money; id: bigint }>>().toEqualTypeOf<
    | `The payload schema's input at "price" is an object with methods, which JSON cannot hold. ${Advice}`
    | `The payload schema's input at "id" is a bigint, which JSON cannot hold. ${Advice}`
  >()
})

test('`any` is checked at run time only', () => {
  const job = defineJob({ id: 'a', payload: z.any(), result: z.any(), run: () => new Date() })
  void izta.enqueue(job, { at: new Date() })
})

test('a job may return what it enqueues of itself', () => {
  const crawl = defineJob({
    id: 'crawl',
    payload: z.object({ depth: z.number() }),
    run({ depth }, ctx) {
      if (depth > 3) return ctx.fail('too deep')
      return ctx.enqueue(crawl, { depth: depth + 1 })
    },
  })
  const poll = defineJob({
    id: 'poll',
    run: async (_, ctx) => ctx.enqueue(poll, undefined, { delaySeconds: 1 }),
  })
  expectTypeOf<PayloadInput<typeof crawl>>().toEqualTypeOf<{ depth: number }>()
  void izta.enqueue(poll)
  // @ts-expect-error -- the payload is missing
  void izta.enqueue(crawl)
})
