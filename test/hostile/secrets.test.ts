// Passwords, payloads, keys and results stand in no error of the database and in no log line.
import { createIzta, defineJob, IztaError, type Tracing } from 'izta'
import { neonDatabase } from 'izta/neon'
import { neonSocketDatabase } from 'izta/neon-socket'
import { pgDatabase } from 'izta/pg'
import { drain } from 'izta/testing'
import { inspect } from 'node:util'
import { beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { neonEndpoint } from '../support/neon-endpoint.ts'

const { database, pool, url, name } = await testDatabase()
// As some are operated: errors come with every parameter in their context.
await pool.query(`alter database ${name} set log_parameter_max_length_on_error = -1`)
const endpoint = await neonEndpoint(url)

const secret = 'hunter2'
const payload = { card: `4111 ${secret}` }
const lines: unknown[] = []
const note = (message: string, facts?: object) => void lines.push(message, facts)
const log = { debug: note, info: note, warn: note, error: note }
const shown = (value: unknown) => inspect(value, { depth: 12, showHidden: true })

const job = defineJob({ id: 'job', payload: z.unknown(), run: () => {} })

beforeEach(() => {
  lines.length = 0
})

/** Ways in which a database can refuse a row, each of which quotes it. */
const refusals: Record<string, { set: string; unset: string }> = {
  'a check constraint': {
    set: `alter table izta.task add constraint task_small check (length(payload::text) < 5) not valid`,
    unset: 'alter table izta.task drop constraint task_small',
  },
  'a trigger that casts': {
    set: `create function public.cast_it() returns trigger language plpgsql as
        'begin perform (new.payload->>''card'')::bigint; return new; end';
      create trigger cast_it before insert on izta.task for each row execute function public.cast_it()`,
    unset: 'drop function public.cast_it() cascade',
  },
  'a trigger that reads JSON': {
    set: `create function public.read_it() returns trigger language plpgsql as
        'begin perform (new.payload::text || ''}'')::json; return new; end';
      create trigger read_it before insert on izta.task for each row execute function public.read_it()`,
    unset: 'drop function public.read_it() cascade',
  },
  'a trigger with a statement of its own': {
    set: `create function public.run_it() returns trigger language plpgsql as
        'begin execute format(''select %L::uuid'', new.payload->>''card''); return new; end';
      create trigger run_it before insert on izta.task for each row execute function public.run_it()`,
    unset: 'drop function public.run_it() cascade',
  },
  'a trigger that gives details': {
    set: `create function public.tell_it() returns trigger language plpgsql as
        'begin raise exception ''no'' using detail = new.payload::text, table = ''task''; end';
      create trigger tell_it before insert on izta.task for each row execute function public.tell_it()`,
    unset: 'drop function public.tell_it() cascade',
  },
  'a query that is too long': {
    set: `create function public.sleep_it() returns trigger language plpgsql as
        'begin perform pg_cancel_backend(pg_backend_pid()); perform pg_sleep(0.01); return new; end';
      create trigger sleep_it before insert on izta.task for each row execute function public.sleep_it()`,
    unset: 'drop function public.sleep_it() cascade',
  },
}

const adapters = [
  ['pg', () => pgDatabase(url)],
  ['neon', () => neonDatabase(endpoint.url)],
] as const

describe.for(adapters)('by %s', ([, open]) => {
  test.for(Object.keys(refusals))('%s: the error says where, and quotes nothing', async (what) => {
    const { set, unset } = refusals[what] ?? { set: '', unset: '' }
    await pool.query(set)
    // No pauses: a cancelled statement is sent again.
    const clock = {
      now: () => 0,
      after: (_: number, callback: () => void) => (queueMicrotask(callback), () => {}),
    }
    const izta = createIzta({ database: open(), jobs: [job], log, clock })
    const error = await izta
      .enqueue(job, payload, { key: `key-${secret}` })
      .catch((thrown: unknown) => thrown)
    await izta.close()
    await pool.query(unset)
    await pool.query('truncate izta.task')
    expect(IztaError.is(error) && error.message).toMatch(/^The database at /)
    expect(shown(error)).not.toContain(secret)
    expect(shown(lines)).not.toContain(secret)
  })
})

test('the context keeps the function and the line', async () => {
  const { set, unset } = refusals['a trigger that casts'] ?? { set: '', unset: '' }
  await pool.query(set)
  const izta = createIzta({ database, jobs: [job], log })
  const error = await izta.enqueue(job, payload).catch((thrown: unknown) => thrown)
  await pool.query(unset)
  expect(shown(error)).toContain('PL/pgSQL function public.cast_it() line 1')
  expect((error as Error).message).toContain('invalid input syntax for type bigint: "***"')
})

test('a life of tasks that fail in every way logs no payload, result, declared error, and no message if so asked', async () => {
  const strict = z.object({ card: z.number() })
  const jobs = [
    defineJob({
      id: 'throws',
      payload: z.unknown(),
      maxAttempts: 1,
      run: (given) => Promise.reject(new Error(JSON.stringify(given))),
    }),
    defineJob({
      id: 'declares',
      payload: z.unknown(),
      error: z.unknown(),
      maxAttempts: 1,
      run: (given, ctx) => ctx.fail(given as string),
    }),
    defineJob({
      id: 'answers',
      payload: z.unknown(),
      result: strict,
      maxAttempts: 1,
      run: (given) => given as never,
    }),
    defineJob({
      id: 'throws-text',
      payload: z.unknown(),
      maxAttempts: 1,
      run: (given) => Promise.reject(given),
    }),
    defineJob({
      id: 'declares-wrong',
      payload: z.unknown(),
      error: strict,
      maxAttempts: 1,
      run: (given, ctx) => ctx.fail(given as never),
    }),
  ]
  const izta = createIzta({ database, jobs, log, logMessages: false })
  for (const each of jobs) await izta.enqueue(each, payload)
  const stored = defineJob({ id: 'stored', payload: z.unknown(), run: () => {} })
  await createIzta({ database, jobs: [stored], log }).enqueue(stored, payload)
  const today = defineJob({ id: 'stored', payload: strict, run: () => {} })
  const summary = await drain(createIzta({ database, jobs: [...jobs, today], log, logMessages: false }))
  expect(summary.failed).toBe(6)
  expect(lines.length).toBeGreaterThan(5)
  expect(shown(lines)).not.toContain(secret)
})

test('what redact takes out is in no log line and no span, and what is stored keeps it', async () => {
  const spans: unknown[] = []
  const tracing: Tracing = {
    enqueue: (_, send) => send(undefined),
    current: () => undefined,
    async run(_, run, tell) {
      const ended = await run(undefined)
      spans.push(tell(ended))
      return ended
    },
  }
  const cycle: Record<string, unknown> = { card: secret }
  cycle['itself'] = cycle
  const leaky = defineJob({
    id: 'leaky',
    maxAttempts: 1,
    run(_, ctx) {
      ctx.log.info(`paid with ${secret}`, { list: [{ [`of ${name}`]: secret }], at: new Date(0), cycle })
      ctx.log.warn('next', { error: new Error(secret), count: 1 })
      throw new Error(`no card like ${secret}`)
    },
  })
  const redact = (text: string) => text.replaceAll(secret, '(card)')
  const izta = createIzta({ database, jobs: [leaky], log, tracing, redact })
  const { id } = await izta.enqueue(leaky)
  await drain(izta)
  expect(shown(lines)).not.toContain(secret)
  expect(shown(spans)).not.toContain(secret)
  expect(lines).toContain('paid with (card)')
  expect(lines).toContainEqual(expect.objectContaining({ error: 'no card like (card)' }))
  expect(lines).toContainEqual(
    expect.objectContaining({ list: [{ [`of ${name}`]: '(card)' }], at: new Date(0) }),
  )
  expect(spans).toMatchObject([{ failure: { code: 'thrown', message: 'no card like (card)' } }])
  expect(await izta.get(leaky, id)).toMatchObject({ errors: [{ message: `no card like ${secret}` }] })
})

test('a text whose redact throws is left out, and the task goes on', async () => {
  const chatty = defineJob({ id: 'chatty', run: (_, ctx) => ctx.log.info(secret, { secret }) })
  const redact = () => {
    throw new Error('no')
  }
  const izta = createIzta({ database, jobs: [chatty], log, redact })
  await izta.enqueue(chatty)
  expect(await drain(izta)).toMatchObject({ finished: 1 })
  expect(shown(lines)).not.toContain(secret)
  expect(lines).toContain('(left out: redact threw)')
})

/** Ways to write a connection string, wrong ones included, that drivers quote. */
const strings = [
  `postgres://user:${secret}@127.0.0.1:2/db`,
  `postgresql://user:${secret}@[::1]:2/db`,
  `postgres://user:${secret}@host with spaces/db`,
  `postgres://user:${secret}@127.0.0.1:99999/db`,
  `postgres://user:p/${secret}@127.0.0.1:2/db`,
  `postgres://user:p#${secret}@127.0.0.1:2/db`,
  `postgres://user:p?${secret}@127.0.0.1:2/db`,
  `postgres://user:%zz${secret}@127.0.0.1:2/db`,
  `postgres://127.0.0.1:2/db?user=u&password=${secret}`,
  `user=u password=${secret} host=127.0.0.1`,
  `mysql://user:${secret}@127.0.0.1:2/db`,
  secret,
]

test.for(strings)('a password is in no error and no log line: %j', async (string) => {
  for (const open of [pgDatabase, neonDatabase, neonSocketDatabase]) {
    let error: unknown
    try {
      const izta = createIzta({
        database: open(string),
        jobs: [job],
        log,
        clock: { now: () => 0, after: (_, callback) => (queueMicrotask(callback), () => {}) },
      })
      error = await izta.counts().catch((thrown: unknown) => thrown)
      await izta.close()
    } catch (thrown) {
      error = thrown
    }
    expect(IztaError.is(error)).toBe(true)
    expect(shown(error)).not.toContain(secret)
    expect(shown(lines)).not.toContain(secret)
  }
})
