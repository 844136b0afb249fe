// Whatever may invoke the enqueue function, with its events as AWS sends them: stored, or told to whoever reads it.
import { readFileSync } from 'node:fs'
import { createIzta, defineJob, type Database, type Logger } from 'izta'
import {
  createEnqueueHandler,
  type EnqueueAnswer,
  type EnqueueBatchAnswer,
  type EnqueueHttpResponse,
} from 'izta/lambda'
import { pgDatabase } from 'izta/pg'
import { drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const greet = defineJob({ id: 'greet', payload: z.object({ name: z.string().max(100) }), run: () => {} })
const open = (from: Database) => createIzta({ database: from, jobs: [greet], log: quiet })
const izta = open(database)
const handler = createEnqueueHandler({ izta })
const away = createEnqueueHandler({ izta: open(pgDatabase('postgres://app@127.0.0.1:1/app')) })

interface Event {
  body: string
  Records: { body: string; messageId: string }[]
  requestContext: { requestId: string }
  [property: string]: unknown
}

const read = (name: string): Event =>
  JSON.parse(readFileSync(new URL(`events/${name}.json`, import.meta.url), 'utf8')) as Event
const wrong = { tasks: [{ job: 'nobody' }] }

async function names(): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select payload->>'name' as name from izta.task order by id`,
  )
  return rows.map(({ name }) => name)
}

beforeEach(() => pool.query('truncate izta.task, izta.history'))

const http = [
  'function-url',
  'http-api-2.0',
  'http-api-1.0',
  'rest-api',
  'load-balancer',
  'load-balancer-multi-value-headers',
]

describe.each(http)('%s', (name) => {
  const event = read(name)
  const headersOf = ({ headers, multiValueHeaders }: EnqueueHttpResponse) =>
    name.includes('multi-value') ? [headers, multiValueHeaders] : [multiValueHeaders, headers]
  const json = name.includes('multi-value') ? ['application/json'] : 'application/json'

  test('a POST is stored and answered with a body', async () => {
    const answer = (await handler(event)) as EnqueueHttpResponse
    expect(answer).toMatchObject({ statusCode: 202, isBase64Encoded: false })
    expect(headersOf(answer)).toEqual([undefined, { 'content-type': json }])
    expect(JSON.parse(answer.body)).toEqual({ tasks: [{ id: expect.any(String), created: true }] })
    expect(answer.statusDescription).toBe(name.startsWith('load') ? '202 Accepted' : undefined)
    expect(await names()).toEqual(['Ada'])
  })

  test('what is refused is answered with a body, and nothing is thrown', async () => {
    const refusals = {
      'unknown-job': { ...event, body: JSON.stringify(wrong) },
      'invalid-json': { ...event, body: null },
      'invalid-request': { ...event, body: '{"onError":"throw","tasks":[]}' },
    }
    for (const [code, refused] of Object.entries(refusals)) {
      const { statusCode, body } = (await handler(refused)) as EnqueueHttpResponse
      expect(JSON.parse(body)).toMatchObject({ error: { code } })
      expect(statusCode).toBe(code === 'unknown-job' ? 422 : 400)
    }
    expect(await away(event)).toMatchObject({
      statusCode: 503,
      body: expect.stringContaining('"database-unreachable"'),
    })
    expect(await names()).toEqual([])
  })

  test('a body in base64 is decoded', async () => {
    const encoded = { ...event, body: Buffer.from(event.body).toString('base64'), isBase64Encoded: true }
    expect(await handler(encoded)).toMatchObject({ statusCode: 202 })
  })

  test('another method is refused, and another path where one is expected', async () => {
    const method = JSON.parse(JSON.stringify(event).replaceAll('"POST"', '"GET"')) as Event
    const refused = (await handler(method)) as EnqueueHttpResponse
    expect(refused.statusCode).toBe(405)
    expect(headersOf(refused)[1]).toMatchObject({ allow: name.includes('multi-value') ? ['POST'] : 'POST' })
    const path = name === 'function-url' ? '/' : '/tasks'
    const strict = createEnqueueHandler({ izta, path })
    expect(await strict(event)).toMatchObject({ statusCode: 202 })
    expect(await createEnqueueHandler({ izta, path: '/other' })(event)).toMatchObject({ statusCode: 404 })
  })
})

test('a route that takes every path answers at / alone, unless the handler has a path', async () => {
  const proxied = { ...read('rest-api'), resource: '/{proxy+}' }
  const caught = { ...read('http-api-1.0'), resource: '$default' }
  const every = { ...read('http-api-2.0'), routeKey: 'ANY /{proxy+}' }
  const strict = createEnqueueHandler({ izta, path: '/tasks' })
  for (const event of [proxied, caught, every]) {
    expect(await handler(event)).toMatchObject({ statusCode: 404 })
    expect(await strict(event)).toMatchObject({ statusCode: 202 })
  }
})

describe.each(['async-invoke', 'eventbridge-scheduler', 'eventbridge-rule'])('%s', (name) => {
  const event = read(name)
  const changed = (body: object) =>
    name === 'eventbridge-rule' ? { ...event, detail: body } : (body as Event)
  const context = { awsRequestId: '5ea5a6b3-0d0a-4ac9-a4f5-d6ad3cfbbd26' }

  test('is stored', async () => {
    expect(await handler(event, context)).toMatchObject({ statusCode: 202, tasks: [{ created: true }] })
    expect(await names()).toEqual(['Ada'])
  })

  test('is thrown when the database is away, so that Lambda repeats it', async () => {
    await expect(away(event, context)).rejects.toMatchObject({
      code: 'database-unreachable',
      retryable: true,
    })
  })

  test('is thrown when it is wrong, with everything that is, so that it becomes a dead letter', async () => {
    const refused = handler(changed(wrong), context)
    await expect(refused).rejects.toMatchObject({ code: 'unknown-job', retryable: false })
    await expect(refused).rejects.toThrow(
      /^1 thing is wrong with the tasks.*\n0 job there is no job.*"nobody"/,
    )
    await expect(handler(changed({ tasks: {} }), context)).rejects.toMatchObject({ code: 'invalid-request' })
    await expect(handler(changed({ tasks: [], onError: 'log' }), context)).rejects.toMatchObject({
      code: 'invalid-request',
    })
  })

  test('makes no second task when it is delivered again, before and after the first has run', async () => {
    const many = changed({ tasks: ['Ada', 'Grace'].map((who) => ({ job: 'greet', payload: { name: who } })) })
    const ids = async () => ((await handler(many, context)) as EnqueueAnswer & { tasks: object[] }).tasks
    const first = await ids()
    expect(first).toMatchObject([{ created: true }, { created: true }])
    expect(await names()).toEqual(['Ada', 'Grace'])
    const again = first.map((task) => ({ ...task, created: false }))
    expect(await ids()).toEqual(again)
    await drain(izta)
    expect(await ids()).toEqual(again)
    expect(await names()).toEqual([])
  })

  test('is taken from its dead letter as if it came again', async () => {
    const letter = { ...read('dead-letter'), requestPayload: event }
    await handler(letter, { awsRequestId: 'another' })
    await handler(event, { awsRequestId: read('dead-letter').requestContext.requestId })
    expect(await handler({ ...letter, requestPayload: letter })).toMatchObject({
      tasks: [{ created: false }],
    })
    expect(await names()).toEqual(['Ada'])
    const refused = handler({ ...letter, requestPayload: changed(wrong) })
    await expect(refused).rejects.toMatchObject({ code: 'unknown-job' })
  })

  test('makes another task for another event, and for a replay that is meant', async () => {
    await handler(event, context)
    const other = name === 'eventbridge-rule' ? { ...event, 'replay-name': 'second of November' } : event
    await handler(other, { awsRequestId: '0b6f2d4c-71a1-4c31-8a2e-90a3c2b7f001' })
    expect(await names()).toEqual(['Ada', 'Ada'])
  })
})

test('an id that a task brings is kept', async () => {
  const id = '01890a5d-ac96-774b-bcce-b302099a8057'
  const event = { tasks: [{ job: 'greet', payload: { name: 'Ada' }, options: { id } }] }
  expect(await handler(event, { awsRequestId: 'r' })).toMatchObject({ tasks: [{ id }] })
})

test('a caller that waits for the answer gets it: nothing is thrown with onError: "answer"', async () => {
  const asked = { ...wrong, onError: 'answer' }
  expect(await handler(asked)).toMatchObject({ statusCode: 422, error: { code: 'unknown-job' } })
  expect(await away({ ...read('async-invoke'), onError: 'answer' })).toMatchObject({
    statusCode: 503,
    error: { code: 'database-unreachable', retryable: true },
  })
  expect(await handler({ onError: 'answer' })).toMatchObject({ statusCode: 400 })
  await expect(handler({ ...wrong, onError: 'throw' })).rejects.toMatchObject({ code: 'unknown-job' })
})

describe('sqs', () => {
  const batch = read('sqs')
  const failures = async (event: Event, by = handler) =>
    ((await by(event)) as EnqueueBatchAnswer).batchItemFailures.map(({ itemIdentifier }) => itemIdentifier)
  const withBody = (event: Event, index: number, body: string): Event => ({
    ...event,
    Records: event.Records.map((record, at) => (at === index ? { ...record, body } : record)),
  })
  const idOf = (event: Event, index: number) => event.Records[index]?.messageId

  test('the tasks of all messages are stored by one statement', async () => {
    let statements = 0
    const counted = open({ query: (statement) => ((statements += 1), database.query(statement)) })
    expect(await failures(batch, createEnqueueHandler({ izta: counted }))).toEqual([])
    expect(await names()).toEqual(expect.arrayContaining(['Ada', 'Grace']))
    expect(statements).toBe(1)
  })

  test.each([
    ['is not JSON', '{"tasks":['],
    ['is of another shape', '{"task":{}}'],
    ['names an unknown job', JSON.stringify(wrong)],
    ['has a payload that the schema refuses', '{"tasks":[{"job":"greet","payload":{}}]}'],
  ])('a message that %s fails alone', async (_, body) => {
    const event = withBody(batch, 0, body)
    expect(await failures(event)).toEqual([idOf(event, 0)])
    expect(await names()).toEqual(['Grace'])
  })

  test('a message that the database refuses fails alone', async () => {
    const refusing = open({
      query(statement) {
        if (!JSON.stringify(statement.values).includes('Grace')) return database.query(statement)
        return pgDatabase({
          query: () => Promise.reject(Object.assign(new Error('no'), { code: '22P05', severity: 'ERROR' })),
        }).query(statement)
      },
    })
    expect(await failures(batch, createEnqueueHandler({ izta: refusing }))).toEqual([idOf(batch, 1)])
    expect(await names()).toEqual(['Ada'])
  })

  test('a batch of which nothing was stored is thrown, whatever its queue reads', async () => {
    await expect(away(batch)).rejects.toMatchObject({ code: 'database-unreachable', retryable: true })
    const both = withBody(withBody(batch, 0, 'x'), 1, JSON.stringify(wrong))
    await expect(handler(both)).rejects.toThrow('None of 2 messages could be stored')
  })

  test('a batch that is delivered again makes no second task', async () => {
    expect(await failures(withBody(batch, 1, 'x'))).toEqual([idOf(batch, 1)])
    await drain(izta)
    expect(await failures(batch)).toEqual([])
    expect(await names()).toEqual(['Grace'])
  })

  test('two messages with the same task of their own make it once', async () => {
    const id = '01890a5d-ac96-774b-bcce-b302099a8057'
    const body = JSON.stringify({ tasks: [{ job: 'greet', payload: { name: 'Ada' }, options: { id } }] })
    expect(await failures(withBody(withBody(batch, 0, body), 1, body))).toEqual([])
    expect(await names()).toEqual(['Ada'])
  })

  test('an event of EventBridge is taken through a queue as well, once', async () => {
    const rule = read('eventbridge-rule')
    expect(await failures(withBody(batch, 0, JSON.stringify(rule)))).toEqual([])
    await handler(rule)
    expect(await names()).toEqual(expect.arrayContaining(['Ada', 'Grace']))
    expect(await names()).toHaveLength(2)
  })

  test('of a FIFO queue the messages of a group behind a failure fail too, and those of other groups do not', async () => {
    const event = read('sqs-fifo')
    const broken = withBody(event, 0, 'x')
    expect(await failures(broken)).toEqual([idOf(broken, 0), idOf(broken, 2)])
    expect(await names()).toEqual(['Barbara'])
    expect(await failures(event)).toEqual([])
    expect(await names()).toHaveLength(3)
  })

  test('no messages are no error', async () => {
    expect(await failures({ ...batch, Records: [] })).toEqual([])
  })
})

test.each(['sns', 's3', 'websocket-api'])(
  'an event that the function does not know is refused by throwing: %s',
  async (name) => {
    await expect(handler(read(name))).rejects.toMatchObject({ code: 'unknown-event', retryable: false })
  },
)

test.each(['eventbridge-scheduler-without-input', 'eventbridge-rule-scheduled'])(
  'an event of EventBridge without a request is refused by throwing: %s',
  async (name) => {
    await expect(handler(read(name))).rejects.toMatchObject({ code: 'invalid-request' })
  },
)

test.each([null, undefined, 'tasks', 1, [], {}, { Records: [null] }, { httpMethod: 1 }])(
  'what is no event at all is refused by throwing: %j',
  async (event) => {
    await expect(handler(event)).rejects.toMatchObject({ code: 'unknown-event' })
  },
)
