// Enqueue, alone and in bulk: what is stored, what is refused before anything is sent, ids, keys and lost answers.
import { randomUUID } from 'node:crypto'
import {
  createIzta,
  DatabaseUnreachableError,
  defineJob,
  IztaError,
  type Database,
  type EnqueueItem,
  type EnqueueOptions,
  type IztaOptions,
  type Logger,
  type SqlText,
} from 'izta'
import { drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { enqueuedBy } from '../support/enqueued.ts'

const { database, pool, connect } = await testDatabase()
const log: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number().default(1) }),
  run: ({ numerator, denominator }) => numerator / denominator,
})
const note = defineJob({
  id: 'note',
  payload: z.unknown(),
  queue: 'notes',
  priority: 2,
  maxAttempts: 7,
  run() {},
})
const sweep = defineJob({ id: 'sweep', run() {} })
const later = defineJob({ id: 'later', payload: z.string().refine(async (text) => text !== 'no', 'not no') })
const jobs = [divide, note, sweep, later]
const sent: SqlText[] = []
const watched: Database = {
  query(statement) {
    sent.push(statement)
    return database.query(statement)
  },
}
const create = (options: Partial<IztaOptions> = {}) =>
  createIzta({ database: watched, jobs, log, ...options })
const izta = create()

beforeEach(async () => {
  sent.length = 0
  await pool.query('truncate izta.task, izta.history, izta.queue')
})

async function refusalOf(call: Promise<unknown>): Promise<IztaError> {
  const error = await call.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  if (IztaError.is(error)) return error
  throw error
}

async function taskCount(): Promise<number> {
  const { rows } = await pool.query('select count(*)::int as count from izta.task')
  return rows[0].count
}

/** Applies the first statements, and loses their answers. */
function losing(answers: number): Database {
  return {
    async query(statement) {
      const rows = await database.query(statement)
      if (answers-- > 0) {
        const options = { retryable: true, outcome: 'unknown' } as const
        throw new DatabaseUnreachableError('database-unreachable', 'the answer was lost', options)
      }
      return rows
    },
  }
}

describe('a payload', () => {
  test('is stored as it was given, the input of its schema', async () => {
    const { id } = await izta.enqueue(divide, { numerator: 6 })
    expect(await izta.get(divide, id)).toMatchObject({ status: 'pending', payload: { numerator: 6 } })
  })

  test('may be left out where the job takes none', async () => {
    const { id } = await izta.enqueue(sweep)
    expect(await izta.get(sweep, id)).toMatchObject({
      status: 'pending',
      queue: 'default',
      payload: undefined,
    })
  })

  test('of undefined reaches the handler as undefined, and null as null', async () => {
    const seen: unknown[] = []
    const optional = z.object({ to: z.string() }).nullish().default({ to: 'all' })
    const notify = defineJob({ id: 'notify', payload: optional, run: (payload) => void seen.push(payload) })
    const own = create({ jobs: [notify] })
    const { id } = await own.enqueue(notify)
    await own.enqueue(notify, null)
    expect(await own.get(notify, id)).toMatchObject({ payload: undefined })
    await drain(own, { concurrency: 1 })
    expect(seen).toEqual([{ to: 'all' }, null])
  })

  test.for<[payload: unknown, message: string]>([
    [
      { numerator: '6' },
      'Payload of job "divide" refused: "numerator": Invalid input: expected number, received string; got "6".',
    ],
    [{}, 'Payload of job "divide" refused: "numerator": Invalid input: expected number, received undefined.'],
    [undefined, 'Payload of job "divide" refused: Invalid input: expected object, received undefined.'],
    [
      { numerator: 6n },
      'Payload of job "divide" refused: "numerator" is the bigint 6n, which JSON cannot hold: pass a string.',
    ],
    [
      { numerator: NaN },
      'Payload of job "divide" refused: "numerator" is NaN, which JSON cannot hold: use null or a string.',
    ],
    [
      { numerator: 1, at: new Date(0) },
      'Payload of job "divide" refused: "at" is a Date, not a plain object: pass value.toISOString() and let the schema make it a Date.',
    ],
  ])('%o is refused before anything is sent', async ([payload, message]) => {
    const error = await refusalOf(izta.enqueue(divide, payload as never))
    expect(error).toMatchObject({ name: 'PayloadError', message, retryable: false, index: undefined })
    expect(sent).toEqual([])
  })

  test('of a job that takes none is refused', async () => {
    const error = await refusalOf(izta.enqueue(sweep, { all: true } as never))
    expect(error).toMatchObject({
      code: 'payload-refused',
      message:
        'Payload of job "sweep" refused: the job takes none, so leave it out or give the job a payload schema; got {"all":true}.',
    })
  })

  test('of 1 MiB is stored, a byte more is refused with the limit', async () => {
    const text = 'x'.repeat(2 ** 20 - 2)
    await izta.enqueue(note, text)
    const error = await refusalOf(izta.enqueue(note, `${text}x`))
    expect(error).toMatchObject({
      code: 'payload-too-large',
      message:
        'Payload of job "note" refused: the value is 1048577 bytes as JSON, above the limit of 1048576 bytes: store the bulk elsewhere and pass a reference.',
      issues: [{ path: '', code: 'too-large' }],
    })
    expect(await taskCount()).toBe(1)
  })

  test('has the limit of payloadLimitBytes', async () => {
    const small = create({ payloadLimitBytes: 10 })
    await small.enqueue(note, '12345678')
    expect(await refusalOf(small.enqueue(note, '123456789'))).toMatchObject({ code: 'payload-too-large' })
  })

  test('is checked by an asynchronous schema before anything is sent', async () => {
    expect(await refusalOf(izta.enqueue(later, 'no'))).toMatchObject({ code: 'payload-refused' })
    expect(sent).toEqual([])
    expect(await izta.enqueue(later, 'yes')).toMatchObject({ created: true })
  })
})

describe('options', () => {
  test('replace the defaults of the job', async () => {
    const runAt = new Date('2040-01-01T00:00:00Z')
    const { id } = await izta.enqueue(note, 1, {
      queue: 'other',
      priority: 0,
      maxAttempts: 1,
      key: 'k',
      runAt,
    })
    expect(await izta.get(note, id)).toMatchObject({
      queue: 'other',
      priority: 0,
      maxAttempts: 1,
      key: 'k',
      dueAt: runAt,
    })
    const plain = await izta.enqueue(note, 1, {
      queue: undefined,
      priority: undefined,
      delaySeconds: undefined,
    })
    expect(await izta.get(note, plain.id)).toMatchObject({ queue: 'notes', priority: 2, maxAttempts: 7 })
  })

  test('delaySeconds counts from the database’s clock', async () => {
    const { id } = await izta.enqueue(sweep, undefined, { delaySeconds: 90.5 })
    const task = await izta.get(sweep, id)
    expect(task && task.dueAt.getTime() - task.enqueuedAt.getTime()).toBe(90_500)
  })

  const names = '1 to 100 of A–Z a–z 0–9 . _ : -'
  const keys = '1 to 512 bytes of text without NUL and lone surrogates'
  test.for<[options: object, option: string, message: string]>([
    [{ runAt: new Date(NaN) }, 'runAt', 'expected a valid Date from 1970 to 9999; got an invalid Date.'],
    [{ runAt: '2040-01-01' }, 'runAt', 'expected a valid Date from 1970 to 9999; got "2040-01-01".'],
    [
      { runAt: new Date(-1) },
      'runAt',
      'expected a valid Date from 1970 to 9999; got 1969-12-31T23:59:59.999Z.',
    ],
    [{ delaySeconds: -1 }, 'delaySeconds', 'expected a number from 0 to 315360000; got -1.'],
    [{ delaySeconds: NaN }, 'delaySeconds', 'expected a number from 0 to 315360000; got NaN.'],
    [{ delaySeconds: 1e12 }, 'delaySeconds', 'expected a number from 0 to 315360000; got 1000000000000.'],
    [
      { delaySeconds: 1, runAt: new Date() },
      'delaySeconds',
      'expected either runAt or delaySeconds, not both; got 1.',
    ],
    [{ maxAttempts: 0 }, 'maxAttempts', 'expected a whole number from 1 to 32767; got 0.'],
    [{ maxAttempts: 32_768 }, 'maxAttempts', 'expected a whole number from 1 to 32767; got 32768.'],
    [{ priority: 12 }, 'priority', 'expected a whole number from 0 to 9; got 12.'],
    [{ priority: 1.5 }, 'priority', 'expected a whole number from 0 to 9; got 1.5.'],
    [{ queue: '' }, 'queue', `expected ${names}; got "".`],
    [{ queue: 'a b' }, 'queue', `expected ${names}; got "a b".`],
    [
      { queue: "'; drop table izta.task; --" },
      'queue',
      `expected ${names}; got "'; drop table izta.task; --".`,
    ],
    [{ queue: null }, 'queue', `expected ${names}; got null.`],
    [{ key: '' }, 'key', `expected ${keys}; got "".`],
    [{ key: 'a\0' }, 'key', String.raw`expected ${keys}; got "a\u0000".`],
    [{ key: '\ud800' }, 'key', String.raw`expected ${keys}; got "\ud800".`],
    [{ key: 'a', keyUntil: 'ended' }, 'keyUntil', 'expected "finished" or "started"; got "ended".'],
    [{ keyUntil: 'started' }, 'keyUntil', 'expected only together with key; got "started".'],
    [{ id: 'a' }, 'id', 'expected a UUID; got "a".'],
  ])('%o is refused with option, range and value', async ([options, option, message]) => {
    const error = await refusalOf(izta.enqueue(sweep, undefined, options))
    expect(error).toMatchObject({ name: 'OptionError', code: 'invalid-option', option })
    expect(error.message).toBe(`enqueue of job "sweep": option "${option}": ${message}`)
    expect(sent).toEqual([])
  })

  test('a key may have 512 bytes and no more', async () => {
    expect(await izta.enqueue(sweep, undefined, { key: 'ä'.repeat(256) })).toMatchObject({ created: true })
    const error = await refusalOf(izta.enqueue(sweep, undefined, { key: `${'ä'.repeat(256)}x` }))
    expect(error).toMatchObject({ option: 'key' })
  })

  test('that are unknown are refused, with those that are known', async () => {
    const error = await refusalOf(izta.enqueue(sweep, undefined, { delay: 5 } as EnqueueOptions))
    expect(error.message).toBe(
      'enqueue of job "sweep": unknown option "delay". Known: runAt, delaySeconds, queue, priority, maxAttempts, key, keyUntil, id.',
    )
  })
})

describe('a job', () => {
  test('that is not among the jobs of createIzta is refused', async () => {
    const stranger = defineJob({ id: 'stranger', name: 'a stranger' })
    expect(await refusalOf(izta.enqueue(stranger))).toMatchObject({
      code: 'unknown-job',
      jobId: 'stranger',
      message: 'Job "a stranger" is unknown to this izta: add it to createIzta({ jobs }).',
    })
  })

  test('that is none is refused', async () => {
    expect(await refusalOf(izta.enqueue('divide' as never, {} as never))).toMatchObject({
      name: 'OptionError',
      message: 'enqueue: expected what defineJob returns; got "divide".',
    })
  })
})

describe('a bulk enqueue', () => {
  test('stores all tasks in one statement and answers in their order', async () => {
    const answers = await izta.enqueueMany(divide, [{ numerator: 1 }, { numerator: 2 }, { numerator: 3 }], {
      priority: 1,
    })
    expect(sent).toHaveLength(1)
    const tasks = await Promise.all(answers.map(({ id }) => izta.get(divide, id)))
    expect(tasks.map((task) => task?.payload.numerator)).toEqual([1, 2, 3])
    expect(tasks.every((task) => task?.priority === 1)).toBe(true)
    expect(answers.every(({ created, status }) => created && status === 'pending')).toBe(true)
  })

  test('mixes jobs, each with its own options', async () => {
    const [first, second, third] = await izta.enqueueMany([
      [divide, { numerator: 1 }],
      [note, ['x'], { key: 'k', priority: 9 }],
      [sweep],
    ])
    expect(sent).toHaveLength(1)
    expect(await izta.get(divide, first?.id ?? '')).toMatchObject({ payload: { numerator: 1 } })
    expect(await izta.get(note, second?.id ?? '')).toMatchObject({ queue: 'notes', priority: 9, key: 'k' })
    expect(await izta.get(sweep, third?.id ?? '')).toMatchObject({ queue: 'default' })
  })

  test('of nothing sends nothing', async () => {
    expect(await izta.enqueueMany(divide, [])).toEqual([])
    expect(sent).toEqual([])
  })

  test.for<[call: () => Promise<unknown>, message: string]>([
    [
      () => izta.enqueueMany(divide, [{ numerator: 1 }, { numerator: 'x' }] as never),
      'Task 1: Payload of job "divide" refused: "numerator": Invalid input: expected number, received string; got "x".',
    ],
    [
      () => izta.enqueueMany([[sweep], [note, 1], [note, [0, 5n as never]]]),
      'Task 2: Payload of job "note" refused: "1" is the bigint 5n, which JSON cannot hold: pass a string.',
    ],
    [
      () => izta.enqueueMany([[sweep], [sweep, undefined, { priority: -1 }]]),
      'Task 1: enqueue of job "sweep": option "priority": expected a whole number from 0 to 9; got -1.',
    ],
    [
      () => izta.enqueueMany([[sweep], [defineJob({ id: 'stranger' })]]),
      'Task 1: Job "stranger" is unknown to this izta: add it to createIzta({ jobs }).',
    ],
    [
      () => izta.enqueueMany([sweep, sweep] as never),
      'Task 0: enqueueMany: expected [job, payload, options]; got {"id":"sweep","name":"sweep","queue":"default","priority":5,"maxAttempts":3,"….',
    ],
    [() => izta.enqueueMany(sweep, 3 as never), 'enqueueMany: expected an array of payloads; got 3.'],
    [
      () => izta.enqueueMany(sweep, [undefined], { key: 'k' } as EnqueueOptions),
      'enqueueMany: option "key" belongs to one task: pass [[job, payload, { key }], …] instead.',
    ],
  ])('%# with one wrong task names it and stores nothing', async ([call, message]) => {
    expect((await refusalOf(call())).message).toContain(message)
    expect(sent).toEqual([])
  })

  test('names the first wrong task, also when asynchronous schemas refuse others', async () => {
    const items: EnqueueItem[] = [
      [later, 'yes'],
      [later, 'no'],
      [later, 'no'],
      [sweep, 'payload'],
    ]
    expect(await refusalOf(izta.enqueueMany(items))).toMatchObject({ index: 1, issues: [{ index: 1 }] })
    expect(await refusalOf(izta.enqueueMany(items.slice(0, 3)))).toMatchObject({ index: 1 })
    expect(await refusalOf(izta.enqueueMany([[later, 'yes'], ...items.slice(3)]))).toMatchObject({ index: 1 })
    expect(await taskCount()).toBe(0)
  })

  test('with one id twice is refused', async () => {
    const id = randomUUID()
    const items: EnqueueItem[] = [[sweep, undefined, { id }], [sweep], [note, 1, { id: id.toUpperCase() }]]
    expect((await refusalOf(izta.enqueueMany(items))).message).toBe(
      `Task 2: enqueueMany: option "id": "${id}" is at index 0 already: give each task an id of its own.`,
    )
  })

  test('takes 10,000 tasks and no more', async () => {
    const payloads = Array.from({ length: 10_000 }, (_, numerator) => ({ numerator }))
    const answers = await izta.enqueueMany(divide, payloads)
    expect(new Set(answers.map(({ id }) => id)).size).toBe(10_000)
    expect((await refusalOf(izta.enqueueMany(divide, [...payloads, { numerator: 1 }]))).message).toBe(
      'enqueueMany: 10001 tasks are above the limit of 10000 in one call: split them.',
    )
    expect(await taskCount()).toBe(10_000)
  })

  test('with one key twice makes the first of them', async () => {
    const [first, second, other] = await izta.enqueueMany([
      [sweep, undefined, { key: 'k' }],
      [sweep, undefined, { key: 'k' }],
      [note, 1, { key: 'k' }],
    ])
    expect(second).toEqual({ id: first?.id, created: false, status: 'pending' })
    expect([first?.created, other?.created]).toEqual([true, true])
    expect(await taskCount()).toBe(2)
  })
})

describe('an id of the caller', () => {
  test('makes one task, however often the call is repeated, also after the task has ended', async () => {
    const id = randomUUID()
    expect(await izta.enqueue(sweep, undefined, { id })).toEqual({ id, created: true, status: 'pending' })
    expect(await izta.enqueue(sweep, undefined, { id })).toEqual({ id, created: false, status: 'pending' })
    await drain(izta)
    expect(await izta.enqueue(sweep, undefined, { id })).toEqual({ id, created: false, status: 'finished' })
    expect(await taskCount()).toBe(0)
  })

  test('is the same in upper case', async () => {
    const id = randomUUID()
    await izta.enqueue(sweep, undefined, { id: id.toUpperCase() })
    expect(await izta.enqueue(sweep, undefined, { id })).toEqual({ id, created: false, status: 'pending' })
    expect(await izta.get(sweep, id.toUpperCase())).toMatchObject({ id })
  })

  test('is remembered for a task whose job keeps nothing of finished ones', async () => {
    const bare = defineJob({ id: 'bare', retention: { finishedDays: 'none' }, run() {} })
    const own = create({ jobs: [bare] })
    const { id } = await own.enqueue(bare)
    await drain(own)
    expect(await own.enqueue(bare, undefined, { id })).toEqual({ id, created: false, status: 'finished' })
  })

  test('in a bulk call keeps the others', async () => {
    const { id } = await izta.enqueue(sweep)
    const answers = await izta.enqueueMany([[sweep], [sweep, undefined, { id }], [sweep]])
    expect(answers.map(({ created }) => created)).toEqual([true, false, true])
    expect(await taskCount()).toBe(3)
  })
})

describe('a key', () => {
  test('admits one unfinished task per job, and names it', async () => {
    const first = await izta.enqueue(sweep, undefined, { key: 'k' })
    expect(await izta.enqueue(sweep, undefined, { key: 'k', delaySeconds: 60 })).toEqual({
      id: first.id,
      created: false,
      status: 'pending',
    })
    expect(await izta.enqueue(note, 1, { key: 'k' })).toMatchObject({ created: true })
    await drain(izta)
    expect(await izta.enqueue(sweep, undefined, { key: 'k' })).toMatchObject({ created: true })
  })

  test('names a failing holder as failing, and a running one as running', async () => {
    const statuses: string[] = []
    const flaky = defineJob({
      id: 'flaky',
      backoff: { firstSeconds: 60, jitter: 'none' },
      async run() {
        statuses.push((await own.enqueue(flaky, undefined, { key: 'k' })).status)
        throw new Error('once more')
      },
    })
    const own = create({ jobs: [flaky] })
    await own.enqueue(flaky, undefined, { key: 'k' })
    await drain(own)
    statuses.push((await own.enqueue(flaky, undefined, { key: 'k' })).status)
    expect(statuses).toEqual(['running', 'failing'])
  })

  test('until started admits one that waits behind one that runs', async () => {
    const answers: boolean[] = []
    const chained = defineJob({
      id: 'chained',
      async run(_, ctx) {
        if (ctx.task.id !== first.id) return
        const options = { key: 'k', keyUntil: 'started' } as const
        answers.push((await own.enqueue(chained, undefined, options)).created)
        answers.push((await own.enqueue(chained, undefined, options)).created)
      },
    })
    const own = create({ jobs: [chained] })
    const first = await own.enqueue(chained, undefined, { key: 'k', keyUntil: 'started' })
    // With another free place the one that waits would start between the two.
    const { finished } = await drain(own, { concurrency: 1 })
    expect(answers).toEqual([true, false])
    expect(finished).toBe(2)
  })
})

const repeatable = await testDatabase({ isolation: 'repeatable read' })
describe.for([
  ['read committed', { database, connect }],
  ['repeatable read', repeatable],
] as const)('while another transaction holds the key, under %s,', ([, subject]) => {
  const own = create({ database: subject.database })

  async function isBlocked(): Promise<void> {
    const text =
      'select 1 from pg_stat_activity where datname = current_database() and cardinality(pg_blocking_pids(pid)) > 0'
    for (let look = 0; look < 500; look++) {
      if ((await subject.database.query({ text, values: [] })).length > 0) return
    }
    throw new Error('nothing waits for a lock')
  }

  test.for(['commit', 'rollback'] as const)('an enqueue waits for its %s and answers truly', async (end) => {
    const key = `k-${end}`
    const client = await subject.connect()
    const holder = own.enqueueStatement(sweep, undefined, { key })
    await client.query('begin')
    await client.query(holder.text, holder.values)
    const waiting = own.enqueue(sweep, undefined, { key })
    await isBlocked()
    await client.query(end)
    const answer = await waiting
    expect(answer.created).toBe(end === 'rollback')
    expect(answer.id === holder.id).toBe(end === 'commit')
  })

  test('and the holder cannot be told, since it ends at that very moment, the enqueue is tried anew', async () => {
    const holder = await own.enqueue(sweep, undefined, { key: 'k-gone' })
    let answers = 0
    const racing = create({
      database: {
        async query(statement) {
          const rows = await subject.database.query(statement)
          if (enqueuedBy(statement) === undefined || ++answers > 1) return rows
          await own.cancel(holder.id)
          return [{ reply: JSON.stringify({ refused: [{ index: 0, id: null, status: null }] }) }]
        },
      },
    })
    expect(await racing.enqueue(sweep, undefined, { key: 'k-gone' })).toMatchObject({ created: true })
    expect(answers).toBe(2)
  })
})

describe('an answer that is lost', () => {
  test('makes exactly one task and reports it as created', async () => {
    const woken: string[] = []
    const own = create({ database: losing(2), wake: { wake: (queue) => void woken.push(queue) } })
    const answer = await own.enqueue(sweep, undefined, { key: 'k' })
    expect(answer).toMatchObject({ created: true, status: 'pending' })
    expect(await taskCount()).toBe(1)
    expect(woken).toEqual(['default'])
  })

  test('of a task that has finished meanwhile makes no second one', async () => {
    const lost = losing(1)
    const own = create({
      database: {
        query: (statement) =>
          lost.query(statement).catch(async (error: unknown) => {
            await drain(izta)
            throw error
          }),
      },
    })
    const answer = await own.enqueue(sweep)
    expect(answer).toMatchObject({ created: true })
    expect(await taskCount()).toBe(0)
    expect(await izta.get(sweep, answer.id)).toMatchObject({ status: 'finished' })
  })

  test('in bulk reports each task truly, whoever chose the ids', async () => {
    const old = await izta.enqueue(sweep)
    const own = create({ database: losing(1) })
    const answers = await own.enqueueMany([[sweep], [sweep, undefined, { id: old.id }], [note, 1]])
    expect(answers.map(({ created }) => created)).toEqual([true, false, true])
    expect(await taskCount()).toBe(3)
  })
})

describe('wakes', () => {
  test('go to a queue with due tasks once a second, and name the instant of later ones', async () => {
    const woken: (string | Date)[] = []
    const own = create({
      wake: { wake: (queue) => void woken.push(queue), wakeAt: (instant) => void woken.push(instant) },
    })
    const runAt = new Date('2040-01-01T00:00:00Z')
    await own.enqueueMany([[sweep], [note, 1], [sweep, undefined, { runAt }]])
    await own.enqueue(sweep)
    expect(woken).toHaveLength(3)
    expect(woken).toEqual(expect.arrayContaining(['default', 'notes', runAt]))
  })

  test('that fail do not fail the enqueue', async () => {
    const own = create({ wake: { wake: () => Promise.reject(new Error('no')) } })
    expect(await own.enqueue(sweep)).toMatchObject({ created: true })
  })
})
