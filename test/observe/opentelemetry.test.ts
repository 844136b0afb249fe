// Spans of enqueues and runs, and the trace context that travels with tasks.
import { context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
  type ReadableSpan,
} from '@opentelemetry/sdk-trace-base'
import { createIzta, DatabaseError, defineJob, type IztaOptions } from 'izta'
import { openTelemetry, type OpenTelemetryOptions } from 'izta/opentelemetry'
import { drain } from 'izta/testing'
import { afterAll, beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const exporter = new InMemorySpanExporter()
const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
const tracer = provider.getTracer('test')
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
afterAll(() => context.disable())
beforeEach(async () => {
  exporter.reset()
  await pool.query('truncate izta.task, izta.history, izta.queue')
})

const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }
const make = (
  jobs: IztaOptions['jobs'],
  options: OpenTelemetryOptions = {},
  others: Partial<IztaOptions> = {},
) => createIzta({ database, jobs, log, tracing: openTelemetry({ tracer, ...options }), ...others })

const spans = (name: string) => exporter.getFinishedSpans().filter((span) => span.name === name)
function only(name: string): ReadableSpan {
  const [span, ...others] = spans(name)
  if (span === undefined || others.length > 0)
    throw new Error(`There are ${spans(name).length} spans "${name}".`)
  return span
}
const linked = (span: ReadableSpan) => span.links.map((link) => link.context.spanId)

const echo = defineJob({ id: 'echo', payload: z.string(), result: z.string(), run: (text) => text })

test('a run is a child of its enqueue and linked to it', async () => {
  const izta = make([echo])
  const { id } = await izta.enqueue(echo, 'hello')
  await drain(izta)
  const sent = only('enqueue default')
  const ran = only('run default')
  expect(sent).toMatchObject({
    kind: SpanKind.PRODUCER,
    attributes: {
      'messaging.system': 'izta',
      'messaging.operation.name': 'enqueue',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'default',
      'messaging.message.id': id,
      'izta.job': 'echo',
    },
  })
  expect(ran).toMatchObject({
    kind: SpanKind.CONSUMER,
    status: { code: SpanStatusCode.UNSET },
    attributes: {
      'messaging.operation.name': 'run',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'default',
      'messaging.message.id': id,
      'izta.job': 'echo',
      'izta.attempt': 1,
      'izta.losses': 0,
      'izta.outcome': 'finish',
    },
  })
  expect(ran.spanContext().traceId).toBe(sent.spanContext().traceId)
  expect(ran.parentSpanContext).toMatchObject({ spanId: sent.spanContext().spanId, isRemote: true })
  expect(linked(ran)).toEqual([sent.spanContext().spanId])
})

test('with links only, a run belongs to the trace of its invocation', async () => {
  const izta = make([echo], { relation: 'link' })
  await izta.enqueue(echo, 'hello')
  await tracer.startActiveSpan('invocation', async (span) => {
    await drain(izta)
    span.end()
  })
  const ran = only('run default')
  expect(ran.parentSpanContext?.spanId).toBe(only('invocation').spanContext().spanId)
  expect(linked(ran)).toEqual([only('enqueue default').spanContext().spanId])
})

test('a child of its enqueue is linked to its invocation too', async () => {
  const izta = make([echo])
  await izta.enqueue(echo, 'hello')
  await tracer.startActiveSpan('invocation', async (span) => {
    await drain(izta)
    span.end()
  })
  const [sent, invocation] = [only('enqueue default'), only('invocation')]
  expect(linked(only('run default'))).toEqual([sent.spanContext().spanId, invocation.spanContext().spanId])
})

test('each attempt is a span of its own, and a failed one says why', async () => {
  const flaky = defineJob({
    id: 'flaky',
    backoff: { firstSeconds: 0 },
    run(_, { attempt }) {
      if (attempt === 1) throw new RangeError('out of luck')
    },
  })
  const izta = make([flaky])
  await izta.enqueue(flaky)
  await drain(izta)
  const [first, second] = spans('run default')
  expect(first).toMatchObject({
    status: { code: SpanStatusCode.ERROR, message: 'out of luck' },
    attributes: {
      'izta.attempt': 1,
      'izta.outcome': 'retry',
      'izta.failure.code': 'thrown',
      'error.type': 'RangeError',
    },
  })
  expect(first?.events[0]).toMatchObject({
    name: 'exception',
    attributes: { 'exception.type': 'RangeError', 'exception.message': 'out of luck' },
  })
  expect(second).toMatchObject({
    status: { code: SpanStatusCode.UNSET },
    attributes: { 'izta.attempt': 2, 'izta.outcome': 'finish' },
  })
  const sent = only('enqueue default').spanContext().spanId
  expect([first, second].map((span) => span?.parentSpanContext?.spanId)).toEqual([sent, sent])
})

test('a declared error and a refused payload are not quoted, nor is any message when logs quote none', async () => {
  const secret = 'my-secret'
  const declares = defineJob({
    id: 'declares',
    error: z.object({ code: z.string() }),
    run: (_, ctx) => ctx.fail({ code: secret }, { retry: false }),
  })
  const stored = defineJob({ id: 'stored', payload: z.string() })
  const refuses = defineJob({ id: 'stored', payload: z.literal('other'), run() {} })
  const throws = defineJob({
    id: 'throws',
    maxAttempts: 1,
    run() {
      throw new Error(secret)
    },
  })
  const izta = make([declares, refuses, throws], {}, { logMessages: false })
  await izta.enqueue(declares)
  await izta.enqueue(throws)
  await make([stored]).enqueue(stored, secret)
  await drain(izta)
  const runs = spans('run default')
  expect(new Set(runs.map(({ attributes }) => attributes['izta.failure.code']))).toEqual(
    new Set(['declared', 'payload-refused', 'thrown']),
  )
  expect(
    JSON.stringify(runs.map(({ status, attributes, events }) => [status, attributes, events])),
  ).not.toContain(secret)
})

test('spans made by the handler, and the runs of its children, are children of the run', async () => {
  const child = defineJob({ id: 'child', queue: 'children', run() {} })
  const parent = defineJob({
    id: 'parent',
    run(_, ctx) {
      tracer.startSpan('inside').end()
      ctx.enqueue(child)
    },
  })
  const izta = make([parent, child])
  await izta.enqueue(parent)
  await drain(izta)
  const ran = only('run default').spanContext()
  expect(only('inside').parentSpanContext?.spanId).toBe(ran.spanId)
  expect(only('run children').parentSpanContext).toMatchObject({ traceId: ran.traceId, spanId: ran.spanId })
})

test('a bulk enqueue is one span, of which every run is a child', async () => {
  const izta = make([echo])
  await izta.enqueueMany(echo, ['a', 'b'])
  await izta.enqueueMany([
    [echo, 'c'],
    [echo, 'd', { queue: 'other' }],
  ])
  await drain(izta)
  const [same, mixed] = [only('enqueue default'), only('enqueue')]
  expect(same.attributes).toMatchObject({ 'messaging.batch.message_count': 2, 'izta.job': 'echo' })
  expect(same.attributes).not.toHaveProperty('messaging.message.id')
  expect(mixed.attributes).not.toHaveProperty('messaging.destination.name')
  const parents = [...spans('run default'), ...spans('run other')].map(
    (span) => span.parentSpanContext?.spanId,
  )
  const [a, b] = [same.spanContext().spanId, mixed.spanContext().spanId]
  expect(parents.filter((id) => id === a)).toHaveLength(2)
  expect(parents.filter((id) => id === b)).toHaveLength(2)
})

test('a statement of the application carries the span that is active where it is made', async () => {
  const izta = make([echo])
  await tracer.startActiveSpan('request', async (span) => {
    const { text, values } = izta.enqueueStatement(echo, 'hello')
    span.end()
    await pool.query(text, values)
  })
  await drain(izta, { queues: ['default'] })
  expect(only('run default').parentSpanContext?.spanId).toBe(only('request').spanContext().spanId)
})

test('an enqueue that fails records the error, and the error is thrown as it was', async () => {
  const refusing = { query: () => Promise.reject(new DatabaseError('database-access', 'no entry', {})) }
  const izta = make([echo], {}, { database: refusing })
  await expect(izta.enqueue(echo, 'hello')).rejects.toThrow('no entry')
  expect(only('enqueue default')).toMatchObject({
    status: { code: SpanStatusCode.ERROR },
    attributes: { 'error.type': 'database-access' },
  })
})

test('what was not sampled when it was enqueued is not sampled when it runs', async () => {
  const off = new BasicTracerProvider({ sampler: new AlwaysOffSampler() }).getTracer('off')
  await make([echo], { tracer: off }).enqueue(echo, 'hello')
  const { rows } = await pool.query<{ trace: string }>('select trace from izta.task')
  expect(rows[0]?.trace).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/)
  await drain(make([echo]))
  expect(spans('run default')).toEqual([])
})

test.each([[null], ['nonsense'], [`00-${'0'.repeat(32)}-${'0'.repeat(16)}-01`]])(
  'a task without a context that can be read begins a trace: %s',
  async (stored) => {
    const izta = make([echo])
    await izta.enqueue(echo, 'hello')
    await pool.query('update izta.task set trace = $1', [stored])
    await drain(izta)
    expect(only('run default')).toMatchObject({ links: [], parentSpanContext: undefined })
  },
)

test('without a provider of the application nothing is stored and everything runs', async () => {
  const izta = createIzta({ database, jobs: [echo], log, tracing: openTelemetry() })
  const { id } = await izta.enqueue(echo, 'hello')
  const { rows } = await pool.query<{ trace: string | null }>('select trace from izta.task')
  expect(rows).toEqual([{ trace: null }])
  await drain(izta)
  expect(await izta.get(echo, id)).toMatchObject({ status: 'finished', result: 'hello' })
})

test('an active span without a tracer of its own is carried on', async () => {
  const active = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: TraceFlags.SAMPLED }
  const izta = createIzta({ database, jobs: [echo], log, tracing: openTelemetry() })
  await context.with(trace.setSpanContext(ROOT_CONTEXT, active), () => izta.enqueue(echo, 'hello'))
  const { rows } = await pool.query<{ trace: string | null }>('select trace from izta.task')
  expect(rows).toEqual([{ trace: `00-${active.traceId}-${active.spanId}-01` }])
})

test('options that are wrong are refused', () => {
  expect(() => openTelemetry({ tracer: {} } as never)).toThrow('option "tracer"')
  expect(() => openTelemetry({ relation: 'sibling' } as never)).toThrow('option "relation"')
})
