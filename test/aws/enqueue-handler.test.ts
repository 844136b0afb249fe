import { createIzta, defineJob, type Database, type Logger } from 'izta'
import { createEnqueueHandler, type EnqueueAnswer, type EnqueueHttpResponse } from 'izta/lambda'
import { pgDatabase } from 'izta/pg'
import { drain } from 'izta/testing'
import { describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }

const divide = defineJob({
  id: 'divide',
  name: 'Divides two numbers',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  run: ({ numerator, denominator }) => numerator / denominator,
})
const anything = defineJob({ id: 'anything', payload: z.unknown(), run: () => {} })
const bare = defineJob({ id: 'bare', run: () => {} })
const checkedElsewhere = defineJob({
  id: 'asynchronous',
  payload: z.string().refine(async (text) => Promise.resolve(text === 'good'), 'expected something good'),
  run: () => {},
})
const jobs = [divide, anything, bare, checkedElsewhere]
const izta = createIzta({ database, jobs, payloadLimitBytes: 1000, log: quiet })
const handler = createEnqueueHandler({ izta })

const half = { job: 'divide', payload: { numerator: 1, denominator: 2 } }
const id = '01890a5d-ac96-774b-bcce-b302099a8057'

const asking = (event: object) => ({ ...event, onError: 'answer' })
const invoke = async (event: object) => (await handler(asking(event))) as EnqueueAnswer
const errorOf = (answer: EnqueueAnswer) =>
  'error' in answer ? answer.error : expect.fail('the request was accepted')
const tasksOf = (answer: EnqueueAnswer) =>
  'tasks' in answer ? answer.tasks : expect.fail(JSON.stringify(answer))

function post(body: string | Buffer, changes: { method?: string; rawPath?: string } = {}) {
  const { method = 'POST', rawPath = '/' } = changes
  return {
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString: '',
    headers: { 'content-type': 'application/json' },
    requestContext: { http: { method, path: rawPath, protocol: 'HTTP/1.1', sourceIp: '127.0.0.1' } },
    body: body.toString(typeof body === 'string' ? undefined : 'base64'),
    isBase64Encoded: typeof body !== 'string',
  }
}

async function send(body: string | Buffer, changes?: Parameters<typeof post>[1]) {
  const { statusCode, headers, body: text } = (await handler(post(body, changes))) as EnqueueHttpResponse
  expect(headers?.['content-type']).toBe('application/json')
  return { headers, ...JSON.parse(text), statusCode }
}

async function storedTasks(): Promise<number> {
  const { rows } = await pool.query('select count(*)::integer as count from izta.task')
  return rows[0].count
}

describe('direct invoke of a caller that waits for the answer', () => {
  test('stores every task and answers in their order', async () => {
    const answer = await invoke({ tasks: [half, { job: 'bare' }, { job: 'anything', payload: ['x'] }] })
    expect(answer.statusCode).toBe(202)
    const tasks = tasksOf(answer)
    expect(tasks.map(({ created }) => created)).toEqual([true, true, true])
    await drain(izta)
    expect(await izta.get(divide, tasks[0]?.id ?? '')).toMatchObject({ status: 'finished', result: 0.5 })
  })

  test('options travel as JSON, runAt as an instant in text', async () => {
    const options = {
      runAt: '2199-01-01T00:00:00+01:00',
      queue: 'other',
      priority: 0,
      maxAttempts: 7,
      key: 'one',
      keyUntil: 'started',
      id: crypto.randomUUID(),
    }
    const tasks = tasksOf(await invoke({ tasks: [{ ...half, options }] }))
    expect(tasks).toEqual([{ id: options.id, created: true }])
    expect(await izta.get(divide, options.id)).toMatchObject({
      dueAt: new Date('2198-12-31T23:00:00Z'),
      queue: 'other',
      priority: 0,
      maxAttempts: 7,
      key: 'one',
    })
    const again = tasksOf(await invoke({ tasks: [{ ...half, options: { key: 'one', delaySeconds: 5 } }] }))
    expect(again).toEqual([{ id: options.id, created: false }])
  })

  test('a repeated request with its ids makes no second task, before and after the first has finished', async () => {
    const request = { tasks: [{ ...half, options: { id } }] }
    expect(tasksOf(await invoke(request))).toEqual([{ id, created: true }])
    expect(tasksOf(await invoke(request))).toEqual([{ id, created: false }])
    await drain(izta)
    expect(tasksOf(await invoke(request))).toEqual([{ id, created: false }])
    expect(await drain(izta)).toMatchObject({ claimed: 0 })
    expect(await izta.get(divide, id)).toMatchObject({ status: 'finished', attempt: 1 })
  })

  test('no tasks are no error', async () => {
    expect(await invoke({ tasks: [] })).toEqual({ statusCode: 202, tasks: [] })
  })
})

describe('what is wrong is listed, and nothing is stored', () => {
  test('every issue of every task, with 422', async () => {
    const before = await storedTasks()
    const answer = await invoke({
      tasks: [
        { job: 'divide', payload: { numerator: 'one' }, options: { priority: 12, colour: 'red' } },
        half,
        { job: 'nobody', options: { delaySeconds: -1 } },
        {
          job: 'divide',
          payload: { numerator: 1, denominator: 2 },
          options: { runAt: 'tomorrow', maxAttempts: 0 },
        },
        { job: 'bare', payload: 1 },
        { job: 'asynchronous', payload: 'bad' },
        { job: 'asynchronous', payload: 'good', options: { keyUntil: 'started' } },
        { job: 'bare', options: { delaySeconds: 1, runAt: '2030-01-01T00:00:00Z' } },
        { job: 'bare', options: { id } },
        { job: 'bare', options: { id: id.toUpperCase() } },
      ],
    })
    expect(answer.statusCode).toBe(422)
    const { code, retryable, issues } = errorOf(answer)
    expect({ code, retryable }).toEqual({ code: 'invalid-option', retryable: false })
    expect(issues.map((issue) => [issue.index, issue.path, issue.code])).toEqual([
      [0, 'options.priority', 'invalid-option'],
      [0, 'options.colour', 'invalid-option'],
      [0, 'payload.numerator', 'payload-refused'],
      [0, 'payload.denominator', 'payload-refused'],
      [2, 'job', 'unknown-job'],
      [2, 'options.delaySeconds', 'invalid-option'],
      [3, 'options.runAt', 'invalid-option'],
      [3, 'options.maxAttempts', 'invalid-option'],
      [4, 'payload', 'payload-refused'],
      [5, 'payload', 'payload-refused'],
      [6, 'options.keyUntil', 'invalid-option'],
      [7, 'options.delaySeconds', 'invalid-option'],
      [9, 'options.id', 'invalid-option'],
    ])
    expect(issues[0]?.message).toContain('from 0 to 9')
    expect(await storedTasks()).toBe(before)
  })

  test('a job is named by its id alone', async () => {
    const { code } = errorOf(await invoke({ tasks: [{ ...half, job: divide.name }] }))
    expect(code).toBe('unknown-job')
  })

  test('a payload above the limit is 413, beside another refusal 422', async () => {
    const large = { job: 'anything', payload: 'x'.repeat(1000) }
    expect(await invoke({ tasks: [large] })).toMatchObject({
      statusCode: 413,
      error: {
        code: 'payload-too-large',
        issues: [{ index: 0, path: 'payload', code: 'payload-too-large' }],
      },
    })
    expect(await invoke({ tasks: [large, { job: 'nobody' }] })).toMatchObject({
      statusCode: 422,
      error: { code: 'unknown-job', issues: [{ index: 0 }, { index: 1 }] },
    })
  })

  test('more than 10,000 tasks are 413', async () => {
    const answer = await invoke({ tasks: Array.from({ length: 10_001 }, () => ({ job: 'bare' })) })
    expect(answer).toMatchObject({ statusCode: 413, error: { code: 'too-many-tasks' } })
  })

  test.each([
    ['no tasks', {}],
    ['one task without a list', { tasks: half }],
    ['a task that is null', { tasks: [null] }],
    ['a job that is no text', { tasks: [{ job: {} }] }],
    ['options that are a list', { tasks: [{ job: 'bare', options: [] }] }],
    ['options that are null', { tasks: [{ job: 'bare', options: null }] }],
    ['a property that is not known', { tasks: [], jobs: [] }],
    ['a prototype key', JSON.parse('{"tasks":[{"job":"bare","__proto__":{"x":1}}]}')],
  ])('the wrong shape is 400: %s', async (_, event) => {
    const answer = await invoke(event)
    expect(answer).toMatchObject({ statusCode: 400, error: { code: 'invalid-request', retryable: false } })
    expect(errorOf(answer).issues).not.toEqual([])
  })

  test('issues of the shape tell the task as well', async () => {
    const { issues } = errorOf(await invoke({ tasks: [{ job: 'bare' }, { job: 1, color: 'red' }] }))
    expect(issues).toMatchObject([
      { index: 1, path: 'job' },
      { index: 1, path: 'color', code: 'unknown-property' },
    ])
  })
})

describe('Function URL', () => {
  test('takes the body of a POST, as text and as base64', async () => {
    const body = JSON.stringify({ tasks: [half] })
    for (const form of [body, Buffer.from(body)]) {
      const { statusCode, tasks } = await send(form)
      expect(statusCode).toBe(202)
      expect(tasks).toEqual([{ id: expect.any(String), created: true }])
    }
  })

  test.each([
    ['nothing', ''],
    ['half of it', '{"tasks":['],
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xff, 0xfe, 0x22])],
  ])('what is not JSON is 400: %s', async (_, body) => {
    expect(await send(body)).toMatchObject({ statusCode: 400, error: { code: 'invalid-json', issues: [] } })
  })

  test('a body above 6 MiB is 413', async () => {
    expect(await send(`"${'x'.repeat(6 * 1024 * 1024)}"`)).toMatchObject({
      statusCode: 413,
      error: { code: 'body-too-large' },
    })
  })

  test('other methods and paths are refused', async () => {
    expect(await send('', { method: 'GET' })).toMatchObject({ statusCode: 405, headers: { allow: 'POST' } })
    expect(await send('', { method: 'OPTIONS' })).toMatchObject({ statusCode: 405 })
    expect(await send('', { rawPath: '/admin' })).toMatchObject({
      statusCode: 404,
      error: { code: 'not-found' },
    })
  })

  test('hostile values are refused or stored, never an error of the server', async () => {
    const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth)
    const bodies = {
      '{"tasks":[{"job":"__proto__"}]}': 422,
      '{"tasks":[{"job":"constructor"}]}': 422,
      '{"tasks":[{"job":"bare","options":{"__proto__":{"priority":1}}}]}': 422,
      '{"tasks":[{"job":"bare","options":{"constructor":1}}]}': 422,
      '{"tasks":[{"job":"bare","options":{"key":"\\u0000"}}]}': 422,
      '{"tasks":[{"job":"bare","options":{"key":"\\ud800"}}]}': 422,
      '{"tasks":[{"job":"bare","options":{"queue":"a b"}}]}': 422,
      '{"tasks":[{"job":"anything","payload":{"__proto__":{"x":1},"toString":null}}]}': 202,
      '{"tasks":[{"job":"anything","payload":"\\u0000\\ud800"}]}': 202,
      '{"tasks":[{"job":"anything","payload":1e999}]}': 422,
      '{"__proto__":{"tasks":[]}}': 400,
      [nested(100_000)]: 400,
      [`{"tasks":[{"job":${nested(100_000)}}]}`]: 400,
      [`{"tasks":[{"job":"bare","options":{"key":${nested(100_000)}}}]}`]: 422,
      [`{"tasks":[{"job":"anything","payload":${nested(100_000)}}]}`]: 413,
      [`{"tasks":[{"job":"divide","payload":${nested(400)}}]}`]: 422,
    }
    for (const [body, expected] of Object.entries(bodies)) {
      const { statusCode } = await send(body)
      expect([body.slice(0, 100), statusCode]).toEqual([body.slice(0, 100), expected])
    }
  })
})

describe('the database', () => {
  const using = (other: Database) =>
    createEnqueueHandler({ izta: createIzta({ database: other, jobs, log: quiet }) })

  test('out of reach is 503, to be tried again, and tells nothing of the inside', async () => {
    const elsewhere = pgDatabase('postgres://somebody:secret@127.0.0.1:1/nowhere')
    const answer = (await using(elsewhere)(asking({ tasks: [half] }))) as EnqueueAnswer
    expect(answer).toMatchObject({
      statusCode: 503,
      error: { code: 'database-unreachable', retryable: true },
    })
    expect(JSON.stringify(answer)).not.toMatch(/secret|somebody|127\.0\.0\.1|nowhere|ECONNREFUSED|\.ts/)
  })

  test('without its schema is 503, not to be tried again', async () => {
    const unmigrated = createIzta({ database, jobs, schema: 'elsewhere', log: quiet })
    expect(await createEnqueueHandler({ izta: unmigrated })(asking({ tasks: [half] }))).toMatchObject({
      statusCode: 503,
      error: { code: 'not-migrated', retryable: false },
    })
  })

  test('a request whose answers were lost is stored once and answered', async () => {
    let lost = 0
    const forgetful: Database = {
      async query(statement) {
        const rows = await database.query(statement)
        if (lost++ > 0) return rows
        const broken = pgDatabase({
          query: () => Promise.reject(new Error('Connection terminated')),
        })
        return broken.query(statement)
      },
    }
    const before = await storedTasks()
    const answer = (await using(forgetful)(asking({ tasks: [half] }))) as EnqueueAnswer
    expect(tasksOf(answer)).toEqual([{ id: expect.any(String), created: true }])
    expect(await storedTasks()).toBe(before + 1)
  })

  test('a failure of the adapter is 503 without a word of the inside', async () => {
    const broken: Database = { query: () => Promise.reject(new TypeError('secret internals')) }
    const answer = await using(broken)(asking({ tasks: [half] }))
    expect(answer).toMatchObject({
      statusCode: 503,
      error: { code: 'database-error', retryable: false, issues: [] },
    })
    expect(JSON.stringify(answer)).not.toContain('secret')
    expect(JSON.stringify(answer)).toContain('may have been stored or not')
  })

  test('a failure of another kind is 500 without a word of the inside', async () => {
    const enqueue = () => Promise.reject(new TypeError('secret internals'))
    const tracing = { enqueue, current: () => undefined, run: enqueue }
    const traced = createEnqueueHandler({ izta: createIzta({ database, jobs, log: quiet, tracing }) })
    const answer = await traced(asking({ tasks: [half] }))
    expect(answer).toMatchObject({
      statusCode: 500,
      error: { code: 'internal', retryable: false, issues: [] },
    })
    expect(JSON.stringify(answer)).not.toContain('secret')
  })
})

test('options of the handler are checked', () => {
  expect(() => createEnqueueHandler({ izta, path: 'tasks' })).toThrow('option "path"')
  expect(() => createEnqueueHandler({ izta, route: '/' } as never)).toThrow('unknown option "route"')
})
