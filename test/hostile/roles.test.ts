// The roles of `izta migrate --roles`: each can do all its work, and nothing else.
import { randomUUID } from 'node:crypto'
import { createIzta, defineJob, defineSchedule, IztaError, type IztaOptions } from 'izta'
import { pgDatabase } from 'izta/pg'
import { createTestClock, drain } from 'izta/testing'
import { Client } from 'pg'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import * as z from 'zod'
import { runMigrate } from '../../src/cli/migrate.ts'
import { configOf } from '../../src/config.ts'
import { migrate } from '../../src/db/migrate.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { testDatabase } from '../support/database.ts'

// Roles belong to the server, so those of this file have names of their own.
const schema = `izta_${randomUUID().slice(0, 8)}`
const { database, pool, url } = await testDatabase({ migrated: false })
const strict = await testDatabase({ migrated: false, isolation: 'repeatable read' })
for (const { database: each } of [{ database }, strict]) await migrate(each, { schema, roles: true })
const clock = await createTestClock({ database, schema })

const works = ['enqueue', 'run', 'read'] as const
type Work = (typeof works)[number]
const password = randomUUID()
const member = (work: Work | 'none') => `${schema}_member_${work}`
for (const work of works) {
  await pool.query(`create role ${member(work)} login password '${password}' in role ${schema}_${work}`)
}
await pool.query(`create role ${member('none')} login password '${password}'`)
await pool.query(
  `grant select on ${schema}.test_clock to ${works.map((work) => `${schema}_${work}`).join(', ')}`,
)

afterAll(async () => {
  const roles = [...works.map((work) => `${schema}_${work}`), ...[...works, 'none' as const].map(member)]
  for (const each of [pool, strict.pool]) await each.query(`drop owned by ${roles.join(', ')}`)
  await pool.query(`drop role ${roles.join(', ')}`)
})

function urlOf(work: Work | 'none', at = url): string {
  const own = new URL(at)
  own.username = member(work)
  own.password = password
  return own.href
}

const child = defineJob({ id: 'child', payload: z.number(), result: z.number(), run: (n) => n * 2 })
const parent = defineJob({
  id: 'parent',
  payload: z.number(),
  run(n, ctx) {
    if (n < 0) throw new Error('negative')
    for (let i = 0; i < n; i++) ctx.enqueue(child, i, { id: randomUUID() })
  },
})
const hourly = defineSchedule({ name: 'hourly', job: child, payload: 1, every: { hours: 1 } })
const log = { debug() {}, info() {}, warn() {}, error() {} }

async function as(work: Work | 'none', options: Partial<IztaOptions> = {}, at?: string) {
  const izta = createIzta({
    database: pgDatabase(urlOf(work, at)),
    schema,
    jobs: [parent, child],
    log,
    clock,
    ...options,
  })
  onTestFinished(() => izta.close())
  return izta
}

const refusal = { name: 'DatabaseAccessError', code: 'database-access', sqlState: '42501', retryable: false }

describe('enqueue', () => {
  test('makes tasks in every way, learns the holder of a key, and wakes', async () => {
    const izta = await as('enqueue')
    const { id, created } = await izta.enqueue(parent, 1, { key: 'one', delaySeconds: 5 })
    expect(created).toBe(true)
    expect(await izta.enqueue(parent, 2, { key: 'one' })).toEqual({ id, created: false, status: 'pending' })
    expect(await izta.enqueue(child, 3, { id, queue: 'new-queue' })).toMatchObject({ id, created: false })
    expect(await izta.enqueueMany(child, [1, 2, 3])).toHaveLength(3)
    await izta.wake('default')
    await izta.wake('never-used')
  })

  test('inside a transaction of the application as well', async () => {
    const izta = await as('enqueue')
    const { text, values, id } = izta.enqueueStatement(child, 4)
    const client = new Client(urlOf('enqueue'))
    await client.connect()
    await client.query('begin')
    await client.query(text, [...values])
    await client.query('commit')
    await client.end()
    expect(await (await as('read')).get(child, id)).toMatchObject({ status: 'pending' })
  })

  test('also where transactions are repeatable read', async () => {
    const izta = await as('enqueue', {}, strict.url)
    expect(await izta.enqueueMany(child, [1, 2])).toHaveLength(2)
  })

  test('reads no task, no result, no count', async () => {
    const { id } = await (await as('run')).enqueue(child, 1)
    const izta = await as('enqueue')
    await expect(izta.get(child, id)).rejects.toMatchObject(refusal)
    await expect(izta.wait(child, id)).rejects.toMatchObject(refusal)
    await expect(izta.listPage()).rejects.toMatchObject(refusal)
    await expect(izta.counts()).rejects.toMatchObject(refusal)
  })

  test('changes, runs and schedules nothing', async () => {
    const { id } = await (await as('run')).enqueue(child, 1)
    const izta = await as('enqueue')
    await expect(izta.cancel(id)).rejects.toMatchObject(refusal)
    await expect(izta.retry(id)).rejects.toMatchObject(refusal)
    await expect(izta.queues.pause('default')).rejects.toMatchObject(refusal)
    await expect(izta.schedules.put(hourly)).rejects.toMatchObject(refusal)
    await expect(izta.schedules.list()).rejects.toMatchObject(refusal)
    await expect(izta.schedules.trigger('hourly')).rejects.toMatchObject(refusal)
    await expect(drain(izta)).rejects.toMatchObject(refusal)
  })
})

describe('run', () => {
  test('runs a task with its children, retries, cancels, prunes, and everything about queues', async () => {
    const izta = await as('run', { jobs: [parent, child] })
    const { id } = await izta.enqueue(parent, 2)
    const { id: bad } = await izta.enqueue(parent, -1, { maxAttempts: 1 })
    const { id: late } = await izta.enqueue(child, 1, { delaySeconds: 60 })
    await drain(izta)
    expect(await izta.get(parent, id)).toMatchObject({ status: 'finished' })
    expect(await izta.get(parent, bad)).toMatchObject({ status: 'failed' })
    expect(await izta.cancel(late)).toBeDefined()
    await izta.retry(bad)
    await izta.queues.pause('default')
    await izta.queues.resume('default')
    expect((await izta.queues.list()).map(({ name }) => name)).toContain('default')
    await clock.advance({ days: 365 })
    await tick(configOf(izta))
    expect(await izta.get(parent, id)).toBeUndefined()
  })

  test('syncs schedules, makes their slots into tasks, and runs those', async () => {
    const izta = await as('run', { schedules: [hourly] })
    await tick(configOf(izta))
    await clock.advance({ hours: 1 })
    await tick(configOf(izta))
    await drain(izta)
    const { tasks } = await izta.listPage({ status: 'finished', job: child })
    expect(tasks.map((task) => task.schedule)).toContain('hourly')
    await izta.schedules.pause('hourly')
    await izta.schedules.resume('hourly')
    await izta.schedules.trigger('hourly')
    await izta.schedules.put(defineSchedule({ name: 'own', job: child, payload: 1, every: { hours: 2 } }))
    await izta.schedules.remove('own')
    expect((await izta.schedules.list()).map(({ name }) => name)).toEqual(['hourly'])
  })

  test('also where transactions are repeatable read', async () => {
    const izta = await as('run', { clock: undefined, schedules: [hourly] }, strict.url)
    const { id } = await izta.enqueue(parent, 1)
    await drain(izta)
    await tick(configOf(izta))
    expect(await izta.get(parent, id)).toMatchObject({ status: 'finished' })
  })

  test('changes no definition', async () => {
    const izta = await as('run')
    expect(await izta.migrate()).toEqual({ applied: [], schedules: undefined })
    await expect(migrate(configOf(izta).givenDatabase, { schema, roles: true })).rejects.toMatchObject(
      refusal,
    )
  })
})

describe('read', () => {
  test('reads tasks, counts, queues and schedules', async () => {
    const { id } = await (await as('run')).enqueue(child, 21)
    await drain(await as('run'))
    const izta = await as('read')
    expect(await izta.wait(child, id)).toMatchObject({ status: 'finished', payload: 21, result: 42 })
    expect((await izta.listPage()).tasks.length).toBeGreaterThan(0)
    expect(await izta.counts({ since: new Date(0) })).toHaveProperty('default')
    expect((await izta.queues.list()).length).toBeGreaterThan(0)
    expect(await izta.schedules.list()).toBeInstanceOf(Array)
  })

  test('changes nothing', async () => {
    const { id } = await (await as('run')).enqueue(child, 1, { delaySeconds: 60 })
    const izta = await as('read')
    await expect(izta.enqueue(child, 1)).rejects.toMatchObject(refusal)
    await expect(izta.cancel(id)).rejects.toMatchObject(refusal)
    await expect(izta.retry(id)).rejects.toMatchObject(refusal)
    await expect(izta.wake('default')).rejects.toMatchObject(refusal)
    await expect(izta.queues.pause('default')).rejects.toMatchObject(refusal)
    await expect(izta.schedules.put(hourly)).rejects.toMatchObject(refusal)
    await expect(izta.schedules.pause('hourly')).rejects.toMatchObject(refusal)
    await expect(drain(izta)).rejects.toMatchObject(refusal)
  })
})

test('who is in none of the roles can do nothing, and is told so without the statement or a value', async () => {
  const izta = await as('none')
  const error = await izta.enqueue(child, 7).catch((thrown: unknown) => thrown)
  expect(error).toMatchObject(refusal)
  expect((error as Error).message).toMatch(
    /^The database at \S+ does not let its user do this \(42501: permission denied for schema .*izta migrate --roles/,
  )
  await expect(izta.listPage()).rejects.toMatchObject(refusal)
})

/** Every way to write, by table; those that a role has are left out of what must be refused. */
const tables = ['task', 'history', 'queue', 'schedule', 'app', 'wake', 'migration'] as const
const allowed: Record<Work, Record<string, readonly string[]>> = {
  enqueue: {},
  run: {
    ...Object.fromEntries(tables.map((table) => [table, ['select']])),
    // For the statements of schedules.
    task: ['select', 'insert', 'delete'],
    schedule: ['select', 'insert', 'update', 'delete'],
    app: ['select', 'insert', 'update'],
  },
  read: Object.fromEntries(tables.map((table) => [table, ['select']])),
}
/** Single columns, where a role has no more than these. */
const columns: Record<Work, readonly string[]> = {
  enqueue: ['breaking', 'id', 'name'].map((c) => `select migration.${c}`),
  run: ['insert queue.name', 'insert queue.woken_at', 'update queue.woken_at'],
  read: [],
}
const reading = ['epoch_ms', 'now', 'ready_queues_1', 'status_1']
const enqueuing = ['enqueue_1', 'enqueue_task_1', 'key_holder_1', 'wake_queue_1']
const functions: Record<Work | 'none', readonly string[]> = {
  enqueue: [...enqueuing, 'now'],
  run: [
    ...reading,
    ...enqueuing,
    'cancel_tasks_1',
    'pause_queue_1',
    'prune_1',
    'record_alarm_1',
    'register_queues_1',
    'release_lease_1',
    'retry_task_1',
    'tick_queues_1',
    'turn_1',
    'unmake_ended_1',
  ],
  read: reading,
  none: [],
}

async function functionsOf(work: Work | 'none', at = pool): Promise<string[]> {
  const { rows } = await at.query<{ name: string }>(
    `select p.proname as name from pg_proc p
    where p.pronamespace = $2::regnamespace and has_function_privilege($1, p.oid, 'execute')
    order by p.proname collate "C"`,
    [member(work), schema],
  )
  return rows.map(({ name }) => name)
}

test('no function of the schema may be executed by everybody, with roles or without', async () => {
  expect(await functionsOf('none')).toEqual([])
  const without = await testDatabase()
  const { rows } = await without.pool.query<{ name: string; open: boolean }>(
    `select p.proname as name, has_function_privilege($1, p.oid, 'execute') as open
    from pg_proc p where p.pronamespace = 'izta'::regnamespace`,
    [member('none')],
  )
  expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining([...functions.run]))
  expect(rows.filter(({ open }) => open)).toEqual([])
})

describe.for(works)('%s has these privileges and no more', (work) => {
  test('on tables, which are all known here', async () => {
    const { rows } = await pool.query<{ name: string; privileges: string[] | null }>(
      `select c.relname as name, (
        select array_agg(p.name order by p.n)
        from unnest(array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger'])
          with ordinality p(name, n)
        where has_table_privilege($1, c.oid, p.name)) as privileges
      from pg_class c where c.relnamespace = $2::regnamespace and c.relkind not in ('i', 'I')
        and c.relname <> 'test_clock'`,
      [member(work), schema],
    )
    expect(Object.fromEntries(rows.map(({ name, privileges }) => [name, privileges ?? []]))).toEqual(
      Object.fromEntries(tables.map((table) => [table, allowed[work][table] ?? []])),
    )
  })

  test('on columns', async () => {
    const { rows } = await pool.query<{ name: string }>(
      `select format('%s %s.%s', p.name, c.relname, a.attname) as name
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      cross join unnest(array['select', 'insert', 'update', 'references']) p(name)
      where c.relnamespace = $2::regnamespace and c.relkind = 'r'
        and c.relname <> 'test_clock' and has_column_privilege($1, c.oid, a.attnum, p.name) and not has_table_privilege($1, c.oid, p.name)`,
      [member(work), schema],
    )
    expect(rows.map(({ name }) => name).toSorted()).toEqual(columns[work].toSorted())
  })

  test('on functions, which are all known here', async () => {
    expect(await functionsOf(work)).toEqual(functions[work].toSorted())
  })

  test('on the schema', async () => {
    const { rows } = await pool.query(
      `select has_schema_privilege($1, $2, 'usage') as uses, has_schema_privilege($1, $2, 'create') as creates`,
      [member(work), schema],
    )
    expect(rows).toEqual([{ uses: true, creates: false }])
  })
})

test('roles follow a later migration without being asked for', async () => {
  await pool.query(
    `revoke select on ${schema}.task from ${schema}_read; revoke execute on function ${schema}.now() from ${schema}_run`,
  )
  await migrate(database, { schema })
  const { rows } = await pool.query(
    `select has_table_privilege($1, $2, 'select') as reads, has_function_privilege($3, $4, 'execute') as runs`,
    [member('read'), `${schema}.task`, member('run'), `${schema}.now()`],
  )
  expect(rows).toEqual([{ reads: true, runs: true }])
})

test('a schema that never had roles grants nothing to those of another database', async () => {
  const other = `${schema}_other`
  const roles = works.map((work) => `${other}_${work}`)
  for (const role of roles) await pool.query(`create role ${role}`)
  await migrate(database, { schema: other })
  for (const role of roles) {
    const { rows } = await pool.query('select has_schema_privilege($1, $2, $3) as uses', [
      role,
      other,
      'usage',
    ])
    expect(rows).toEqual([{ uses: false }])
  }
  await pool.query(`drop role ${roles.join(', ')}`)
})

test('asking again, and by ten at once, changes nothing', async () => {
  await Promise.all(Array.from({ length: 10 }, () => migrate(database, { schema, roles: true })))
  await (await as('enqueue')).enqueue(child, 1)
})

test('the command makes them, and says so', async () => {
  const said = vi.spyOn(console, 'log').mockImplementation(() => {})
  onTestFinished(() => said.mockRestore())
  await runMigrate({ databaseUrl: url, schema, roles: true })
  expect(said.mock.calls.flat()).toEqual([
    'The schema is up to date: nothing to do.',
    `Granted ${schema}_enqueue, ${schema}_run and ${schema}_read what each needs.`,
  ])
})

test('a schema whose roles would have too long a name is refused', async () => {
  const long = 'x'.repeat(56)
  const error = await migrate(database, { schema: long, roles: true }).catch((thrown: unknown) => thrown)
  expect(IztaError.is(error) && error.message).toMatch(/at most 55 bytes/)
})
