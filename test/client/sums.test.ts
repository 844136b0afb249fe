// What is within its own limit is also bounded together with others: payloads of a call, children, errors, schedules.
import { createIzta, defineJob, defineSchedule, type IztaOptions } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { defaults } from '../../src/defaults.ts'
import { syncDefinitions } from '../../src/scheduler/sync.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const backoff = { firstSeconds: 0 }
/** 1,000,000 bytes of JSON. */
const megabyte = 'x'.repeat(999_998)
const megabytes = (count: number) => Array.from({ length: count }, () => megabyte)
const fitIntoCall = Math.floor(defaults.callLimitBytes / 1e6)
const fitIntoChildren = Math.floor(defaults.childrenLimitBytes / 1e6)

const small = defineJob({ id: 'small', payload: z.number(), run() {} })
const bulky = defineJob({ id: 'bulky', payload: z.string(), run() {} })
const slow = defineJob({ id: 'slow', payload: z.string().refine(async () => true), run() {} })
const make = (options: Omit<IztaOptions, 'database'>) => createIzta({ database, clock, log, ...options })
const izta = make({ jobs: [small, bulky, slow] })

beforeEach(() => pool.query('truncate izta.task, izta.history'))

async function stored(): Promise<number> {
  const { rows } = await pool.query<{ count: string }>('select count(*) from izta.task')
  return Number(rows[0]?.count)
}

test.for([bulky, slow])(
  'enqueueMany of $id refuses payloads that are too large together, and stores none',
  async (job) => {
    await expect(izta.enqueueMany(job, megabytes(fitIntoCall + 5))).rejects.toMatchObject({
      name: 'PayloadError',
      code: 'payloads-too-large',
      retryable: false,
      index: fitIntoCall,
      issues: [{ index: fitIntoCall, path: '', code: 'too-large' }],
      message: `Task ${fitIntoCall}: enqueueMany: the payloads up to this one are ${fitIntoCall + 1}000000 bytes together, above the limit of ${defaults.callLimitBytes} bytes a call: split the call before it.`,
    })
    expect(await stored()).toBe(0)
  },
)

test('enqueueMany stores payloads up to the limit', async () => {
  await izta.enqueueMany(bulky, megabytes(fitIntoCall))
  expect(await stored()).toBe(fitIntoCall)
})

test('a payload within its own limit is stored, however large that is', async () => {
  const payloadLimitBytes = defaults.callLimitBytes + 1e6
  const large = make({ jobs: [bulky], payloadLimitBytes })
  await large.enqueueMany(bulky, ['x'.repeat(payloadLimitBytes - 2)])
  expect(await stored()).toBe(1)
})

test.for([bulky, slow])('a task whose children of $id are too large together fails alone', async (child) => {
  let runs = 0
  const fan = defineJob({
    id: 'fan',
    payload: z.number(),
    backoff,
    maxAttempts: 2,
    run(count, ctx) {
      for (const payload of megabytes(count)) ctx.enqueue(child, payload, { delaySeconds: 3600 })
    },
  })
  const counted = defineJob({ id: 'small', payload: z.number(), run: () => void runs++ })
  const runner = make({ jobs: [fan, counted, child] })
  await runner.enqueueMany(
    counted,
    Array.from({ length: 20 }, (_, n) => n),
  )
  const { id } = await runner.enqueue(fan, fitIntoChildren + 1)
  const fitting = await runner.enqueue(fan, fitIntoChildren)
  expect(await drain(runner)).toMatchObject({ finished: 21, failed: 1 })
  expect(runs).toBe(20)
  expect(await runner.get(fan, id)).toMatchObject({
    status: 'failed',
    code: 'children-too-large',
    losses: 0,
    errors: [
      {
        class: 'IztaError',
        message: `The children of task ${id} have payloads of ${fitIntoChildren + 1}000000 bytes together, above the limit of ${defaults.childrenLimitBytes} bytes: fan out in two levels, or pass references.`,
      },
      { code: 'children-too-large' },
    ],
  })
  expect(await runner.get(fan, fitting.id)).toMatchObject({ status: 'finished' })
  expect(await stored()).toBe(fitIntoChildren)
})

test('the declared errors of a task can be read together when all are as large as they may be', async () => {
  const { errorsKept, errorLimitBytes } = defaults
  const error = 'e'.repeat(errorLimitBytes - 2)
  const failing = defineJob({
    id: 'failing',
    error: z.string(),
    backoff,
    maxAttempts: errorsKept + 1,
    run: (_, ctx) => ctx.fail(ctx.attempt === 1 ? `${error}e` : error),
  })
  const runner = make({ jobs: [failing], resultLimitBytes: 2 * errorLimitBytes })
  const { id } = await runner.enqueue(failing)
  await drain(runner)
  const task = await runner.get(failing, id)
  expect(task?.errors.map((entry) => entry.error?.length)).toEqual(
    Array.from({ length: errorsKept }, () => error.length),
  )
})

test('a declared error above its limit is refused, whatever a result may have', async () => {
  const failing = defineJob({
    id: 'failing',
    error: z.string(),
    maxAttempts: 1,
    run: (_, ctx) => ctx.fail('e'.repeat(defaults.errorLimitBytes)),
  })
  const runner = make({ jobs: [failing], resultLimitBytes: 2 * defaults.errorLimitBytes })
  const { id } = await runner.enqueue(failing)
  await drain(runner)
  expect(await runner.get(failing, id)).toMatchObject({ status: 'failed', code: 'result-refused' })
})

test('schedules whose payloads are too large together are refused with the name of the first', async () => {
  const schedules = megabytes(fitIntoCall + 1).map((payload, n) =>
    defineSchedule({ name: `schedule-${n}`, job: bulky, payload, cron: '@daily' }),
  )
  await expect(syncDefinitions(configOf(make({ jobs: [bulky], schedules })))).rejects.toMatchObject({
    code: 'payloads-too-large',
    message: expect.stringContaining(
      `Schedule "schedule-${fitIntoCall}": the payloads of the schedules`,
    ) as string,
  })
})
