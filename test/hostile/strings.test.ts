// SQL and other nasty text in every string that a caller may pass: it is refused or kept as it is, never executed.
import { createIzta, defineJob, defineSchedule, IztaError, startRunner, type Izta, type Tracing } from 'izta'
import { notifyWake } from 'izta/pg'
import { createTestClock, drain } from 'izta/testing'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
await pool.query('create table canary (n integer); insert into canary values (1)')
const clock = await createTestClock({ database })
const log = { debug() {}, info() {}, warn() {}, error() {} }

const attack = 'drop table canary; update izta.task set payload = null'
const nasty = [
  `'; ${attack}; --`,
  `"; ${attack}; --`,
  `$$; ${attack}; --`,
  `$m$; ${attack}; $m$`,
  `\\'; ${attack}; --`,
  `x'); ${attack}; --`,
  `"}'; ${attack}; --`,
  `{"a","b"}`,
  `{NULL}`,
  'NULL',
  `",NULL,"`,
  `\\","x`,
  '$1',
  '%s%1$I',
  'izta.task',
  '"izta"."task"',
  '*',
  '/* */',
  '--',
  'a\nb\r\tc',
  '\u2028\u202E\u{1F98A}',
  '\uFF07; drop table canary; --',
  '__proto__',
  'constructor',
  'x'.repeat(511),
  '\0',
  '\uD800',
  '',
]

const echo = defineJob({ id: 'echo', payload: z.any(), result: z.any(), run: (payload): unknown => payload })
const izta = createIzta({ database, jobs: [echo], log, clock })

/** Resolves to what came of it; fails for any error that tells of more than a value that is refused. */
async function refusedOr<T>(call: () => T | Promise<T>): Promise<T | 'refused'> {
  try {
    return await call()
  } catch (error) {
    if (!IztaError.is(error) || ('outcome' in error && error.code !== 'data-refused')) throw error
    return 'refused'
  }
}

async function expectUnharmed(): Promise<void> {
  const { rows } = await pool.query('select n from canary')
  expect(rows).toEqual([{ n: 1 }])
}

test.for(nasty)('a payload, a result and a key are kept as they are: %j', async (text) => {
  const sent = { [text]: text, list: [text] }
  const { id } = await izta.enqueue(echo, sent)
  const keyed = await refusedOr(() => izta.enqueue(echo, 1, { key: text }))
  if (keyed !== 'refused') {
    expect(await izta.get(echo, keyed.id)).toMatchObject({ key: text })
    expect(await izta.enqueue(echo, 2, { key: text })).toMatchObject({ id: keyed.id, created: false })
  }
  await drain(izta)
  expect(await izta.get(echo, id)).toMatchObject({ status: 'finished', payload: sent, result: sent })
  await expectUnharmed()
})

test.for(nasty)('what a handler throws and logs is kept as it is: %j', async (text) => {
  const failing = defineJob({ id: 'failing', run: () => Promise.reject(new Error(text)), maxAttempts: 1 })
  const own = createIzta({ database, jobs: [failing], log, clock })
  const { id } = await own.enqueue(failing)
  await drain(own)
  const task = await own.get(failing, id)
  expect(task).toMatchObject({ status: 'failed', errors: [{ message: text }] })
  await expectUnharmed()
})

const untraced: Tracing = {
  enqueue: (_, send) => send(undefined),
  current: () => undefined,
  run: (_, run) => run(undefined),
}

/** Each takes a name that has a rule, or that names nothing. */
const calls: Record<string, (own: Izta, text: string) => unknown> = {
  'id of a task': (own, text) => own.enqueue(echo, 1, { id: text }),
  'queue of a task': (own, text) => own.enqueue(echo, 1, { queue: text }),
  'keyUntil of a task': (own, text) => own.enqueue(echo, 1, { key: 'k', keyUntil: text as 'started' }),
  'id to get': (own, text) => own.get(echo, text),
  'id to wait for': (own, text) => own.wait(echo, text, { timeoutSeconds: 0 }),
  'id to cancel': (own, text) => own.cancel(text),
  'id to retry': (own, text) => own.retry(text),
  'queue to wake': (own, text) => own.wake(text),
  'queue to pause': (own, text) => own.queues.pause(text),
  'queue to resume': (own, text) => own.queues.resume(text),
  'queue to list': (own, text) => own.listPage({ queue: text }),
  'job to list': (own, text) => own.listPage({ job: text }),
  'status to list': (own, text) => own.listPage({ status: text as 'failed' }),
  'cursor of a list': (own, text) => own.listPage({ cursor: text }),
  'schedule to pause': (own, text) => own.schedules.pause(text),
  'schedule to resume': (own, text) => own.schedules.resume(text),
  'schedule to trigger': (own, text) => own.schedules.trigger(text),
  'schedule to remove': (own, text) => own.schedules.remove(text),
  'app of a schedule to remove': (own, text) => own.schedules.remove('none', { app: text }),
  'schedule to preview': (own, text) => own.schedules.preview(text, 1),
  'name of a schedule': (own, text) =>
    own.schedules.put(defineSchedule({ name: text, job: echo, payload: 1, every: { hours: 1 } })),
  'cron of a schedule': (own, text) =>
    own.schedules.put(defineSchedule({ name: 'cron', job: echo, payload: 1, cron: text })),
  'time zone of a schedule': (own, text) =>
    own.schedules.put(
      defineSchedule({ name: 'zone', job: echo, payload: 1, cron: '0 0 * * *', timeZone: text }),
    ),
  'payload of a schedule': (own, text) =>
    own.schedules.put(defineSchedule({ name: 'payload', job: echo, payload: text, every: { hours: 1 } })),
  'queue of a schedule': (own, text) =>
    own.schedules.put(
      defineSchedule({ name: 'queue', job: echo, payload: 1, every: { hours: 1 }, queue: text }),
    ),
  'missed of a schedule': (own, text) =>
    own.schedules.put(
      defineSchedule({ name: 'missed', job: echo, payload: 1, every: { hours: 1 }, missed: text as 'all' }),
    ),
  'overlap of a schedule': (own, text) =>
    own.schedules.put(
      defineSchedule({
        name: 'overlap',
        job: echo,
        payload: 1,
        every: { hours: 1 },
        overlap: text as 'skip',
      }),
    ),
  'trace of a task': (_, text) => {
    const tracing: Tracing = { ...untraced, enqueue: (_tasks, send) => send(text) }
    return createIzta({ database, jobs: [echo], log, clock, tracing }).enqueue(echo, 1)
  },
  'queue to notify of': (_, text) => notifyWake({ database }).wake(text, 0),
  'queue of a runner': (own, text) => startRunner(own, { queues: [text] }).stop(),
  'name of a job': (_, text) =>
    createIzta({ database, jobs: [defineJob({ id: 'j', name: text, run() {} })], log }).counts(),
  'id of a job': (_, text) =>
    createIzta({ database, jobs: [defineJob({ id: text, run() {} })], log }).counts(),
  'queue of a job': (_, text) =>
    createIzta({ database, jobs: [defineJob({ id: 'j', queue: text, run() {} })], log }).counts(),
  'app of an instance': (_, text) =>
    createIzta({ database, jobs: [], schedules: [], app: text, log }).counts(),
  'queue to drain': (own, text) => drain(own, { queues: [text] }),
}

test.for(Object.keys(calls))('%s: taken as a value or refused', async (name) => {
  for (const text of nasty) {
    await refusedOr(() => calls[name]?.(izta, text))
    await expectUnharmed()
  }
})

test.for(nasty)('the name of a schema: %j', async (text) => {
  const made = await refusedOr(() => createIzta({ database, jobs: [], schema: text, log }))
  if (made !== 'refused') await expect(made.counts()).rejects.toMatchObject({ code: 'not-migrated' })
  await expectUnharmed()
})

test('a schema whose name is a word of SQL works', async () => {
  const own = createIzta({ database, jobs: [echo], schema: 'Select', log })
  await own.migrate()
  const { id } = await own.enqueue(echo, 1)
  await drain(own)
  expect(await own.get(echo, id)).toMatchObject({ status: 'finished' })
})

test('nothing that was stored here has another name than it was given', async () => {
  const { rows } = await pool.query(`select name from izta.queue union all select name from izta.schedule`)
  for (const { name } of rows) expect(name).toMatch(/^[A-Za-z0-9._:-]{1,100}$/)
})
