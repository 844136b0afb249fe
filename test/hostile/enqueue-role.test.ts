// A user who may only enqueue and is hostile: nothing that it sends harms the tasks of others.
import { randomUUID } from 'node:crypto'
import { createIzta, defineJob } from 'izta'
import { drain } from 'izta/testing'
import { Client, type Client as Connection } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { migrate } from '../../src/db/migrate.ts'
import { inSchema } from '../../src/db/database.ts'
import { configOf } from '../../src/config.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { nextAlarmStatement, readNextAlarm } from '../../src/store/due.ts'
import { testDatabase } from '../support/database.ts'

const schema = `izta_${randomUUID().slice(0, 8)}`
const { database, pool, url } = await testDatabase({ migrated: false })
await migrate(database, { schema, roles: true })
const user = `${schema}_hostile`
await pool.query(`create role ${user} login password 'secret' in role ${schema}_enqueue`)

const job = defineJob({ id: 'job', payload: z.any(), run: () => {} })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const izta = createIzta({ database, schema, jobs: [job], log })

let hostile: Connection
beforeAll(async () => {
  hostile = new Client(Object.assign(new URL(url), { username: user, password: 'secret' }).href)
  await hostile.connect()
})
beforeEach(() => pool.query(`truncate ${schema}.task, ${schema}.history, ${schema}.queue`))
afterAll(async () => {
  await hostile.end()
  const roles = [user, ...['enqueue', 'run', 'read'].map((work) => `${schema}_${work}`)].join(', ')
  await pool.query(`drop owned by ${roles}; drop role ${roles}`)
})

interface Sent {
  id?: string
  queue?: string | null
  job?: string | null
  payload?: string | null
  priority?: number | null
  maxAttempts?: number | null
  delayMs?: string | null
  runAt?: string
  key?: string
  trace?: string
  schedule?: string
  slot?: string
  parent?: string
  skipOverlap?: boolean
  keyUntil?: string
}

/** The ways in: the function for one task, and that for several with the value in the task and in what all share. */
const ways: Record<string, (task: Sent) => Promise<unknown>> = {
  'one task': (task) => {
    const {
      id,
      queue,
      job: name,
      payload,
      priority,
      maxAttempts,
      delayMs,
      runAt,
      key,
      keyUntil,
      trace,
    } = full(task)
    return hostile.query(
      `select ${schema}.enqueue_task_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as reply`,
      [id, queue, name, payload, priority, maxAttempts, delayMs, runAt, key, keyUntil, trace],
    )
  },
  'several tasks': (task) =>
    hostile.query(
      `select ${schema}.enqueue_1($1, 'default', 'job', 5::smallint, 3::smallint, 0, true, true)`,
      [JSON.stringify([{ id: randomUUID(), payload: '1' }, full(task)])],
    ),
  'several tasks with common values': (task) => {
    const { queue, job: name, priority, maxAttempts, delayMs, ...rest } = full(task)
    return hostile.query(`select ${schema}.enqueue_1($1, $2, $3, $4, $5, $6, false, true)`, [
      JSON.stringify([rest]),
      queue,
      name,
      priority,
      maxAttempts,
      delayMs,
    ])
  },
}
const full = (task: Sent): Sent => ({
  id: randomUUID(),
  queue: 'default',
  job: 'job',
  payload: '1',
  priority: 5,
  maxAttempts: 3,
  delayMs: '0',
  ...task,
})

/** A task of another user is enqueued, runs and is listed, and the next alarm can be told. */
async function expectOthersToBeWell(): Promise<void> {
  const { id } = await izta.enqueue(job, 1)
  await drain(izta)
  expect(await izta.get(job, id)).toMatchObject({ status: 'finished' })
  expect((await izta.listPage()).tasks.map((task) => task.id)).toContain(id)
  await tick(configOf(izta))
  expect(readNextAlarm(await inSchema(database, schema).query(nextAlarmStatement)).now).toBeInstanceOf(Date)
}

const refused: [string, Sent][] = [
  ['due at -infinity', { runAt: '-infinity' }],
  ['due at infinity', { runAt: 'infinity' }],
  ['due in the year 294276', { runAt: '294276-12-31' }],
  ['due in 4713 BC', { runAt: '4713-01-01 BC' }],
  ['due before 1970', { runAt: '1969-12-31T23:59:59Z' }],
  ['due in the year 10000', { runAt: '10000-01-01T00:00:00Z' }],
  ['the longest delay', { delayMs: '9223372036854775807' }],
  ['the most negative delay', { delayMs: '-9223372036854775808' }],
  ['no attempts', { maxAttempts: 0 }],
  ['negative attempts', { maxAttempts: -32_768 }],
  ['a negative priority', { priority: -1 }],
  ['priority 10', { priority: 10 }],
  ['an empty queue', { queue: '' }],
  ['a queue with a line break and quotes', { queue: `a"b'\n{},` }],
  ['a queue that ends with a line break', { queue: 'default\n' }],
  ['a queue of 101 letters', { queue: 'x'.repeat(101) }],
  ['a job of a megabyte', { job: 'x'.repeat(1_000_000) }],
  ['an empty job', { job: '' }],
  ['a job of letters that look alike', { job: 'jоb' }],
  ['a payload that is no JSON', { payload: '{' }],
  ['a payload of a byte more than 64 MiB', { payload: `"${'x'.repeat(64 * 1024 ** 2 - 1)}"` }],
  ['an empty key', { key: '', keyUntil: 'finished' }],
  ['a key of 513 bytes', { key: 'x'.repeat(513), keyUntil: 'finished' }],
  ['a trace of 513 bytes', { trace: 'x'.repeat(513) }],
  ['a time for a key without a key', { keyUntil: 'finished' }],
  ['a key without a time', { key: 'key' }],
  ['a key until an unknown time', { key: 'key', keyUntil: 'ever' }],
]

describe.for(Object.entries(ways))('%s', ([, send]) => {
  test.for(refused)('%s is refused', async ([, task]) => {
    await expect(send(task)).rejects.toMatchObject({ code: expect.stringMatching(/^22/) })
    const { rows } = await pool.query(`select id from ${schema}.task`)
    expect(rows).toEqual([])
  })

  test('what is refused leaves the tasks of others alone', async () => {
    for (const [, task] of refused.filter(([name]) => !name.includes('MiB'))) {
      await expect(send(task)).rejects.toMatchObject({ code: expect.stringMatching(/^22/) })
    }
    await expectOthersToBeWell()
  })

  test('JSON that is nested a million levels deep is refused', async () => {
    await expect(send({ payload: '['.repeat(1e6) + ']'.repeat(1e6) })).rejects.toMatchObject({
      code: '54001',
    })
    await expectOthersToBeWell()
  })

  test('an instant at either end of the range runs or waits without harm', async () => {
    await send({ runAt: '1970-01-01T00:00:00Z' })
    await send({ runAt: '9999-12-31T23:59:59Z' })
    await expectOthersToBeWell()
    const { rows } = await pool.query(`select queue from ${schema}.task`)
    expect(rows).toHaveLength(1)
  })

  test('the id of a task that has ended gets no second life', async () => {
    const { id } = await izta.enqueue(job, 1)
    await drain(izta)
    await send({ id, payload: '2' })
    const { finished } = await drain(izta)
    expect(await izta.get(job, id)).toMatchObject({ status: 'finished', payload: 1 })
    const { rows } = await pool.query(`select count(*)::int as lives from ${schema}.history where id = $1`, [
      id,
    ])
    expect(rows).toEqual([{ lives: 1 }])
    // The one of several that is not a repeat.
    expect(finished).toBeLessThanOrEqual(1)
  })

  test('an id that another task has changes nothing of that task', async () => {
    const { id } = await izta.enqueue(job, 1, { delaySeconds: 60 })
    await send({ id, payload: '2', queue: 'other' })
    expect(await izta.get(job, id)).toMatchObject({ status: 'pending', payload: 1, queue: 'default' })
  })
})

test.for([
  { schedule: 'hourly' },
  { schedule: 'x'.repeat(100_000) },
  { slot: '2030-01-01T00:00:00Z' },
  { parent: randomUUID() },
  { skipOverlap: true },
] satisfies Sent[])('a task that says of itself what only izta may say is refused: %#', async (task) => {
  for (const way of ['several tasks', 'several tasks with common values']) {
    await expect(ways[way]?.(task), way).rejects.toMatchObject({ code: '22023' })
  }
})

test.for([
  { queue: null },
  { job: null },
  { payload: null },
  { priority: null },
  { maxAttempts: null },
  { delayMs: null },
] satisfies Sent[])('a task without what it needs is refused: %j', async (task) => {
  for (const way of ['one task', 'several tasks with common values']) {
    await expect(ways[way]?.(task), way).rejects.toMatchObject({ code: expect.stringMatching(/^2[23]/) })
  }
  await expectOthersToBeWell()
})

test.for([
  `insert into izta.task (id) values (gen_random_uuid())`,
  `update izta.task set priority = 0`,
  `delete from izta.task`,
  `select id from izta.task`,
  `select key from izta.task`,
  `select payload from izta.task`,
  `select result from izta.history`,
  `select id from izta.task for update`,
  `select name from izta.queue`,
  `select name from izta.queue for update`,
  `select name from izta.queue for key share`,
  `insert into izta.queue (name) select 'flood-' || n from generate_series(1, 200000) n`,
  `insert into izta.queue (name, paused) values ('x', true)`,
  `update izta.queue set woken_at = 'infinity'`,
  `update izta.queue set paused = true`,
  `delete from izta.queue`,
  `select * from izta.wake`,
  `update izta.wake set armed_at = 'infinity'`,
  `do $do$ begin lock table izta.queue in access exclusive mode; end $do$`,
  `do $do$ begin lock table izta.task in row exclusive mode; end $do$`,
  `truncate izta.task`,
  `insert into izta.migration values (99, 'x', 'x', true)`,
  `select id from izta.migration for update`,
  `select * from izta.turn_1(${Array.from({ length: 20 }, () => 'null').join(', ')})`,
  `select izta.insert_tasks_1(null, null, null, null, null, null, null, null, true)`,
  `select izta.unmake_ended_1('{}')`,
  `select izta.cancel_tasks_1('{}', '{}', '{}', 0)`,
  `select izta.retry_task_1(gen_random_uuid(), true)`,
  `select izta.prune_1(1)`,
  `select izta.pause_queue_1('default', true)`,
  `select izta.register_queues_1('{flood}')`,
  `select izta.wake_queues_1('{flood}', '{}', false)`,
  `select izta.record_alarm_1(izta.now())`,
  `select * from izta.tick_queues_1(0)`,
  `create or replace function izta.now() returns timestamptz language sql as 'select null::timestamptz'`,
  `create table izta.mine ()`,
  `create trigger mine before insert on izta.task for each row execute function suppress_redundant_updates_trigger()`,
  `set role izta_run`,
])('it may not %s', async (statement) => {
  await expect(hostile.query(statement.replaceAll('izta', schema))).rejects.toMatchObject({ code: '42501' })
})

test('a transaction that stays open holds up no enqueue and no runner, whether the queue had a row or not', async () => {
  await hostile.query('begin')
  await hostile.query(`select ${schema}.wake_queue_1('default')`)
  await ways['several tasks']?.({ queue: 'mail' })
  await izta.enqueue(job, 1, { queue: 'mail', delaySeconds: 3600 })
  await expectOthersToBeWell()
  await createIzta({
    database,
    schema,
    jobs: [defineJob({ id: 'mail', queue: 'mail', run: () => {} })],
    log,
  }).migrate()
  await hostile.query('rollback')
  expect((await izta.queues.list()).map(({ name }) => name)).not.toContain('mail')

  await izta.enqueue(job, 1)
  await hostile.query('begin')
  await hostile.query(`select ${schema}.wake_queue_1('default')`)
  await expectOthersToBeWell()
  await hostile.query('rollback')
})

test('the advisory locks of the schema, which any user may take, fail no claim', async () => {
  await hostile.query('begin')
  await hostile.query(
    `select pg_advisory_xact_lock(c.oid::bigint * 16 + n), pg_advisory_xact_lock(c.oid::bigint * 8 + n)
    from pg_class c, generate_series(0, 15) n
    where c.relnamespace = $1::regnamespace and c.relname in ('task', 'queue')`,
    [schema],
  )
  await expectOthersToBeWell()
  await hostile.query('rollback')
})

test('tasks in five thousand queues leave room for the locks of others', async () => {
  await hostile.query('begin')
  await hostile.query(
    `select ${schema}.enqueue_1($1, null, 'job', 5::smallint, 3::smallint, 0, false, true)`,
    [
      JSON.stringify(
        Array.from({ length: 5000 }, (_, n) => ({ id: randomUUID(), payload: '1', queue: `flood-${n}` })),
      ),
    ],
  )
  const { rows } = await pool.query<{ locks: number }>(
    `select count(*)::int as locks from pg_locks where locktype = 'advisory'`,
  )
  await expectOthersToBeWell()
  await hostile.query('rollback')
  expect(rows[0]?.locks).toBeLessThanOrEqual(64)
})
