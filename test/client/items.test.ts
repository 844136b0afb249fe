// One reading of enqueue arguments: the direct client, izta/remote and the enqueue function refuse the same, in the same words.
import { createIzta, defineJob, type Database, type Izta } from 'izta'
import { createEnqueueHandler, type EnqueueAnswer } from 'izta/lambda'
import { createRemoteIzta, type RemoteIzta } from 'izta/remote'
import { beforeEach, describe, expect, expectTypeOf, test } from 'vitest'
import * as z from 'zod'
import type { AwsRequest } from '../../src/aws/api.ts'
import type { Enqueuing } from '../../src/client/enqueue.ts'

const log = { debug() {}, info() {}, warn() {}, error() {} }
let sent: unknown[] = []
let answer: unknown
const database: Database = {
  query: (statement) => Promise.reject(sent.push(statement) && new TypeError('nothing may be sent')),
}
const known = defineJob({ id: 'known' })
const unknown = defineJob({ id: 'unknown' })
const slow = defineJob({
  id: 'slow',
  payload: z.string().refine((text) => Promise.resolve(text === 'good')),
})
const jobs = [known, slow]
const direct = createIzta({ database, jobs, log })
const api = ({ body }: AwsRequest) => {
  sent.push(body)
  return Promise.resolve({ status: 200, body: answer })
}
const remote = createRemoteIzta({ functionName: 'f', jobs, api })
const id = '0190a5de-0000-7000-8000-000000000000'

beforeEach(() => {
  sent = []
  answer = { tasks: [] }
})

/** What a call is refused with; the parts that programs and people see. */
async function refusal(call: () => Promise<unknown>) {
  try {
    await call()
  } catch (error) {
    const { name, code, index, option, jobId, issues, message } = error as Record<string, unknown>
    return { name, code, index, option, jobId, issues, message }
  }
  return undefined
}

type Call = (izta: RemoteIzta) => Promise<unknown>
const never = (value: unknown) => value as never

const refused: Record<string, [call: Call, expected: object]> = {
  'a job that is not among the jobs': [
    (izta) => izta.enqueue(unknown),
    { name: 'UnknownJobError', index: undefined, jobId: 'unknown' },
  ],
  'a job that is not among the jobs, as the second of a call': [
    (izta) => izta.enqueueMany([[known], [unknown]]),
    { name: 'UnknownJobError', index: 1, jobId: 'unknown' },
  ],
  'something that is no job': [
    (izta) => izta.enqueue<typeof known>(never({ id: 'known' })),
    { option: 'job' },
  ],
  'nothing at all': [(izta) => izta.enqueue<typeof known>(never(undefined)), { option: 'job' }],
  'something that is no job, in a list': [
    (izta) => izta.enqueueMany(never([[known], [{ id: 'known' }]])),
    { option: 'job', index: 1 },
  ],
  'an item that is no list': [
    (izta) => izta.enqueueMany(never([[known], known])),
    { option: 'tasks', index: 1 },
  ],
  'a bulk call without payloads': [
    (izta) => izta.enqueueMany(known, never(undefined)),
    { option: 'payloads' },
  ],
  'payloads that are no list': [(izta) => izta.enqueueMany(known, never('two')), { option: 'payloads' }],
  'no arguments': [(izta) => izta.enqueueMany(never(undefined)), { option: 'payloads' }],
  'one id for all tasks': [
    (izta) => izta.enqueueMany(known, [undefined, undefined], never({ id })),
    { option: 'id' },
  ],
  'one key for all tasks': [
    (izta) => izta.enqueueMany(known, [undefined, undefined], never({ key: 'k' })),
    { option: 'key' },
  ],
  'an id that is there twice': [
    (izta) =>
      izta.enqueueMany([[known], [known, undefined, { id }], [known, undefined, { id: id.toUpperCase() }]]),
    { option: 'id', index: 2 },
  ],
  'more than 10,000 tasks': [
    (izta) =>
      izta.enqueueMany(
        known,
        Array.from({ length: 10_001 }, () => undefined),
      ),
    { option: 'tasks' },
  ],
  'an unknown option': [(izta) => izta.enqueue(known, undefined, never({ prio: 1 })), { option: 'prio' }],
  'an option out of its range': [
    (izta) => izta.enqueueMany([[known], [known, undefined, { priority: 12 }]]),
    { option: 'priority', index: 1 },
  ],
  'a payload of a job without one': [(izta) => izta.enqueue(known, never(1)), { code: 'payload-refused' }],
  'a payload that is too large': [
    (izta) =>
      izta.enqueueMany([
        [slow, 'good'],
        [slow, 'x'.repeat(2_000_000)],
      ]),
    { code: 'payload-too-large', index: 1 },
  ],
  'the first of two wrong ones, though its schema answers later': [
    (izta) => izta.enqueueMany([[slow, 'bad'], [unknown]]),
    { code: 'payload-refused', index: 0 },
  ],
}

test.each(Object.entries(refused))(
  '%s is refused alike, before anything is sent',
  async (_, [call, expected]) => {
    const [here, there] = [await refusal(() => call(direct)), await refusal(() => call(remote))]
    expect(here).toMatchObject(expected)
    const message = String(here?.message).replace('createIzta', 'createRemoteIzta')
    expect(there).toEqual({ ...here, message })
    expect(sent).toEqual([])
  },
)

test('no tasks are no error, and nothing is sent for them', async () => {
  expect([await direct.enqueueMany(known, []), await remote.enqueueMany(known, [])]).toEqual([[], []])
  expect([await direct.enqueueMany([]), await remote.enqueueMany([])]).toEqual([[], []])
  expect(sent).toEqual([])
})

test('the enqueue function refuses too many tasks and repeated ids in the same words', async () => {
  const handler = createEnqueueHandler({ izta: direct })
  const refusedBy = async (tasks: object[]) => {
    const refusedAs = (await handler({ tasks, onError: 'answer' })) as EnqueueAnswer
    return 'error' in refusedAs ? refusedAs.error : expect.fail('accepted')
  }
  const many = await refusal(() =>
    direct.enqueueMany(
      known,
      Array.from({ length: 10_001 }, () => undefined),
    ),
  )
  const tooMany = await refusedBy(Array.from({ length: 10_001 }, () => ({ job: 'known' })))
  expect(`enqueueMany: ${tooMany.message}`).toBe(many?.message)
  const twice = await refusal(() =>
    direct.enqueueMany([
      [known, undefined, { id }],
      [known, undefined, { id }],
    ]),
  )
  const task = { job: 'known', options: { id } }
  const repeated = await refusedBy([task, task])
  expect(repeated.issues).toMatchObject([{ index: 1, path: 'options.id', code: 'invalid-option' }])
  expect(`Task 1: enqueueMany: ${repeated.issues[0]?.message}`).toBe(twice?.message)
})

test('the two clients have the same types, but for the status and the signal that only the direct one has', () => {
  expectTypeOf<RemoteIzta['enqueue']>().parameters.toEqualTypeOf<
    Parameters<Enqueuing<unknown, unknown>['enqueue']>
  >()
  expectTypeOf<Izta>().toExtend<RemoteIzta>()
})

describe('an answer that is not to what was sent is refused', () => {
  const own = (index: number) =>
    (sent[0] as { tasks: { options: { id: string } }[] }).tasks[index]?.options.id
  const answers: Record<string, () => unknown> = {
    'no tasks': () => ({ tasks: [] }),
    'fewer tasks than were sent': () => ({ tasks: [{ id: own(0), created: true }] }),
    'more tasks than were sent': () => ({
      tasks: [0, 1, 1].map((index) => ({ id: own(index), created: true })),
    }),
    'tasks of another request': () => ({ tasks: [0, 1].map(() => ({ id, created: true })) }),
    'tasks in another order': () => ({ tasks: [1, 0].map((index) => ({ id: own(index), created: true })) }),
    'a task without its id': () => ({ tasks: [{ created: true }, { id: own(1), created: true }] }),
    'a task that may have been made or not': () => ({
      tasks: [{ id: own(0) }, { id: own(1), created: true }],
    }),
    'no tasks at all': () => ({ ok: true }),
    'an error without a code': () => ({ error: { message: 'no' } }),
  }

  test.each(Object.entries(answers))('%s', async (_, build) => {
    const strange = createRemoteIzta({
      functionName: 'f',
      jobs,
      api: ({ body }) => {
        sent.push(body)
        return Promise.resolve({ status: 200, body: build() })
      },
    })
    const error = await refusal(() => strange.enqueueMany(known, [undefined, undefined]))
    expect(error).toMatchObject({ name: 'IztaError', code: 'unexpected-answer' })
    expect(sent).toHaveLength(1)
  })

  test('a database that answers an enqueue with no row has not stored it', async () => {
    const silent = createIzta({ database: { query: () => Promise.resolve([]) }, jobs, log })
    await expect(silent.enqueue(known)).rejects.toThrow(TypeError)
    await expect(silent.enqueueMany(known, [undefined, undefined])).rejects.toThrow(TypeError)
  })
})
