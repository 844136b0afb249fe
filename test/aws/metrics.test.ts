// What the handlers write for CloudWatch: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
import { createIzta, defineJob, defineSchedule, type IztaOptions } from 'izta'
import { createRunnerHandler, createSchedulerHandler } from 'izta/lambda'
import { createTestClock } from 'izta/testing'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }
const make = (jobs: IztaOptions['jobs'], options: Partial<IztaOptions> = {}) =>
  createIzta({ database, jobs, clock, log, app: 'shop', ...options })

interface Blob {
  readonly _aws: {
    readonly CloudWatchMetrics: readonly {
      readonly Namespace: string
      readonly Dimensions: readonly (readonly string[])[]
      readonly Metrics: readonly { readonly Name: string; readonly Unit: string }[]
    }[]
  }
  readonly queue?: string
  readonly [name: string]: unknown
}

/** What `work` writes to the standard output. */
async function written(work: () => Promise<unknown>): Promise<Blob[]> {
  const lines: string[] = []
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    lines.push(String(chunk))
    return true
  })
  await work()
  vi.restoreAllMocks()
  return lines.map((line) => JSON.parse(line) as Blob)
}

const context = { awsRequestId: 'one', getRemainingTimeInMillis: () => 300_000 }

/** Moves the clock on, by which an invocation waits before its last look. */
async function untilDone(done: Promise<unknown>): Promise<void> {
  let isDone = false
  void done.finally(() => (isDone = true))
  while (!isDone) {
    await new Promise(setImmediate)
    await clock.advance({ milliseconds: 50 })
  }
  await done
}
const runner = (
  izta: ReturnType<typeof make>,
  options: { metrics?: boolean | 'few' } = { metrics: true },
) => {
  const handler = createRunnerHandler({ izta, lingerSeconds: 0, ...options })
  return () => untilDone(handler({}, context))
}

const named = (blobs: readonly Blob[], queue: string | undefined) => {
  const found = blobs.filter((blob) => blob.queue === queue)
  expect(found).toHaveLength(1)
  return found[0] as Blob
}
const units = (blob: Blob) =>
  Object.fromEntries(blob._aws.CloudWatchMetrics[0]?.Metrics.map(({ Name, Unit }) => [Name, Unit]) ?? [])

const sometimes = defineJob({
  id: 'sometimes',
  payload: z.boolean(),
  maxAttempts: 2,
  backoff: { firstSeconds: 0 },
  run(fails) {
    if (fails) throw new Error('no')
  },
})

test('a runner writes what became of the tasks of each queue, once', async () => {
  vi.stubEnv('AWS_LAMBDA_FUNCTION_NAME', 'shop-prod-runner')
  const izta = make([sometimes])
  await izta.enqueueMany(sometimes, [false, true])
  await izta.enqueue(sometimes, false, { queue: 'mail' })
  await clock.advance({ seconds: 3 })
  const run = runner(izta)
  const blobs = await written(run)
  expect(blobs).toHaveLength(3)
  for (const blob of blobs) {
    expect(blob).toMatchObject({ service: 'shop', function: 'shop-prod-runner' })
    expect(blob._aws.CloudWatchMetrics[0]?.Namespace).toBe('izta')
  }
  const ofDefault = named(blobs, 'default')
  expect(ofDefault._aws.CloudWatchMetrics[0]?.Dimensions).toEqual([['service', 'function', 'queue']])
  expect(ofDefault).toMatchObject({ Claimed: 3, Finished: 1, Failed: 1, Retried: 1 })
  expect(ofDefault['StartDelay']).toHaveLength(3)
  expect(ofDefault['StartDelay']).toContain(3000)
  expect(ofDefault).not.toHaveProperty('Lost')
  expect(units(ofDefault)).toEqual({
    Claimed: 'Count',
    Finished: 'Count',
    Failed: 'Count',
    Retried: 'Count',
    StartDelay: 'Milliseconds',
    RunDuration: 'Milliseconds',
  })
  expect(named(blobs, 'mail')).toMatchObject({ Claimed: 1, Finished: 1 })
  const ofFunction = named(blobs, undefined)
  expect(ofFunction._aws.CloudWatchMetrics[0]?.Dimensions).toEqual([['service', 'function']])
  expect(units(ofFunction)).toEqual({ DatabaseTime: 'Milliseconds' })

  const nothing = await written(run)
  expect(nothing.map((blob) => Object.keys(units(blob)))).toEqual([['DatabaseTime']])
})

test('a task whose process died counts as lost', async () => {
  const izta = make([sometimes])
  await izta.enqueue(sometimes, false)
  await pool.query('update izta.task set lease = gen_random_uuid()')
  expect(named(await written(runner(izta)), 'default')).toMatchObject({ Claimed: 1, Lost: 1, Finished: 1 })
})

test('a task without a handler here counts as released', async () => {
  const elsewhere = defineJob({ id: 'elsewhere' })
  const izta = make([elsewhere])
  await izta.enqueue(elsewhere)
  expect(named(await written(runner(izta)), 'default')).toMatchObject({ Claimed: 1, Released: 1 })
})

test('more values than one blob takes go into several, all with their dimensions', async () => {
  const izta = make([sometimes])
  await izta.enqueueMany(
    sometimes,
    Array.from({ length: 250 }, () => false),
  )
  const blobs = (await written(runner(izta))).filter(({ queue }) => queue === 'default')
  const delays = blobs.flatMap((blob) => (blob['StartDelay'] ?? []) as number[])
  expect(delays).toHaveLength(250)
  expect(blobs.flatMap((blob) => blob['Finished'] ?? [])).toEqual([250])
  for (const blob of blobs) {
    expect(blob._aws.CloudWatchMetrics[0]?.Dimensions).toEqual([['service', 'function', 'queue']])
    for (const values of Object.values(blob))
      if (Array.isArray(values)) expect(values.length).toBeLessThan(101)
  }
})

test('a scheduler writes what waits, its lag, and that the tick has succeeded', async () => {
  const daily = defineSchedule({ name: 'daily', job: sometimes, payload: false, cron: '@daily' })
  const wake = {
    wake(queue: string) {
      if (queue === 'orphaned') throw new Error('no such function')
    },
  }
  const izta = make([sometimes], { schedules: [daily], wake })
  const handler = createSchedulerHandler({ izta, metrics: true })
  expect(named(await written(() => handler()), undefined)).toMatchObject({
    Ticks: 1,
    AllDue: 0,
    AllOldestDueAge: 0,
    QueuesWithoutRunner: 0,
  })
  await izta.enqueueMany(sometimes, [false, false])
  await izta.enqueue(sometimes, false, { queue: 'orphaned' })
  await izta.queues.pause('stopped')
  await izta.enqueue(sometimes, false, { queue: 'stopped' })
  // The slot of the next midnight is there already; when the second has passed too, one task is made of both.
  const midnight = Math.ceil((clock.now() + 1) / 86_400_000 + 1) * 86_400_000
  await clock.advanceTo(new Date(midnight + 40_000))
  const blobs = await written(() => handler())
  const ofAll = named(blobs, undefined)
  expect(ofAll).toMatchObject({ Ticks: 1, AllDue: 4, QueuesWithoutRunner: 1, SchedulerLag: 40_000 })
  const age = ofAll['AllOldestDueAge'] as number
  expect(age).toBeGreaterThanOrEqual(40)
  expect(named(blobs, 'default')).toMatchObject({ Due: 3, OldestDueAge: age })
  expect(named(blobs, 'orphaned')).toMatchObject({ Due: 1 })
  expect(named(blobs, 'stopped')).toMatchObject({ Due: 1 })
  expect(units(ofAll)).toEqual({
    Ticks: 'Count',
    AllDue: 'Count',
    AllOldestDueAge: 'Seconds',
    QueuesWithoutRunner: 'Count',
    SchedulerLag: 'Milliseconds',
    DatabaseTime: 'Milliseconds',
  })
})

test('a tick that fails writes no tick', async () => {
  const refusing = { query: () => Promise.reject(new Error('refused')) }
  const handler = createSchedulerHandler({ izta: make([sometimes], { database: refusing }), metrics: true })
  const blobs = await written(() => handler().catch(() => {}))
  expect(named(blobs, undefined)).not.toHaveProperty('Ticks')
})

test('few metrics are those that the alarms of the template read, and are what Lambda writes by default', async () => {
  const izta = make([sometimes])
  await izta.enqueueMany(sometimes, [false, false])
  const few = { Ticks: 1, AllOldestDueAge: expect.any(Number), QueuesWithoutRunner: 0 }
  const facts = { service: 'shop', function: 'local', _aws: expect.anything() }
  expect(await written(() => createSchedulerHandler({ izta, metrics: 'few' })())).toEqual([
    { ...facts, ...few },
  ])
  vi.stubEnv('AWS_LAMBDA_RUNTIME_API', '127.0.0.1:9001')
  expect(await written(() => createSchedulerHandler({ izta })())).toEqual([{ ...facts, ...few }])
  expect(await written(runner(izta, {}))).toEqual([])
})

test('nothing is written outside Lambda, or where it is turned off', async () => {
  const izta = make([sometimes])
  await izta.enqueue(sometimes, false)
  expect(await written(runner(izta, {}))).toEqual([])
  expect(await written(() => createSchedulerHandler({ izta })())).toEqual([])
  vi.stubEnv('AWS_LAMBDA_RUNTIME_API', '127.0.0.1:9001')
  expect(await written(() => createSchedulerHandler({ izta, metrics: false })())).toEqual([])
  expect(await written(() => createSchedulerHandler({ izta })())).not.toEqual([])
})
