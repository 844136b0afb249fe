// Tasks whose process dies: real processes that end in the middle of their work.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createIzta, defineJob, defineSchedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import { startRun } from '../../src/runner/runner.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, url } = await testDatabase()
const clock = await createTestClock({ database })
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))

/** A runner in a process of its own, for one invocation; resolves to how it ended. */
async function runInProcess(jobs: string): Promise<string | number> {
  const script = `
    import { createIzta, defineJob } from '${source('index.ts')}'
    import { pgDatabase } from '${source('adapters/pg.ts')}'
    import { drain } from '${source('testing/drain.ts')}'
    const silent = () => {}
    const log = { debug: silent, info: silent, warn: silent, error: silent }
    const database = pgDatabase('${url}')
    const izta = createIzta({ database, jobs: [${jobs}], log })
    await drain(izta, { concurrency: 100 })
    await izta.close()
  `
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'inherit', 'inherit'],
  })
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null]
  return signal ?? code ?? -1
}

const poisonous = `defineJob({
  id: 'work', payload: { '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value }) } },
  run: async (kind) => {
    await new Promise((resolve) => setTimeout(resolve, 5))
    if (kind === 'poison') process.kill(process.pid, 'SIGKILL')
    await new Promise((resolve) => setTimeout(resolve, 5))
  },
})`
const work = defineJob({ id: 'work', payload: z.string() })
const izta = createIzta({ database, jobs: [work], clock, log })

test('a task that kills its process fails with code lost; the 99 that were lost with it finish', async () => {
  const payloads = Array.from({ length: 100 }, (_, n) => (n === 50 ? 'poison' : `good ${n}`))
  const tasks = await izta.enqueueMany(work, payloads)
  const endings: (string | number)[] = []
  for (let n = 0; n < 6 && endings.at(-1) !== 0; n++) {
    // oxlint-disable-next-line no-await-in-loop -- one process dies after the other
    endings.push(await runInProcess(poisonous))
    // oxlint-disable-next-line no-await-in-loop -- the leases of the dead end
    await clock.advance({ minutes: 10 })
  }
  expect(endings).toEqual(['SIGKILL', 'SIGKILL', 'SIGKILL', 0])
  const { rows } = await pool.query(
    'select status, losses, count(*)::int from izta.history group by 1, 2 order by 1',
  )
  expect(rows).toEqual([
    { status: 'failed', losses: 3, count: 1 },
    { status: 'finished', losses: 2, count: 99 },
  ])
  expect(await izta.get(work, tasks[50]?.id ?? '')).toMatchObject({
    status: 'failed',
    code: 'lost',
    attempt: 0,
    losses: 3,
    errors: [{ code: 'lost', attempt: 0, class: 'LostError' }],
  })
}, 60_000)

/** As if a process had claimed them and died: their lease is over. */
const loseAll = (times: number) =>
  pool.query(
    `update izta.task set lease = gen_random_uuid(), run_at = izta.now(), losses = $1 - 1, claims = $1`,
    [times],
  )

/** The same for one task, which no claim can have taken before: it was not due. */
const loseOne = ({ id }: { id: string }) =>
  pool.query(
    `update izta.task set lease = gen_random_uuid(), run_at = izta.now(), due_at = izta.now(), claims = 1 where id = $1`,
    [id],
  )

function observed(timeoutSeconds = 60, maxLosses = 3) {
  const atOnce: number[] = []
  const gates: (() => void)[] = []
  let running = 0
  const job = defineJob({
    id: 'observed',
    payload: z.string(),
    timeoutSeconds,
    maxLosses,
    async run(kind, ctx) {
      atOnce.push(++running)
      if (kind === 'waits') {
        await new Promise<void>((resolve) => {
          gates.push(resolve)
          ctx.signal.addEventListener('abort', () => resolve())
        })
      } else {
        await new Promise(setImmediate)
      }
      running--
      return ctx.losses
    },
  })
  return { job, atOnce, gates, izta: createIzta({ database, jobs: [job], clock, log }) }
}

test('tasks that were lost twice run one at a time; each loss is told once, and attempts are not counted', async () => {
  const { job, atOnce, izta: own } = observed()
  await own.enqueueMany(job, ['a', 'b', 'c', 'd'])
  await loseAll(2)
  const lost: number[] = []
  own.on('task.lost', ({ losses }) => lost.push(losses))
  expect(await drain(own)).toMatchObject({ finished: 4 })
  expect(atOnce).toEqual([1, 1, 1, 1])
  // Though all but the first were handed back, and claimed again.
  expect(lost).toEqual([2, 2, 2, 2])
  const { rows } = await pool.query('select attempt, losses from izta.history')
  expect(rows).toEqual(Array.from({ length: 4 }, () => ({ attempt: 1, losses: 2 })))
})

test('tasks that were lost once run with each other, and with no other task', async () => {
  const { job, atOnce, izta: own } = observed()
  await own.enqueueMany(job, ['a', 'b', 'c', 'd'])
  await loseAll(1)
  await own.enqueueMany(job, ['e', 'f'])
  const order: number[] = []
  own.on('task.started', ({ taskId }) => order.push(lossesOf.get(taskId) ?? 0))
  const { rows: tasks } = await pool.query('select id, claims from izta.task')
  const lossesOf = new Map(tasks.map(({ id, claims }) => [id as string, claims as number]))
  expect(await drain(own)).toMatchObject({ finished: 6, released: 2 })
  expect(order).toEqual([1, 1, 1, 1, 0, 0])
  expect(atOnce).toEqual([1, 2, 3, 4, 1, 2])
})

test.each([
  ['lost once, when the next loss would fail it', 2, 1, [1, 1]],
  ['lost twice, however many losses it may have', 9, 2, [1, 1]],
  ['lost once, when more may follow', 3, 1, [1, 2]],
])('a task %s: at once run %j', async (_, maxLosses, losses, expected) => {
  const { job, atOnce, izta: own } = observed(60, maxLosses)
  await own.enqueueMany(job, ['a', 'b'])
  await loseAll(losses)
  expect(await drain(own)).toMatchObject({ finished: 2 })
  expect(atOnce).toEqual(expected)
})

test('a mass loss in a backlog costs hand-backs, not one run at a time', async () => {
  const { job, atOnce, izta: own } = observed()
  await own.enqueueMany(
    job,
    Array.from({ length: 400 }, (_one, n) => `${n}`),
  )
  // Every tenth, all over the backlog.
  await pool.query(`
    update izta.task set lease = gen_random_uuid(), claims = 1
    where id in (select id from (select id, row_number() over (order by id) n from izta.task) t where n % 10 = 0)`)
  expect(await drain(own, { concurrency: 100 })).toMatchObject({ finished: 400 })
  expect(Math.max(...atOnce)).toBeGreaterThan(50)
  // Ten in each of four claims.
  expect(atOnce.filter((count) => count === 1).length).toBeLessThanOrEqual(10)
})

test.each(['before', 'after'])(
  'what was claimed %s a lost task, by the same call, is handed back before that starts',
  async (place) => {
    const { job, izta: own } = observed()
    const leasedWhenAlone: number[] = []
    const probe = defineJob({
      id: 'probe',
      async run() {
        const { rows } = await pool.query('select count(*)::int from izta.task where lease is not null')
        leasedWhenAlone.push(rows[0].count)
      },
    })
    const both = createIzta({ database, jobs: [job, probe], clock, log })
    if (place === 'before') await own.enqueueMany(job, ['a', 'b', 'c'])
    await both.enqueue(probe)
    if (place === 'after') await own.enqueueMany(job, ['a', 'b', 'c'])
    await pool.query(`update izta.task set lease = gen_random_uuid(), claims = 1 where job = 'probe'`)
    expect(await drain(both)).toMatchObject({ finished: 4, released: 3 })
    expect(leasedWhenAlone).toEqual([1])
  },
)

test('a lost task waits until the process is empty, and nothing more is claimed meanwhile', async () => {
  const { job, atOnce, gates, izta: own } = observed()
  const { run } = invoke(own)
  const first = Promise.withResolvers<void>()
  own.on('task.started', () => first.resolve())
  await own.enqueue(job, 'waits')
  run.recheck()
  await first.promise
  await loseOne(await own.enqueue(job, 'lost', { delaySeconds: 3600 }))
  const held = new Promise<void>((resolve) => void own.on('task.lost', () => resolve()))
  run.recheck()
  await held
  await own.enqueue(job, 'later')
  run.recheck()
  await new Promise(setImmediate)
  expect(atOnce).toEqual([1])
  gates[0]?.()
  run.drain()
  await run.done
  expect(atOnce).toEqual([1])
  expect(await drain(own)).toMatchObject({ finished: 2 })
  expect(atOnce).toEqual([1, 1, 1])
})

test('a lost task that waits is handed back, without another loss, when the run ends before it may start', async () => {
  const { job, izta: own } = observed()
  const capacity = new Capacity(10)
  const { run } = invoke(own, capacity)
  const first = Promise.withResolvers<void>()
  own.on('task.started', () => first.resolve())
  await own.enqueue(job, 'waits')
  run.recheck()
  await first.promise
  await loseOne(await own.enqueue(job, 'lost', { delaySeconds: 3600 }))
  const held = new Promise<void>((resolve) => void own.on('task.lost', () => resolve()))
  run.recheck()
  await held
  expect(capacity.free()).toBe(0)
  run.stopRunning('deadline')
  run.leave()
  expect(await run.done).toMatchObject({ more: true })
  const { rows } = await pool.query('select lease, losses from izta.task where losses > 0')
  expect(rows).toEqual([{ lease: null, losses: 1 }])
  expect(capacity.free()).toBe(10)
})

test('a lost task is handed back when its timeout no longer fits into the invocation', async () => {
  const { job, izta: own } = observed(60)
  await own.enqueue(job, 'lost')
  await loseAll(1)
  const now = clock.now()
  const deadline = {
    claimUntilMs: now + 1,
    stopAtMs: now + 59_000,
    leaveAtMs: now + 61_000,
    endsAtMs: now + 64_000,
  }
  const run = startRun({
    config: configOf(own),
    queues: [],
    capacity: new Capacity(1),
    deadline,
    whenIdle: 'leave',
    hops: 0,
  })
  await new Promise<void>((resolve) => void own.on('task.released', () => resolve()))
  run.drain()
  const { released, finished } = await run.done
  expect(released).toBeGreaterThanOrEqual(1)
  expect(finished).toBe(0)
})

test('two runs that share a capacity let a lost task of one run alone among both', async () => {
  const { job, atOnce, izta: own } = observed()
  const capacity = new Capacity(10)
  await own.enqueueMany(job, ['a', 'b', 'c'])
  await loseAll(1)
  await own.enqueueMany(job, ['d', 'e', 'f'])
  await Promise.all([
    invoke(own, capacity, 'leave-quietly').run.done,
    invoke(own, capacity, 'leave-quietly').run.done,
  ])
  await drain(own)
  const { rows } = await pool.query(`select count(*)::int from izta.history where status = 'finished'`)
  expect(rows).toEqual([{ count: 6 }])
  expect(atOnce).toHaveLength(6)
  expect(capacity.running.size).toBe(0)
  expect(capacity.free()).toBe(10)
})

function invoke(own: typeof izta, capacity = new Capacity(10), whenIdle: 'stay' | 'leave-quietly' = 'stay') {
  const config = configOf(own)
  const deadline = deadlineAfter(clock, 900_000, config.jobs.values())
  return { run: startRun({ config, queues: [], capacity, deadline, whenIdle, hops: 0 }) }
}

test('with overlap: skip a slot’s task is cancelled while the one of an earlier slot has not ended', async () => {
  const gate = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  const slots: (Date | undefined)[] = []
  const slow = defineJob({
    id: 'slow',
    timeoutSeconds: 3600,
    async run(_, ctx) {
      slots.push(ctx.task.slot)
      begun.resolve()
      if (slots.length === 1) await gate.promise
    },
  })
  const schedule = defineSchedule({ name: 'minutely', job: slow, every: { minutes: 1 }, overlap: 'skip' })
  const own = createIzta({ database, jobs: [slow], schedules: [schedule], clock, log })
  await drain(own, { schedules: true })
  await clock.advance({ minutes: 1 })
  // Its only place is taken, so that it claims no other slot itself.
  const first = drain(own, { schedules: true, concurrency: 1 })
  await begun.promise
  await clock.advance({ minutes: 1 })
  expect(await drain(own, { schedules: true })).toMatchObject({ cancelled: 1, finished: 0 })
  gate.resolve()
  expect(await first).toMatchObject({ finished: 1 })
  await clock.advance({ minutes: 1 })
  expect(await drain(own, { schedules: true })).toMatchObject({ finished: 1 })
  expect(slots).toHaveLength(2)
  const { rows } = await pool.query(`select errors::text from izta.history where status = 'cancelled'`)
  expect(rows[0].errors).toContain('skipped')
})

test("a job's own maxLosses decides how many deaths fail its task", async () => {
  const fragile = defineJob({ id: 'fragile', maxLosses: 1, run: () => {} })
  const own = createIzta({ database, jobs: [fragile], log })
  const { id } = await own.enqueue(fragile, undefined, { queue: 'fragile' })
  await pool.query(
    `update izta.task set lease = gen_random_uuid(), claims = 1, run_at = izta.now() where id = $1`,
    [id],
  )
  await drain(own, { queues: ['fragile'] })
  expect(await own.get(fragile, id)).toMatchObject({ status: 'failed', code: 'lost', losses: 1, attempt: 0 })
})

test('a loss is told once, by the claim that finds it, however often the task is claimed afterwards', async () => {
  const told: number[] = []
  const failing = defineJob({
    id: 'failing',
    maxLosses: 5,
    backoff: { firstSeconds: 1, jitter: 'none' },
    run() {
      throw new Error('not yet')
    },
  })
  const own = createIzta({ database, jobs: [failing], clock, log })
  own.on('task.lost', ({ losses }) => told.push(losses))
  const { id } = await own.enqueue(failing, undefined, { maxAttempts: 5 })
  const lose = () =>
    pool.query(
      `update izta.task set lease = gen_random_uuid(), claims = claims + 1, ready = false, run_at = izta.now()`,
    )
  for (let attempt = 1; attempt <= 4; attempt++) {
    // oxlint-disable no-await-in-loop -- one attempt after the other
    if (attempt % 2 === 1) await lose()
    await drain(own)
    await clock.advance({ minutes: 1 })
  }
  expect(told).toEqual([1, 2])
  expect(await own.get(failing, id)).toMatchObject({ status: 'failing', attempt: 4, losses: 2 })
})
