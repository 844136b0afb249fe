// startRunner: terms, polls, wakes, several runners at once, and how they stop.
import {
  createIzta,
  DatabaseUnreachableError,
  defineJob,
  defineSchedule,
  OptionError,
  startRunner,
} from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { gatedJob } from '../support/gated-job.ts'
import { program } from '../support/program.ts'
import { silentLog as log } from '../support/silent-log.ts'

const { database, pool, url } = await testDatabase()
const clocked = await testDatabase()
const clock = await createTestClock({ database: clocked.database })
beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  await clocked.pool.query('truncate izta.task, izta.history, izta.queue')
})

const note = defineJob({ id: 'note', payload: z.number(), result: z.number(), run: (n) => n })

test('an enqueue in the same process starts its task at once, without waiting for the poll', async () => {
  const izta = createIzta({ database, jobs: [note], log })
  const finished = Promise.withResolvers<void>()
  izta.on('task.finished', () => finished.resolve())
  await using _runner = startRunner(izta, { pollSeconds: 3600 })
  await idle(izta)
  await izta.enqueue(note, 1)
  // The next poll is an hour away.
  await finished.promise
})

/** Resolves after two empty claims: the runner believes that nothing is due. */
function idle(izta: ReturnType<typeof createIzta>): Promise<void> {
  let empty = 0
  return new Promise((resolve) => {
    const off = izta.on('turn.completed', ({ claimed }) => {
      empty = claimed === 0 ? empty + 1 : 0
      if (empty < 2) return
      off()
      setImmediate(resolve)
    })
  })
}

test('a wake of another queue does not concern a runner of one queue', async () => {
  const izta = createIzta({ database, jobs: [note], log })
  await using _runner = startRunner(izta, { queues: ['mine'], pollSeconds: 3600 })
  await idle(izta)
  const other = await izta.enqueue(note, 1, { queue: 'other' })
  const mine = await izta.enqueue(note, 2, { queue: 'mine' })
  expect(await izta.wait(note, mine.id)).toMatchObject({ status: 'finished' })
  expect(await izta.get(note, other.id)).toMatchObject({ status: 'pending' })
})

test('without a wake the poll finds a due task', async () => {
  const izta = createIzta({ database: clocked.database, jobs: [note], log, clock })
  const { id } = await izta.enqueue(note, 1, { delaySeconds: 1 })
  const finished = new Promise<void>((resolve) => void izta.on('task.finished', () => resolve()))
  const runner = startRunner(izta, { pollSeconds: 2 })
  await clock.advance({ seconds: 2 })
  await finished
  await runner.stop()
  expect(await izta.get(note, id)).toMatchObject({ status: 'finished' })
})

test('several runners in one process and in one database run every task once', async () => {
  const seen: number[] = []
  const job = defineJob({
    id: 'seen',
    payload: z.number(),
    async run(n) {
      seen.push(n)
      await new Promise(setImmediate)
    },
  })
  const one = createIzta({ database, jobs: [job], log })
  const other = createIzta({ database, jobs: [job], log })
  await one.enqueueMany(job, [...Array(500).keys()])
  const runners = [
    startRunner(one),
    startRunner(one, { concurrency: 3 }),
    startRunner(other, { concurrency: 50 }),
  ]
  await drain(one)
  await Promise.all(runners.map((runner) => runner.stop()))
  // A runner that is told to stop hands back what its last claim brings.
  await drain(one)
  expect(seen).toHaveLength(500)
  expect(new Set(seen).size).toBe(500)
  expect(await one.counts({ since: new Date(0) })).toMatchObject({
    default: { finished: 500, running: 0, pending: 0 },
  })
})

test('no more handlers run at once than concurrency allows', async () => {
  let running = 0
  let most = 0
  const job = defineJob({
    id: 'counted',
    async run() {
      most = Math.max(most, ++running)
      await new Promise(setImmediate)
      running--
    },
  })
  const izta = createIzta({ database, jobs: [job], log })
  await izta.enqueueMany(Array.from({ length: 60 }, () => [job] as const))
  const ended = Promise.withResolvers<void>()
  let count = 0
  izta.on('task.finished', () => ++count === 60 && ended.resolve())
  await using _runner = startRunner(izta, { concurrency: 4 })
  await ended.promise
  expect(most).toBe(4)
})

test('terms overlap: while one drains the next one claims, and its lease ends later', async () => {
  const { job, started, open } = gatedJob({ timeoutSeconds: 600 })
  const izta = createIzta({ database: clocked.database, jobs: [job, note], log, clock })
  const runner = startRunner(izta)
  await izta.enqueue(job)
  await started(1)
  // Terms of 1,200 s, of which 595 s claim.
  await clock.advance({ seconds: 596 })
  const finished = new Promise<void>(
    (resolve) => void izta.on('task.finished', ({ job: id }) => id === 'note' && resolve()),
  )
  await izta.enqueue(note, 1)
  await finished
  await izta.enqueue(job)
  await started(2)
  const { rows } = await clocked.pool.query('select lease, run_at from izta.task order by id')
  expect(rows).toHaveLength(2)
  expect(rows[0].lease).not.toBe(rows[1].lease)
  expect(rows[1].run_at - rows[0].run_at).toBe(595_000)
  open()
  await runner.stop()
  expect(await izta.counts()).toEqual({})
})

test('stop claims nothing more and waits for what runs', async () => {
  const { job, started, open } = gatedJob()
  const izta = createIzta({ database, jobs: [job, note], log })
  const { id } = await izta.enqueue(job)
  const runner = startRunner(izta)
  await started(1)
  const stopped = runner.stop()
  await izta.enqueue(note, 1)
  open()
  await stopped
  expect(await izta.get(job, id)).toMatchObject({ status: 'finished' })
  expect(await izta.counts()).toMatchObject({ default: { pending: 1 } })
})

test('stop aborts what runs after its limit, and hands back what stops', async () => {
  const { job, started } = gatedJob()
  const izta = createIzta({ database, jobs: [job], log })
  const { id } = await izta.enqueue(job)
  const runner = startRunner(izta)
  await started(1)
  await runner.stop({ timeoutSeconds: 0 })
  expect(await izta.get(job, id)).toMatchObject({ status: 'pending', attempt: 0, losses: 0 })
})

test('stopping twice is one stop, and a wrong limit is refused', async () => {
  const runner = startRunner(createIzta({ database, jobs: [note], log }))
  await expect(runner.stop({ timeoutSeconds: -1 })).rejects.toThrow(OptionError)
  await Promise.all([runner.stop(), runner.stop({ timeoutSeconds: 1 })])
})

test('await using stops the runner', async () => {
  const { job, started, open } = gatedJob()
  const izta = createIzta({ database, jobs: [job], log })
  await izta.enqueue(job)
  {
    await using _runner = startRunner(izta)
    await started(1)
    open()
  }
  expect(await izta.counts({ since: new Date(0) })).toMatchObject({ default: { finished: 1 } })
})

test('scheduler: true makes and runs tasks of schedules; two at once make each once', async () => {
  const schedule = defineSchedule({ name: 'minutely', job: note, payload: 7, every: { minutes: 1 } })
  const izta = createIzta({ database: clocked.database, jobs: [note], schedules: [schedule], log, clock })
  const planned = new Promise<void>((resolve) => void izta.on('schedule.planned', () => resolve()))
  const finished = new Promise<void>((resolve) => void izta.on('task.finished', () => resolve()))
  const runners = [startRunner(izta, { scheduler: true }), startRunner(izta, { scheduler: true })]
  await planned
  await clock.advance({ minutes: 1 })
  await finished
  await Promise.all(runners.map((runner) => runner.stop()))
  expect(await izta.counts({ since: new Date(0) })).toMatchObject({ default: { finished: 1 } })
})

test('a database that is away for a while stops nothing', async () => {
  let away = true
  let refusals = 0
  const enough = Promise.withResolvers<void>()
  const flaky = {
    query: (statement: Parameters<typeof database.query>[0]) => {
      if (!away) return database.query(statement)
      if (++refusals === 6) enough.resolve()
      return Promise.reject(new DatabaseUnreachableError('database-unreachable', 'away', { retryable: true }))
    },
  }
  const izta = createIzta({ database: flaky, jobs: [note], log })
  const { id } = await createIzta({ database, jobs: [note], log }).enqueue(note, 1)
  await using _runner = startRunner(izta)
  await enough.promise
  away = false
  expect(await izta.wait(note, id)).toMatchObject({ status: 'finished' })
})

test.each([
  [{ concurrency: 0 }, 'concurrency'],
  [{ pollSeconds: 0 }, 'pollSeconds'],
  [{ queues: ['no spaces'] }, 'queues.0'],
  [{ onStuck: 'restart' }, 'onStuck'],
  [{ parallel: 3 }, 'parallel'],
])('startRunner refuses %j', (options, option) => {
  const izta = createIzta({ database, jobs: [note], log })
  expect(() => startRunner(izta, options as never)).toThrow(
    expect.objectContaining({ code: 'invalid-option', option }),
  )
})

test('a runner says at its start which jobs have no handler', async () => {
  const warnings: unknown[] = []
  const izta = createIzta({
    database,
    jobs: [note, defineJob({ id: 'elsewhere' })],
    log: { ...log, warn: (message, facts) => warnings.push(message, facts) },
  })
  await startRunner(izta).stop()
  expect(warnings).toEqual([
    'this runner has no handler for some jobs: their tasks wait for one that has',
    { jobs: ['elsewhere'] },
  ])
})

test('a rejection outside a job’s await is left to the application, and blames no task', async () => {
  const { code, output } = await program(
    url,
    `
    process.on('unhandledRejection', (error) => console.log('application:', error.message))
    const job = defineJob({ id: 'careless', run: () => void Promise.reject(new Error('floating')) })
    const izta = createIzta({ database, jobs: [job], log })
    const { id } = await izta.enqueue(job)
    const runner = startRunner(izta)
    console.log((await izta.wait(job, id)).status)
    await runner.stop()
    await izta.close()`,
  )
  expect(output).toBe('application: floating\nfinished\n')
  expect(code).toBe(0)
})

test.each([
  [60, 20, 60],
  [60, 50, 100],
  [undefined, 60, 900],
])(
  'a term of %s s with a timeout of %i s: its lease ends after about %i s',
  async (termSeconds, timeoutSeconds, leasedSeconds) => {
    const { job, started, open } = gatedJob({ timeoutSeconds })
    const izta = createIzta({ database: clocked.database, jobs: [job], clock, log })
    const { id } = await izta.enqueue(job, undefined)
    await using _runner = startRunner(izta, { termSeconds })
    await started(1)
    const task = await izta.get(job, id)
    open()
    const leased = task?.status === 'running' ? task.leaseExpiresAt.getTime() - clock.now() : 0
    expect(Math.abs(leased / 1000 - leasedSeconds)).toBeLessThanOrEqual(5)
  },
)
