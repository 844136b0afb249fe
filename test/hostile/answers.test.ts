// What the enqueue function answers to requests that are large and wrong: soon, and no more than Lambda carries.
import { createIzta, defineJob, type Database } from 'izta'
import { createEnqueueHandler, type EnqueueAnswer, type EnqueueHttpResponse } from 'izta/lambda'
import { expect, test } from 'vitest'
import * as z from 'zod'

/** Nothing may get as far as the database. */
const database: Database = { query: () => Promise.reject(new TypeError('secret: postgres://u:hunter2@db/x')) }
const numbers = defineJob({ id: 'numbers', payload: z.array(z.number()), run: () => {} })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const handler = createEnqueueHandler({ izta: createIzta({ database, jobs: [numbers], log }) })

const invoke = async (event: object) => (await handler({ ...event, onError: 'answer' })) as EnqueueAnswer
const errorOf = (answer: EnqueueAnswer) => ('error' in answer ? answer.error : expect.fail('accepted'))

test('more tasks than a request may have are counted, not looked at', async () => {
  const looked = {
    get job(): string {
      return expect.fail('a task was looked at')
    },
  }
  const answer = await invoke({ tasks: Array.from({ length: 10_001 }, () => looked) })
  expect(answer.statusCode).toBe(413)
  expect(errorOf(answer).issues).toEqual([])
})

test('an answer lists a thousand issues, and says that there are more', async () => {
  const wrongShape = await invoke({ tasks: Array.from({ length: 5000 }, () => 1) })
  expect(wrongShape.statusCode).toBe(400)
  expect(errorOf(wrongShape).issues).toHaveLength(1000)
  const wrongTasks = await invoke({ tasks: Array.from({ length: 5000 }, () => ({ job: 'none' })) })
  expect(wrongTasks.statusCode).toBe(422)
  expect(errorOf(wrongTasks).issues).toHaveLength(1000)
  expect(errorOf(wrongTasks).message).toMatch(/^1000 or more things are wrong/)
})

test('unknown options are looked at a thousand times at the most', async () => {
  const options = Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`o${n}`, n]))
  const answer = await invoke({ tasks: [{ job: 'numbers', payload: [], options }] })
  expect(errorOf(answer).issues).toHaveLength(1000)
})

test('of a list that is all wrong a hundred items are listed', async () => {
  const answer = await invoke({
    tasks: [{ job: 'numbers', payload: Array.from({ length: 3000 }, () => '') }],
  })
  const { issues } = errorOf(answer)
  expect(issues).toHaveLength(101)
  expect(issues.at(-1)?.message).toMatch(/^and 2900 more/)
})

test('what the caller wrote is repeated in part', async () => {
  const answer = await invoke({
    tasks: [{ job: 'numbers', payload: [], options: { ['x'.repeat(100_000)]: 1 } }],
  })
  expect(JSON.stringify(answer).length).toBeLessThan(2000)
})

test('an answer to a failure of ours has neither its message nor a stack', async () => {
  const event = {
    rawPath: '/',
    requestContext: { http: { method: 'POST' } },
    body: JSON.stringify({ tasks: [{ job: 'numbers', payload: [] }] }),
  }
  const { statusCode, body } = (await handler(event)) as EnqueueHttpResponse
  // An error that is none of izta leaves open whether the statement was applied: sending it again is safe.
  expect(statusCode).toBe(503)
  expect(body).not.toMatch(/hunter2|postgres:|TypeError|\bat /)
})
