// `izta/remote` against the real enqueue handler, behind a local server that stands in for Lambda.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { createIzta, defineJob, type Logger } from 'izta'
import { createEnqueueHandler, type EnqueueAnswer, type EnqueueHttpResponse } from 'izta/lambda'
import { afterAll, beforeEach, expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import { createRemoteIzta } from '../../src/aws/remote.ts'
import { testDatabase } from '../support/database.ts'

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number().default(1) }),
  result: z.number(),
  run: ({ numerator, denominator }) => numerator / denominator,
})
const ping = defineJob({ id: 'ping', run: () => {} })
const newer = defineJob({ id: 'newer', run: () => {} })
// What the deployed function does not know yet.
const stricter = defineJob({ id: 'stricter', payload: z.object({ size: z.number() }), run: () => {} })
const strict = defineJob({ id: 'stricter', payload: z.object({ size: z.number().max(10) }), run: () => {} })

const { database, pool } = await testDatabase()
const izta = createIzta({ database, jobs: [divide, ping, strict], log: quiet })
const handler = createEnqueueHandler({ izta })

type Mishap = 'lose the answer' | 'crash' | 'throttle' | 'forbid' | 'answer something else'
let mishaps: Mishap[] = []
let requests: { path: string | undefined; tasks: { options: { id: string } }[] }[] = []

const server = createServer((request, response) => {
  void text(request).then(async (body) => {
    requests.push({ path: request.url, tasks: JSON.parse(body).tasks })
    const mishap = mishaps.shift()
    if (mishap === 'crash') return response.setHeader('x-amz-function-error', 'Unhandled').end('{}')
    if (mishap === 'throttle') return response.writeHead(429).end('{}')
    if (mishap === 'forbid') return response.writeHead(403).end('{"Message":"not authorized"}')
    if (mishap === 'answer something else') return response.end('"hello"')
    const isInvoke = request.url?.includes('/invocations') === true
    const event = isInvoke
      ? JSON.parse(body)
      : { rawPath: request.url, requestContext: { http: { method: request.method } }, body }
    const answer = (await handler(event)) as EnqueueAnswer | EnqueueHttpResponse
    if (mishap === 'lose the answer') return request.socket.destroy()
    if (isInvoke) return response.end(JSON.stringify(answer))
    return response.writeHead(answer.statusCode).end('body' in answer ? answer.body : '')
  })
})
await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const credentials = () => ({ accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret' })
const aws = { endpoint, credentials, region: 'eu-central-1' }
const jobs = [divide, ping, newer, stricter]
const invoked = createRemoteIzta({ ...aws, functionName: 'app-enqueue', jobs })
const posted = createRemoteIzta({ ...aws, url: `${endpoint}/`, jobs })

beforeEach(() => {
  mishaps = []
  requests = []
})
afterAll(() => server.close())

const stored = async (id: string) => {
  const { rows } = await pool.query('select job, payload, priority, run_at from izta.task where id = $1', [
    id,
  ])
  return rows[0]
}

for (const [way, remote] of [
  ['an invocation', invoked],
  ['the URL', posted],
] as const) {
  test(`a task enqueued through ${way} is stored with its options`, async () => {
    const runAt = new Date('2030-01-01T00:00:00.000Z')
    const { id, created } = await remote.enqueue(divide, { numerator: 1 }, { priority: 2, runAt })
    expect(created).toBe(true)
    expect(await stored(id)).toMatchObject({
      job: 'divide',
      payload: { numerator: 1 },
      priority: 2,
      run_at: runAt,
    })
  })

  test(`many tasks through ${way} are answered in their order`, async () => {
    const same = await remote.enqueueMany(divide, [{ numerator: 1 }, { numerator: 2 }], { priority: 1 })
    const mixed = await remote.enqueueMany([[divide, { numerator: 3 }], [ping]])
    const rows = await Promise.all([...same, ...mixed].map(({ id }) => stored(id)))
    expect(rows.map(({ payload }) => payload)).toEqual([
      { numerator: 1 },
      { numerator: 2 },
      { numerator: 3 },
      null,
    ])
  })
}

test('the payload is typed by the job', () => {
  expectTypeOf(invoked.enqueue<typeof divide>)
    .parameter(1)
    .toEqualTypeOf<{ numerator: number; denominator?: number | undefined }>()
})

test('a lost answer is asked for again with the same id and makes one task, which counts as created', async () => {
  mishaps = ['lose the answer']
  const { id, created } = await invoked.enqueue(ping)
  expect(created).toBe(true)
  expect(requests.map(({ tasks }) => tasks[0]?.options.id)).toEqual([id, id])
  const { rows } = await pool.query('select count(*)::int as count from izta.task where id = $1', [id])
  expect(rows).toEqual([{ count: 1 }])
})

test('a function that crashes or is throttled is called again', async () => {
  mishaps = ['crash', 'throttle']
  expect(await invoked.enqueue(ping)).toMatchObject({ created: true })
  expect(requests).toHaveLength(3)
})

test('an id that the caller gave and that exists is not created, also on a repeat', async () => {
  const { id } = await invoked.enqueue(ping)
  mishaps = ['throttle']
  expect(await invoked.enqueue(ping, undefined, { id })).toEqual({ id, created: false })
})

test('a taken key answers with its holder', async () => {
  const first = await invoked.enqueue(ping, undefined, { key: 'k' })
  expect(await posted.enqueue(ping, undefined, { key: 'k' })).toEqual({ id: first.id, created: false })
})

test('a wrong payload or option is refused here, before anything is sent', async () => {
  await expect(invoked.enqueue(divide, { numerator: 'one' } as never)).rejects.toMatchObject({
    name: 'PayloadError',
  })
  await expect(invoked.enqueue(ping, undefined, { priority: 11 })).rejects.toMatchObject({
    name: 'OptionError',
  })
  await expect(invoked.enqueue(strict, { size: 1 })).resolves.toMatchObject({ created: true })
  const unknown = defineJob({ id: 'unknown' })
  await expect(invoked.enqueue(unknown)).rejects.toMatchObject({ name: 'UnknownJobError', jobId: 'unknown' })
  const large = divideLarge()
  await expect(invoked.enqueueMany(large.job, large.payloads)).rejects.toThrow(
    'Lambda takes 6291456: split it',
  )
  expect(requests).toHaveLength(1)
})

function divideLarge() {
  const job = defineJob({ id: 'divide', payload: z.string() })
  // Within the limit together, and above it with their ids.
  return { job, payloads: Array.from({ length: 10_000 }, () => 'x'.repeat(600)) }
}

test('payloads that no string could hold together are refused before a request is put together', async () => {
  const bulky = defineJob({ id: 'bulky', payload: z.string() })
  const remote = createRemoteIzta({ ...aws, functionName: 'app-enqueue', jobs: [bulky] })
  const payloads = Array.from({ length: 600 }, () => 'x'.repeat(1_000_000))
  await expect(remote.enqueueMany(bulky, payloads)).rejects.toMatchObject({
    code: 'payloads-too-large',
    index: 6,
    message: expect.stringContaining(
      '7000014 bytes together, above the limit of 6291456 bytes a call',
    ) as string,
  })
  expect(requests).toEqual([])
})

test('what the function refuses has the class it has beside the database', async () => {
  await expect(invoked.enqueue(newer)).rejects.toMatchObject({ name: 'UnknownJobError', jobId: 'newer' })
  await expect(posted.enqueueMany(stricter, [{ size: 1 }, { size: 11 }])).rejects.toMatchObject({
    name: 'PayloadError',
    code: 'payload-refused',
    index: 1,
    issues: [{ index: 1, path: 'size', code: 'payload-refused' }],
  })
})

test('a database that the function cannot use is told as a database error, after a few tries', async () => {
  const api = () => {
    calls += 1
    const error = { code: 'database-unreachable', message: 'not now', retryable: true, issues: [] }
    return Promise.resolve({ status: 200, body: { statusCode: 503, error } })
  }
  let calls = 0
  const remote = createRemoteIzta({ functionName: 'f', jobs, api })
  await expect(remote.enqueue(ping)).rejects.toMatchObject({
    name: 'DatabaseUnreachableError',
    retryable: true,
  })
  expect(calls).toBe(4)
})

const classes = [
  ['database-access', false, 'DatabaseAccessError'],
  ['database-closed', false, 'DatabaseError'],
  ['database-error', false, 'DatabaseError'],
  ['database-secret', false, 'DatabaseAccessError'],
  ['database-secret', true, 'DatabaseUnreachableError'],
  ['database-tls', false, 'DatabaseAccessError'],
  ['database-token', false, 'DatabaseAccessError'],
  ['deadlock', true, 'DatabaseError'],
  ['key-contended', true, 'IztaError'],
  ['lock-timeout', true, 'DatabaseError'],
  ['not-migrated', false, 'NotMigratedError'],
  ['read-only', true, 'DatabaseError'],
  ['reply-too-large', false, 'DatabaseError'],
  ['schema-too-new', false, 'SchemaTooNewError'],
  ['serialization', true, 'DatabaseError'],
  ['statement-timeout', true, 'DatabaseError'],
] as const

test('what the function says of its database has the class that it has beside it', async () => {
  const thrown = classes.map(async ([code, retryable]) => {
    const error = { code, message: 'why', retryable, issues: [] }
    const api = () => Promise.resolve({ status: 200, body: { statusCode: 503, error } })
    const remote = createRemoteIzta({ functionName: 'f', jobs, api })
    return remote.enqueue(ping).catch((refusal: unknown) => refusal)
  })
  expect(await Promise.all(thrown)).toMatchObject(
    classes.map(([code, retryable, name]) => ({ code, retryable, name })),
  )
})

test('a lost answer to many tasks, with keys and without, is asked for again with the same ids', async () => {
  mishaps = ['lose the answer', 'lose the answer']
  const enqueued = await posted.enqueueMany([
    [ping, undefined, { key: 'lost answer' }],
    [divide, { numerator: 1 }, { delaySeconds: 60 }],
  ])
  expect(enqueued.map(({ created }) => created)).toEqual([true, true])
  const ids = enqueued.map(({ id }) => id)
  expect(requests.map(({ tasks }) => tasks.map(({ options }) => options.id))).toEqual([ids, ids, ids])
  const { rows } = await pool.query('select count(*)::int as count from izta.task where id = any($1)', [ids])
  expect(rows).toEqual([{ count: 2 }])
})

test('a call that AWS refuses, and an answer of something else, are told at once', async () => {
  mishaps = ['forbid', 'answer something else']
  await expect(invoked.enqueue(ping)).rejects.toMatchObject({ code: 'aws-refused', status: 403 })
  await expect(invoked.enqueue(ping)).rejects.toMatchObject({ code: 'unexpected-answer' })
  expect(requests).toHaveLength(2)
})

test('the instance names exactly one function', () => {
  expect(() => createRemoteIzta({ jobs })).toThrow('either "functionName" or "url"')
  expect(() =>
    createRemoteIzta({ functionName: 'f', url: 'https://x.lambda-url.eu-central-1.on.aws/', jobs }),
  ).toThrow('either')
  expect(() => createRemoteIzta({ url: 'nowhere', jobs })).toThrow('createRemoteIzta: option "url"')
})
