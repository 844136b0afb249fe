// What the types of an izta instance let through and refuse: enqueue, read back, bulk calls, schedules.
/* oxlint-disable vitest/expect-expect -- the compiler is what expects here */
import {
  createIzta,
  defineJob,
  defineSchedule,
  implementJob,
  type EnqueueItem,
  type IztaOptions,
  type Task,
} from 'izta'
import { pgDatabase } from 'izta/pg'
import { describe, expectTypeOf, test } from 'vitest'
import * as z from 'zod'

const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  run: ({ numerator, denominator }, ctx) =>
    denominator === 0 ? ctx.fail({ code: 'divide-by-zero' }) : numerator / denominator,
})
const greet = defineJob({ id: 'greet', payload: z.string().transform((name) => ({ name })) })
const sweep = defineJob({ id: 'sweep' })
const izta = createIzta({ database: pgDatabase('postgres://localhost/x'), jobs: [divide, greet, sweep] })
const id = '0198a000-0000-7000-8000-000000000000'

describe('a task that is read back', () => {
  test('has a result when it has finished, and only then', async () => {
    const task = await izta.get(divide, id)
    expectTypeOf(task).toEqualTypeOf<Task<typeof divide> | undefined>()
    if (task === undefined) return
    if (task.status === 'finished') {
      expectTypeOf(task.result).toBeNumber()
      expectTypeOf(task.finishedAt).toEqualTypeOf<Date>()
    } else {
      // @ts-expect-error -- there is a result only when it has finished
      expectTypeOf(task.result).toBeNumber()
    }
  })

  test('has the declared error when it has failed', async () => {
    const task = await izta.get(divide, id)
    if (task?.status !== 'failed' && task?.status !== 'failing') return
    expectTypeOf(task.error).toEqualTypeOf<{ code: 'divide-by-zero' } | undefined>()
    expectTypeOf(task.errors[0]?.error).toEqualTypeOf<{ code: 'divide-by-zero' } | undefined>()
  })

  test('has the payload as it was enqueued', async () => {
    const task = await izta.get(greet, id)
    expectTypeOf(task?.payload).toEqualTypeOf<string | undefined>()
  })

  test('has no result where the job has no result schema', async () => {
    const task = await izta.wait(sweep, id)
    if (task.status === 'finished') expectTypeOf(task.result).toBeUndefined()
  })

  test('has payload and result as far as its job keeps them', async () => {
    const bare = defineJob({
      id: 'bare',
      payload: z.string(),
      result: z.number(),
      retention: { finishedDays: 'none' },
      run: () => 1,
    })
    const days: number | 'none' = process.env['KEEP'] === undefined ? 'none' : Number(process.env['KEEP'])
    const either = defineJob({ id: 'either', payload: z.string(), retention: { finishedDays: days } })
    const bareTask = await izta.get(bare, id)
    if (bareTask?.status === 'finished') {
      expectTypeOf(bareTask.payload).toBeUndefined()
      expectTypeOf(bareTask.result).toBeUndefined()
    } else {
      expectTypeOf(bareTask?.payload).toEqualTypeOf<string | undefined>()
      if (bareTask?.status === 'failed') expectTypeOf(bareTask.payload).toBeString()
    }
    const eitherTask = await izta.get(either, id)
    if (eitherTask?.status === 'finished')
      expectTypeOf(eitherTask.payload).toEqualTypeOf<string | undefined>()
    const kept = await izta.get(divide, id)
    if (kept?.status === 'finished')
      expectTypeOf(kept.payload).toEqualTypeOf<{ numerator: number; denominator: number }>()
    const implemented = implementJob(
      defineJob({ id: 'c', payload: z.string(), retention: { finishedDays: 'none' } }),
      () => 1,
    )
    const implementedTask = await izta.get(implemented, id)
    if (implementedTask?.status === 'finished') expectTypeOf(implementedTask.payload).toBeUndefined()
    // @ts-expect-error -- nothing is kept by 'none' alone
    defineJob({ id: 'a', retention: { finishedDays: 'all' } })
    // @ts-expect-error -- one spelling only
    defineJob({ id: 'a', retention: { finished: 'none' } })
  })

  test('has ended when it was waited for', async () => {
    const task = await izta.wait(divide, id, { timeoutSeconds: undefined })
    expectTypeOf(task.status).toEqualTypeOf<'finished' | 'failed' | 'cancelled'>()
  })

  test('is typed in a list by the job that the list is limited to', async () => {
    for await (const task of izta.list({ job: divide, status: undefined })) {
      expectTypeOf(task.payload).toEqualTypeOf<{ numerator: number; denominator: number }>()
    }
    const { tasks } = await izta.listPage({ job: greet })
    expectTypeOf(tasks[0]?.payload).toEqualTypeOf<string | undefined>()
    // @ts-expect-error -- no such status
    void izta.list({ status: 'done' })
  })
})

describe('a bulk enqueue', () => {
  test('of one job takes its payloads', () => {
    void izta.enqueueMany(divide, [{ numerator: 1, denominator: 2 }], { priority: 1 })
    void izta.enqueueMany(sweep, [undefined, undefined])
    // @ts-expect-error -- the second one is wrong
    void izta.enqueueMany(divide, [{ numerator: 1, denominator: 2 }, { numerator: 1 }])
    // @ts-expect-error -- an id belongs to one task
    void izta.enqueueMany(divide, [{ numerator: 1, denominator: 2 }], { id })
  })

  test('of several jobs takes each one’s payload and options', () => {
    void izta.enqueueMany([
      [divide, { numerator: 1, denominator: 2 }],
      [greet, 'Ada', { key: 'ada', keyUntil: 'started' }],
      [sweep],
      [sweep, undefined, { priority: 0 }],
    ])
    // @ts-expect-error -- the payload of another job
    void izta.enqueueMany([[divide, 'Ada']])
    // @ts-expect-error -- the payload is missing
    void izta.enqueueMany([[divide]])
    // @ts-expect-error -- unknown option
    void izta.enqueueMany([[greet, 'Ada', { delay: 1 }]])
  })

  test('takes lists that were made elsewhere', () => {
    const greetings = ['Ada', 'Grace'].map((name): EnqueueItem<typeof greet> => [greet, name, { key: name }])
    void izta.enqueueMany(greetings)
    const mixed: EnqueueItem[] = [[divide, { numerator: 1, denominator: 2 }], [sweep]]
    void izta.enqueueMany(mixed)
    void izta.enqueueMany(['Ada', 'Grace'].map((name) => [greet, name] as const))
  })
})

describe('an enqueue as a statement', () => {
  test('has text and values for any driver', () => {
    const statement = izta.enqueueStatement(greet, 'Ada', { id })
    expectTypeOf(statement.text).toBeString()
    expectTypeOf(statement.values).toEqualTypeOf<(string | null)[]>()
    expectTypeOf(statement.read([{ refused: null }]).created).toBeBoolean()
    // @ts-expect-error -- the payload of another job
    izta.enqueueStatement(greet, { numerator: 1 })
  })
})

describe('a schedule', () => {
  test('is taken by createIzta with its job’s payload', () => {
    const nightly = defineSchedule({ name: 'nightly', job: greet, payload: 'Ada', cron: '@daily' })
    const options: IztaOptions = {
      database: pgDatabase('postgres://localhost/x'),
      jobs: [greet],
      schedules: [nightly],
      app: undefined,
      schema: process.env['SCHEMA'],
      log: undefined,
    }
    void createIzta(options).schedules.put(nightly)
    // @ts-expect-error -- a schedule is not a job
    createIzta({ ...options, jobs: [nightly] })
    // @ts-expect-error -- no such option
    createIzta({ ...options, logger: console })
    // @ts-expect-error -- the payload is a text
    defineSchedule({ name: 'nightly', job: greet, payload: 1, cron: '@daily' })
  })
})

describe('events', () => {
  test('are typed by their name', () => {
    izta.on('task.failed', (event) => expectTypeOf(event.message).toBeString())
    // @ts-expect-error -- no such event
    izta.on('task.exploded', () => {})
  })
})
