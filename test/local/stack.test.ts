import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createIzta, defineJob, defineSchedule, type Clock, type Izta, type Logger } from 'izta'
import { startLocalStack, type LocalStackOptions } from 'izta/local'
import { createTestClock } from 'izta/testing'
import { afterAll, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { url: databaseUrl, database, pool } = await testDatabase()
const log: Logger = { debug() {}, info() {}, warn() {}, error() {} }

const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  run: ({ numerator, denominator }) => numerator / denominator,
})
const half = { job: 'divide', payload: { numerator: 1, denominator: 2 } }

const start = (options: LocalStackOptions) =>
  startLocalStack({ log, database: databaseUrl, ...options } as LocalStackOptions)
const post = (url: string, body: unknown) => fetch(url, { method: 'POST', body: JSON.stringify(body) })

/** The id of the next task that ends in such a way. */
const next = (izta: Izta, event: 'task.finished' | 'task.retried') =>
  new Promise<string>((resolve) => {
    const end = izta.on(event, ({ taskId }) => {
      end()
      resolve(taskId)
    })
  })

test('on its own database a posted task is run and read back, beside another stack; nothing stays behind', async () => {
  const stacks = await Promise.all([1, 2].map(() => startLocalStack({ jobs: [divide], log })))
  for (const { izta, url } of stacks) {
    const finished = next(izta, 'task.finished')
    const response = await post(url, { tasks: [half] })
    expect(response.status).toBe(202)
    const { tasks } = (await response.json()) as { tasks: { id: string }[] }
    expect(tasks).toEqual([{ id: await finished, created: true }])
    expect(await izta.wait(divide, tasks[0]?.id ?? '')).toMatchObject({ status: 'finished', result: 0.5 })
  }
  const [first] = stacks
  await Promise.all(stacks.map((stack) => stack.stop()))
  await first?.stop()
  await expect(fetch(first?.url ?? '')).rejects.toThrow('fetch failed')
  const gone = createIzta({
    database: (await import('izta/pg')).pgDatabase(first?.databaseUrl ?? ''),
    jobs: [divide],
    log,
  })
  await expect(gone.counts()).rejects.toMatchObject({ code: 'database-unreachable' })
})

test('tasks wait for their instants: a delay, a retry, and work that was there before', async () => {
  const before = createIzta({ database, jobs: [divide], log })
  const { id } = await before.enqueue(divide, half.payload)
  const flaky = defineJob({
    id: 'flaky',
    backoff: { firstSeconds: 0.2, jitter: 'none' },
    run(_, { attempt }) {
      if (attempt === 1) throw new Error('once')
    },
  })
  await using stack = await start({ jobs: [divide, flaky] })
  expect(await stack.izta.wait(divide, id)).toMatchObject({ status: 'finished' })
  const delayed = await stack.izta.enqueue(divide, half.payload, { delaySeconds: 0.2 })
  expect(await next(stack.izta, 'task.finished')).toBe(delayed.id)
  const retried = await stack.izta.enqueue(flaky)
  expect(await next(stack.izta, 'task.finished')).toBe(retried.id)
  expect(await stack.izta.get(flaky, retried.id)).toMatchObject({ status: 'finished', attempt: 2 })
})

test('the scheduler ticks at once, and a slot starts at its instant, between two ticks', async () => {
  const own = await testDatabase()
  const clock = await createTestClock({ database: own.database, at: new Date('2030-01-01T00:59:30Z') })
  const seen: string[] = []
  const note = defineJob({
    id: 'note',
    payload: z.string(),
    run: (text) => void seen.push(`${text} ${clock.date.toISOString()}`),
  })
  const hourly = defineSchedule({ name: 'hourly', job: note, payload: 'slot', cron: '0 * * * *' })
  const isArmed = Promise.withResolvers<void>()
  const watched: Clock = {
    now: clock.now,
    after(ms, callback) {
      if (ms === 30_000) isArmed.resolve()
      return clock.after(ms, callback)
    },
  }
  await using stack = await start({ jobs: [note], schedules: [hourly], database: own.url, clock: watched })
  const finished = next(stack.izta, 'task.finished')
  await isArmed.promise
  await clock.advanceTo(new Date('2030-01-01T01:00:00Z'))
  await finished
  expect(seen).toEqual(['slot 2030-01-01T01:00:00.000Z'])
})

describe('runners', () => {
  /** A job whose handlers wait until `count` of them run at once. */
  function meeting(count: number) {
    const all = Promise.withResolvers<void>()
    let running = 0
    const seen = { most: 0 }
    const job = defineJob({
      id: 'meeting',
      async run() {
        seen.most = Math.max(seen.most, ++running)
        if (running === count) all.resolve()
        await all.promise
        running--
      },
    })
    return { job, seen }
  }

  test('as many invocations run at once as maxRunners says', async () => {
    const { job, seen } = meeting(2)
    await using stack = await start({ jobs: [job], runners: [{ concurrency: 1, maxRunners: 2 }] })
    const tasks = await stack.izta.enqueueMany(
      job,
      Array.from({ length: 6 }, () => undefined),
    )
    await Promise.all(tasks.map(({ id }) => stack.izta.wait(job, id)))
    expect(seen.most).toBe(2)
  })

  test('a wake that finds all busy leads to one more invocation', async () => {
    const { job, seen } = meeting(1)
    await using stack = await start({ jobs: [job], runners: [{ concurrency: 1, maxRunners: 1 }] })
    const tasks = await Promise.all([1, 2, 3].map(() => stack.izta.enqueue(job)))
    await Promise.all(tasks.map(({ id }) => stack.izta.wait(job, id)))
    expect(seen.most).toBe(1)
  })

  test('each works on its queues', async () => {
    await using stack = await start({ jobs: [divide], runners: [{ queues: ['a'] }, { queues: ['b', 'c'] }] })
    const tasks = await Promise.all(
      ['a', 'b', 'c'].map((queue) => stack.izta.enqueue(divide, half.payload, { queue })),
    )
    await Promise.all(tasks.map(({ id }) => stack.izta.wait(divide, id)))
    const other = await stack.izta.enqueue(divide, half.payload, { queue: 'd' })
    expect(await stack.izta.get(divide, other.id)).toMatchObject({ status: 'pending' })
    await stack.izta.cancel(other.id)
  })

  test('stop hands back what heeds its signal', async () => {
    const started = Promise.withResolvers<void>()
    const patient = defineJob({
      id: 'patient',
      run: (_, { signal }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason as Error))
          started.resolve()
        }),
    })
    const stack = await start({ jobs: [patient] })
    const { id } = await stack.izta.enqueue(patient)
    await started.promise
    await stack.stop()
    const izta = createIzta({ database, jobs: [patient], log })
    expect(await izta.get(patient, id)).toMatchObject({ status: 'pending', attempt: 0, losses: 0 })
    await izta.cancel(id)
  })

  test('stop waits the grace time for a handler that ignores its signal, and leaves it its lease', async () => {
    const own = await testDatabase()
    const clock = await createTestClock({ database: own.database })
    const started = Promise.withResolvers<void>()
    const deaf = Promise.withResolvers<void>()
    const ignores = defineJob({ id: 'ignores', run: () => (started.resolve(), deaf.promise) })
    const stack = await start({ jobs: [ignores], database: own.url, clock })
    const { id } = await stack.izta.enqueue(ignores)
    await started.promise
    const stopped = stack.stop().then(() => true)
    for (let ended = false; !ended;) {
      await clock.advance({ milliseconds: 100 })
      ended = await Promise.race([stopped, new Promise<false>((resolve) => setImmediate(resolve, false))])
    }
    const izta = createIzta({ database: own.database, jobs: [ignores], log })
    expect(await izta.get(ignores, id)).toMatchObject({ status: 'running' })
    deaf.resolve()
  })
})

describe('a runner in a process of its own', () => {
  const met = createServer()
  let reply = Promise.withResolvers<void>()
  let folder = ''
  afterAll(async () => {
    met.close()
    await rm(folder, { recursive: true, force: true })
  })

  test('runs its tasks, and what it held when it was killed runs again in the next', async () => {
    met.on('request', (_, response) => void reply.promise.then(() => response.end('go on')))
    met.listen(0, '127.0.0.1')
    await once(met, 'listening')
    const address = met.address()
    const meet = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}/`
    const source = (path: string) => new URL(`../../src/${path}`, import.meta.url).href
    folder = await mkdtemp(join(tmpdir(), 'izta-stack-test-'))
    const file = join(folder, 'runner.mts')
    await writeFile(
      file,
      `import { createRunnerHandler } from '${source('aws/lambda.ts')}'
       import { environment } from '${source('environment.ts')}'
       import { createIzta, defineJob } from '${source('index.ts')}'
       import { pgDatabase } from '${source('adapters/pg.ts')}'
       const visit = defineJob({ id: 'visit', async run(_, { losses }) {
         if (losses === 0) await (await fetch('${meet}')).text()
       } })
       const log = { debug() {}, info() {}, warn() {}, error() {} }
       const izta = createIzta({ database: pgDatabase(environment('DATABASE_URL')), jobs: [visit], log })
       export const handler = createRunnerHandler({ izta, queues: ['visits'] })`,
    )
    const visit = defineJob({ id: 'visit', queue: 'visits' })
    const runners = [{ entry: file, queues: ['visits'], maxRunners: 1 }]
    await using stack = await start({ jobs: [visit], runners, schedulerSeconds: 1 })
    expect(stack.runnerPids()).toEqual([])

    const lost = await stack.izta.enqueue(visit)
    await once(met, 'request')
    const [pid] = stack.runnerPids()
    process.kill(pid as number, 'SIGKILL')
    reply.resolve()
    expect(await stack.izta.get(visit, lost.id)).toMatchObject({ status: 'running' })
    // As if its lease were over.
    await pool.query('update izta.task set run_at = now() where id = $1', [lost.id])
    reply = Promise.withResolvers()
    reply.resolve()
    const other = await stack.izta.enqueue(visit)
    expect(await stack.izta.wait(visit, lost.id)).toMatchObject({ status: 'finished', losses: 1 })
    expect(await stack.izta.wait(visit, other.id)).toMatchObject({ status: 'finished', losses: 0 })
    expect(stack.runnerPids()).not.toEqual([pid])
    await stack.stop()
    expect(stack.runnerPids()).toEqual([])
  })
})

describe('the enqueue address', () => {
  test('answers as the enqueue function does', async () => {
    await using stack = await start({ jobs: [divide], runners: [] })
    const statusOf = async (path: string, init?: RequestInit) => (await fetch(stack.url + path, init)).status
    expect(await statusOf('')).toBe(405)
    expect(await statusOf('tasks', { method: 'POST' })).toBe(404)
    expect(await statusOf('', { method: 'POST', body: Buffer.from([0x22, 0xff, 0x22]) })).toBe(400)
    expect(await statusOf('?a=b', { method: 'POST', body: '{"tasks":[]}' })).toBe(202)
    const refused = await post(stack.url, { tasks: [{ job: 'nobody' }] })
    expect(await refused.json()).toMatchObject({
      error: { code: 'unknown-job', issues: [{ index: 0, path: 'job' }] },
    })
  })

  test('reads no more of a body than it takes', async () => {
    await using stack = await start({ jobs: [divide], runners: [] })
    const upload = request(stack.url, { method: 'POST' })
    upload.on('error', () => {})
    upload.write(Buffer.alloc(7 * 1024 * 1024, 'x'))
    const [response] = await once(upload, 'response')
    expect(response.statusCode).toBe(413)
    upload.destroy()
  })

  test('takes nothing from the page of another site', async () => {
    await using stack = await start({ jobs: [divide], runners: [] })
    const from = (origin: string) =>
      fetch(stack.url, { method: 'POST', headers: { origin }, body: '{"tasks":[]}' }).then(
        ({ status }) => status,
      )
    expect(await from('https://example.com')).toBe(403)
    expect(await from('null')).toBe(403)
    expect(await from(new URL(stack.url).origin)).toBe(202)
  })

  test('takes nothing by the name of another site that points here', async () => {
    await using stack = await start({ jobs: [divide], runners: [] })
    const { port } = new URL(stack.url)
    const to = async (host: string) => {
      const sending = request(stack.url, { method: 'POST', headers: { host } }).end('{"tasks":[]}')
      const [response] = await once(sending, 'response')
      response.resume()
      return response.statusCode as number
    }
    expect(await to(`rebound.example.com:${port}`)).toBe(403)
    expect(await to(`localhost:${port}`)).toBe(202)
  })
})

describe('what cannot work is said at once', () => {
  test('options out of their range', async () => {
    await expect(start({ jobs: [], port: 70_000 })).rejects.toThrow('option "port"')
    await expect(start({ jobs: [], runners: [{ maxRunners: 0 }] })).rejects.toThrow(
      'option "runners.0.maxRunners"',
    )
    await expect(start({ jobs: [], colour: 'red' } as never)).rejects.toThrow('unknown option "colour"')
    await expect(
      startLocalStack({ izta: createIzta({ database, jobs: [] }), jobs: [] } as never),
    ).rejects.toThrow('"jobs"')
  })

  test('a job that does not fit into a runner', async () => {
    const long = defineJob({ id: 'long', timeoutSeconds: 60, run: () => {} })
    await expect(start({ jobs: [long], runners: [{ timeoutSeconds: 30 }] })).rejects.toThrow(
      /"long" may run 60 s/,
    )
  })

  test('a port that is taken', async () => {
    await using stack = await start({ jobs: [], runners: [] })
    const port = Number(new URL(stack.url).port)
    await expect(start({ jobs: [], port })).rejects.toMatchObject({ code: 'port-taken' })
  })

  test('a process of its own without a connection string', async () => {
    const izta = createIzta({ database, jobs: [], log })
    await expect(startLocalStack({ izta, runners: [{ entry: 'runner.ts' }] })).rejects.toThrow(
      'connection string',
    )
  })
})
