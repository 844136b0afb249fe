// A job that compiles runs: values of every type that the types of payload, result and error allow.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { type } from 'arktype'
import {
  createIzta,
  defineJob,
  defineSchedule,
  type JobDefinition,
  type JsonValue,
  type PayloadInput,
} from 'izta'
import { createTestClock, drain, runJob } from 'izta/testing'
import * as fc from 'fast-check'
import * as v from 'valibot'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database } = await testDatabase()
const clock = await createTestClock({ database })
const log = { debug() {}, info() {}, warn() {}, error() {} }

type Input<S extends StandardSchemaV1> = PayloadInput<JobDefinition<S, undefined, undefined>>

interface Sample {
  readonly name: string
  readonly schema: StandardSchemaV1
  readonly values: fc.Arbitrary<unknown>
}

/** The compiler checks that the values are of the type that the job takes. */
function sample<S extends StandardSchemaV1>(name: string, schema: S, values: fc.Arbitrary<Input<S>>): Sample {
  return { name, schema, values }
}

const text = fc.string({ unit: 'binary' })
const number = fc.double({ noNaN: true, noDefaultInfinity: true })
const instant = fc.date({ noInvalidDate: true, min: new Date(0), max: new Date('9999-01-01') })
const isoText = instant.map((date) => date.toISOString())
/** A property that is given, undefined or absent. */
const maybe = <T>(values: fc.Arbitrary<T>) => fc.option(values, { nil: undefined })
const json = fc.jsonValue() as fc.Arbitrary<JsonValue>

const isoDate = z.codec(z.iso.datetime(), z.date(), {
  decode: (given) => new Date(given),
  encode: (date) => date.toISOString(),
})
const zodTree = z.object({
  name: z.string(),
  note: z.string().optional(),
  get children() {
    return z.array(zodTree)
  },
})
const { trees } = fc.letrec<{ trees: z.input<typeof zodTree> }>((tie) => ({
  trees: fc.record(
    {
      name: text,
      note: maybe(text),
      children: fc.oneof(
        { maxDepth: 4 },
        fc.constant([] as z.input<typeof zodTree>[]),
        fc.array(tie('trees'), { maxLength: 2 }),
      ),
    },
    { requiredKeys: ['name', 'children'] },
  ),
}))

const samples: readonly Sample[] = [
  sample(
    'zod: texts, numbers, null',
    z.union([z.string(), z.number(), z.boolean(), z.null()]),
    fc.oneof(text, number, fc.boolean(), fc.constant(null)),
  ),
  sample('zod: nothing', z.undefined(), fc.constant(undefined)),
  sample('zod: optional', z.string().optional(), maybe(text)),
  sample(
    'zod: optional properties',
    z.object({ a: z.string(), b: z.number().optional(), c: z.string().nullish(), d: z.number().default(1) }),
    fc.record(
      { a: text, b: maybe(number), c: fc.option(maybe(text), { nil: null }), d: maybe(number) },
      { requiredKeys: ['a'] },
    ),
  ),
  sample(
    'zod: properties that must not be undefined when they are there',
    z.object({ a: z.string().exactOptional(), list: z.array(z.object({ b: z.number().exactOptional() })) }),
    fc.record({ a: maybe(text), list: fc.array(fc.record({ b: maybe(number) })) }) as never,
  ),
  sample('zod: strict', z.strictObject({ a: z.string().optional() }), fc.record({ a: maybe(text) })),
  sample(
    'zod: loose',
    z.looseObject({ a: z.string() }),
    fc
      .tuple(
        text,
        fc.dictionary(
          text.filter((key) => key !== '__proto__'),
          maybe(json),
        ),
      )
      .map(([a, rest]) => ({ ...rest, a })),
  ),
  sample(
    'zod: records',
    z.record(z.string(), z.number().optional()),
    fc.dictionary(
      text.filter((key) => key !== '__proto__'),
      maybe(number),
    ),
  ),
  sample('zod: tuples', z.tuple([z.string(), z.number()], z.boolean()), fc.tuple(text, number, fc.boolean())),
  sample('zod: trees', zodTree, trees),
  sample('zod: any JSON', z.json(), json as fc.Arbitrary<z.core.util.JSONType>),
  sample('zod: unknown', z.unknown(), maybe(json)),
  sample('zod: unknown inside', z.object({ a: z.unknown() }), fc.record({ a: json })),
  sample('zod: a branded text', z.string().brand('id'), text),
  sample(
    'zod: a codec of Date',
    z.object({ at: isoDate, until: isoDate.optional() }),
    fc.record({ at: isoText, until: maybe(isoText) }),
  ),
  sample('zod: a coerced Date', z.object({ at: z.coerce.date() }), fc.record({ at: isoText })),
  sample(
    'zod: a transform to a Map',
    z.array(z.tuple([z.string(), z.number()])).transform((entries) => new Map(entries)),
    fc.array(fc.tuple(text, number)),
  ),
  sample(
    'Valibot: optional properties',
    v.object({
      a: v.string(),
      b: v.optional(v.number()),
      c: v.nullish(v.string()),
      d: v.exactOptional(v.number()),
    }),
    fc.record(
      { a: text, b: maybe(number), c: fc.option(maybe(text), { nil: null }), d: maybe(number) },
      { requiredKeys: ['a'] },
    ) as never,
  ),
  sample(
    'Valibot: a Date from text',
    v.pipe(
      v.string(),
      v.isoTimestamp(),
      v.transform((given) => new Date(given)),
    ),
    isoText,
  ),
  sample(
    'Valibot: records and tuples',
    v.record(v.string(), v.tuple([v.string(), v.nullable(v.number())])),
    fc.dictionary(
      text.filter((key) => !['__proto__', 'prototype', 'constructor'].includes(key)),
      fc.tuple(text, fc.option(number)),
    ),
  ),
  sample(
    'ArkType: optional properties',
    type({ a: 'string', 'b?': 'number', 'c?': 'string | null', 'd?': { 'e?': 'boolean' } }),
    fc.record(
      {
        a: text,
        b: maybe(number),
        c: maybe(fc.option(text)),
        d: maybe(fc.record({ e: maybe(fc.boolean()) })),
      },
      { requiredKeys: ['a'] },
    ) as never,
  ),
  sample('ArkType: a Date from text', type({ at: 'string.date.iso.parse' }), fc.record({ at: isoText })),
  sample('ArkType: lists', type('(string | number)[]'), fc.array(fc.oneof(text, number))),
]

test.for(samples)('$name: every value reaches the handler', async ({ schema, values }) => {
  const job = defineJob({ id: 'job', payload: schema as z.ZodAny, run() {} })
  await fc.assert(
    fc.asyncProperty(values, async (value) => {
      expect(await runJob(job, value, { log })).toMatchObject({ status: 'finished' })
    }),
    { numRuns: 50 },
  )
})

const outputs = samples.filter(({ name }) => !/Date|Map/.test(name))

test.for(outputs)('$name: every value may be a result and a declared error', async ({ schema, values }) => {
  const result = defineJob({
    id: 'job',
    payload: z.any(),
    result: schema as z.ZodAny,
    run: (value): unknown => value,
  })
  const error = defineJob({
    id: 'job',
    payload: z.any(),
    error: schema as z.ZodAny,
    run: (value, ctx) => ctx.fail(value),
  })
  await fc.assert(
    fc.asyncProperty(values, async (value) => {
      expect(await runJob(result, value, { log })).toMatchObject({ status: 'finished' })
      expect(await runJob(error, value, { log })).toMatchObject({ code: 'declared' })
    }),
    { numRuns: 50 },
  )
})

test.for(samples)(
  '$name: values come back from the database, without what is undefined',
  async ({ schema, values }) => {
    const job = defineJob({ id: 'job', payload: schema as z.ZodAny, run() {} })
    const izta = createIzta({ database, jobs: [job], clock, log })
    const given = fc.sample(values, 10)
    const made = await izta.enqueueMany(job, given)
    await drain(izta)
    for (const [index, { id }] of made.entries()) {
      const task = await izta.get(job, id)
      expect(task?.status).toBe('finished')
      // -0 comes back as 0.
      expect(task?.payload).toEqual(JSON.parse(JSON.stringify(given[index]) ?? 'null') ?? given[index])
    }
  },
)

test('a Date in a result becomes text by a codec or transform', async () => {
  const dateIso = z.codec(z.date(), z.iso.datetime(), {
    decode: (date) => date.toISOString(),
    encode: (given) => new Date(given),
  })
  const job = defineJob({ id: 'job', result: z.object({ at: dateIso }), run: () => ({ at: new Date(0) }) })
  expect(await runJob(job, undefined, { log })).toMatchObject({ result: { at: '1970-01-01T00:00:00.000Z' } })
})

test('an undefined property costs no run, in payload, child, schedule, result and error', async () => {
  let charges = 0
  const receipt = defineJob({
    id: 'receipt',
    payload: z.object({ order: z.string(), name: z.string().optional() }),
    run() {},
  })
  const charge = defineJob({
    id: 'charge',
    payload: z.object({ order: z.string(), name: z.string().optional() }),
    result: z.object({ id: z.string(), note: z.string().optional() }),
    error: z.object({ code: z.string(), note: z.string().optional() }).optional(),
    run({ order, name }, ctx) {
      charges++
      ctx.enqueue(receipt, { order, name })
      if (order === 'declared') return ctx.fail({ code: 'x', note: undefined }, { retry: false })
      if (order === 'nothing') return ctx.fail(undefined, { retry: false })
      return { id: `ch_${charges}`, note: undefined }
    },
  })
  const izta = createIzta({ database, jobs: [charge, receipt], clock, log })
  const { id } = await izta.enqueue(charge, { order: 'a', name: undefined })
  const declared = await izta.enqueue(charge, { order: 'declared' })
  const nothing = await izta.enqueue(charge, { order: 'nothing' })
  const nightly = { name: 'nightly', job: receipt, payload: { order: 'b', name: undefined }, cron: '@daily' }
  await izta.schedules.put(defineSchedule(nightly))
  await drain(izta)
  expect(charges).toBe(3)
  expect(await izta.get(charge, id)).toMatchObject({
    status: 'finished',
    payload: { order: 'a' },
    result: { id: 'ch_1' },
  })
  expect(await izta.get(charge, declared.id)).toMatchObject({ code: 'declared', error: { code: 'x' } })
  expect(await izta.get(charge, nothing.id)).toMatchObject({ code: 'declared', error: undefined })
  expect(await izta.counts({ since: new Date(0) })).toMatchObject({
    default: { finished: expect.any(Number) },
  })
})
