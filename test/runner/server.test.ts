// startRunner: terms, polls, wakes, several runners at once, and how they stop.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
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

const { database, pool, url } = await testDatabase()
const clocked = await testDatabase()
const clock = await createTestClock({ database: clocked.database })
beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  await clocked.pool.query('truncate izta.task, izta.history, izta.queue')
})
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

const note = defineJob({ id: 'note', payload: z.number(), result: z.number(), run: (n) => n })

/** A job whose handlers wait for `gate`; a signal ends those that obey. */
function gated(options: { timeoutSeconds?: number; obeys?: boolean } = {}) {
  const gate = Promise.withResolvers<void>()
  let begun = 0
  let heard = () => {}
  const job = defineJob({
    id: 'gated',
    timeoutSeconds: options.timeoutSeconds ?? 60,
    async run(_, { signal }) {
      begun++
      heard()
      const aborted = new Promise<never>((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      )
      aborted.catch(() => {})
      await (options.obeys === false ? gate.promise : Promise.race([gate.promise, aborted]))
    },
  })
  const started = async (count: number) => {
    while (begun < count) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await new Promise<void>((resolve) => (heard = resolve))
    }
  }
  return { job, started, open: gate.resolve }
}

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
  const { job, started, open } = gated({ timeoutSeconds: 600 })
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
  const { job, started, open } = gated()
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
  const { job, started } = gated()
  const izta = createIzta({ database, jobs: [job], log })
  const { id } = await izta.enqueue(job)
  const runner = startRunner(izta)
  await started(1)
  await runner.stop({ timeoutSeconds: 0 })
  expect(await izta.get(job, id)).toMatchObject({ status: 'pending', attempt: 0, losses: 0 })
})

test('stop leaves what does not stop, leased, after the grace time', async () => {
  const { job, started, open } = gated({ obeys: false })
  const izta = createIzta({ database: clocked.database, jobs: [job], log, clock })
  const { id } = await izta.enqueue(job)
  const stuck: unknown[] = []
  const runner = startRunner(izta, { onStuck: (task) => stuck.push(task) })
  await started(1)
  const stopped = runner.stop({ timeoutSeconds: 10 })
  await clock.advance({ seconds: 15 })
  await stopped
  expect(await izta.get(job, id)).toMatchObject({ status: 'running' })
  expect(stuck).toEqual([{ id, job: 'gated' }])
  open()
})

test('stopping twice is one stop, and a wrong limit is refused', async () => {
  const runner = startRunner(createIzta({ database, jobs: [note], log }))
  await expect(runner.stop({ timeoutSeconds: -1 })).rejects.toThrow(OptionError)
  await Promise.all([runner.stop(), runner.stop({ timeoutSeconds: 1 })])
})

test('await using stops the runner', async () => {
  const { job, started, open } = gated()
  const izta = createIzta({ database, jobs: [job], log })
  await izta.enqueue(job)
  {
    await using _runner = startRunner(izta)
    await started(1)
    open()
  }
  expect(await izta.counts({ since: new Date(0) })).toMatchObject({ default: { finished: 1 } })
})

test('a stuck handler costs one place until it ends: the runner goes on, over its terms, and tells', async () => {
  const { job, started, open } = gated({ obeys: false, timeoutSeconds: 60 })
  let atOnce = 0
  let most = 0
  const counted = defineJob({
    id: 'counted',
    async run() {
      most = Math.max(most, ++atOnce)
      await new Promise(setImmediate)
      atOnce--
    },
  })
  const izta = createIzta({ database: clocked.database, jobs: [job, counted], log, clock })
  const { id } = await izta.enqueue(job)
  const told = Promise.withResolvers<unknown>()
  const health: unknown[] = []
  izta.on('runner.health', (event) => health.push(event))
  const runner = startRunner(izta, { concurrency: 3, onStuck: told.resolve })
  await started(1)
  expect(runner.healthy).toBe(true)
  await clock.advance({ seconds: 65 })
  expect(await told.promise).toEqual({ id, job: 'gated' })
  expect(runner.healthy).toBe(false)

  const runSix = async () => {
    most = 0
    let left = 6
    const ended = Promise.withResolvers<void>()
    const off = izta.on('task.finished', () => --left === 0 && ended.resolve())
    await izta.enqueueMany(Array.from({ length: 6 }, () => [counted] as const))
    await ended.promise
    off()
    return most
  }
  expect(await runSix()).toBe(2)
  await clock.advance({ minutes: 13 })
  expect(await runSix()).toBe(2)

  open()
  await new Promise(setImmediate)
  expect(runner.healthy).toBe(true)
  expect(await runSix()).toBe(3)
  expect(health).toEqual([
    { healthy: false, stuck: 1, concurrency: 3 },
    { healthy: true, stuck: 0, concurrency: 3 },
  ])
  await runner.stop()
})

test('lost tasks do not wait for a stuck handler to end', async () => {
  const { job, started, open } = gated({ obeys: false, timeoutSeconds: 60 })
  const izta = createIzta({ database: clocked.database, jobs: [job, note], log, clock })
  await izta.enqueue(job)
  const stuck = Promise.withResolvers<unknown>()
  const runner = startRunner(izta, { onStuck: stuck.resolve })
  await started(1)
  await clock.advance({ seconds: 65 })
  await stuck.promise
  const finished = new Promise<void>((resolve) => void izta.on('task.finished', () => resolve()))
  const { id } = await izta.enqueue(note, 1, { delaySeconds: 1 })
  await clocked.pool.query(
    'update izta.task set lease = gen_random_uuid(), claims = 2, losses = 1 where id = $1',
    [id],
  )
  await clock.advance({ seconds: 4 })
  await finished
  expect(await izta.get(note, id)).toMatchObject({ status: 'finished', losses: 2 })
  open()
  await runner.stop()
})

test('an onStuck that throws does not keep the failed attempt from being settled', async () => {
  const { job, started, open } = gated({ obeys: false, timeoutSeconds: 60 })
  const errors: string[] = []
  const izta = createIzta({
    database: clocked.database,
    jobs: [job],
    clock,
    log: { ...log, error: (message) => errors.push(message) },
  })
  const retried = new Promise<void>((resolve) => void izta.on('task.retried', () => resolve()))
  await izta.enqueue(job)
  const runner = startRunner(izta, {
    onStuck() {
      throw new Error('oh')
    },
  })
  await started(1)
  await clock.advance({ seconds: 65 })
  await retried
  await runner.stop()
  expect(errors).toContain('onStuck threw')
  open()
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

const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))

/** A program of its own that uses izta; resolves to its exit code and what it printed. */
async function program(body: string): Promise<{ code: number | null; output: string }> {
  const script = `
    import { createIzta, defineJob, startRunner } from '${source('index.ts')}'
    import { pgDatabase } from '${source('adapters/pg.ts')}'
    const silent = () => {}
    const log = { debug: silent, info: silent, warn: silent, error: silent }
    const database = pgDatabase('${url}')
    ${body}`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [code] = (await once(child, 'exit')) as [number | null]
  return { code, output }
}

test('a rejection outside a job’s await is left to the application, and blames no task', async () => {
  const { code, output } = await program(`
    process.on('unhandledRejection', (error) => console.log('application:', error.message))
    const job = defineJob({ id: 'careless', run: () => void Promise.reject(new Error('floating')) })
    const izta = createIzta({ database, jobs: [job], log })
    const { id } = await izta.enqueue(job)
    const runner = startRunner(izta)
    console.log((await izta.wait(job, id)).status)
    await runner.stop()
    await izta.close()`)
  expect(output).toBe('application: floating\nfinished\n')
  expect(code).toBe(0)
})

test('exitWhenStuck ends the process with code 1 after everything else has been settled', async () => {
  const { code, output } = await program(`
    const stuck = defineJob({ id: 'stuck', timeoutSeconds: 1, maxAttempts: 1, run: () => new Promise(() => {}) })
    const quick = defineJob({ id: 'quick', run: () => {} })
    const clock = {
      now: () => 20 * performance.now(),
      after(ms, callback) {
        const timer = setTimeout(callback, Math.min(ms / 20, 2 ** 31 - 1))
        return () => clearTimeout(timer)
      },
    }
    const izta = createIzta({ database, jobs: [stuck, quick], log, clock })
    await izta.enqueueMany([[stuck], [quick]])
    startRunner(izta, { exitWhenStuck: true, onStuck: ({ job }) => console.log(job) })`)
  expect(output).toBe('stuck\n')
  expect(code).toBe(1)
  const { rows } = await pool.query('select job, status from izta.history order by job')
  expect(rows).toEqual([
    { job: 'quick', status: 'finished' },
    { job: 'stuck', status: 'failed' },
  ])
})

test.each([
  [60, 20, 60],
  [60, 50, 100],
  [undefined, 60, 900],
])(
  'a term of %s s with a timeout of %i s: its lease ends after about %i s',
  async (termSeconds, timeoutSeconds, leasedSeconds) => {
    const { job, started, open } = gated({ timeoutSeconds })
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
