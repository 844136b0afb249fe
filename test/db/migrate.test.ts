import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { neonDatabase } from '../../src/adapters/neon.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
import type { Database } from '../../src/db/database.ts'
import { checkSchema, migrate, type MigrationWait } from '../../src/db/migrate.ts'
import { DatabaseError, IztaError, SchemaTooNewError } from '../../src/errors.ts'
import { testDatabase } from '../support/database.ts'
import { neonEndpoint } from '../support/neon-endpoint.ts'

const { url, database, pool, connect } = await testDatabase({ migrated: false })
const strict = await testDatabase({ migrated: false, isolation: 'repeatable read' })
const endpoint = await neonEndpoint(url)
const neon = neonDatabase(endpoint.url)

const scratch = await mkdtemp(join(tmpdir(), 'izta-migrations-'))
afterAll(() => rm(scratch, { recursive: true }))

const two = await folderOf({
  '0001_create_tasks.sql': `-- Two commands, quotes of every kind, and one of them inside a function.
create table izta.task (id int, note text default 'it''s $m$ fine');
create function izta.turn_1() returns int language sql as $body$ select count(*)::int from izta.task $body$;`,
  '0002_add_queue.sql': 'create table izta.queue (name text);',
  'README.md': 'not a migration',
})

const three = await folderOf({ '0003_alter_task.sql': 'alter table izta.task add column more int;' }, two)

beforeEach(async () => {
  await pool.query('drop schema if exists izta cascade; drop schema if exists "Other one" cascade')
})

test('applies what is missing, in order, and then nothing', async () => {
  const options = { schema: 'izta', folder: two }
  expect(await migrate(database, options)).toEqual({ applied: ['0001_create_tasks', '0002_add_queue'] })
  expect(await migrate(database, options)).toEqual({ applied: [] })
  const { rows } = await pool.query(
    'select id, name, length(checksum) as length, breaking from izta.migration',
  )
  expect(rows).toEqual([
    { id: 1, name: '0001_create_tasks', length: 64, breaking: false },
    { id: 2, name: '0002_add_queue', length: 64, breaking: false },
  ])
  expect((await pool.query('select izta.turn_1() as tasks')).rows).toEqual([{ tasks: 0 }])
})

test('the packaged migrations apply', async () => {
  const { applied } = await migrate(database, { schema: 'izta' })
  expect(applied).toContain('0001_create_tasks')
  expect(await checkSchema(database, { schema: 'izta' })).toMatchObject({ state: 'current', pending: [] })
})

test('another schema gets tables of its own', async () => {
  await migrate(database, { schema: 'izta', folder: two })
  const options = { schema: 'Other one', folder: two }
  expect(await migrate(database, options)).toEqual({ applied: ['0001_create_tasks', '0002_add_queue'] })
  expect((await pool.query('select "Other one".turn_1() as tasks')).rows).toEqual([{ tasks: 0 }])
})

test.for([
  ['over TCP', () => database],
  ['over HTTP', () => neon],
  ['where transactions are repeatable read', () => strict.database],
] as const)('ten calls at once all succeed %s', async ([, open]: readonly [string, () => Database]) => {
  const options = { schema: 'izta', folder: two }
  await Promise.all(Array.from({ length: 10 }, () => migrate(open(), options)))
  expect(await checkSchema(open(), options)).toMatchObject({ state: 'current', pending: [] })
})

test('a lost answer does not apply a migration twice', async () => {
  // The first statement reads which migrations there are, the next ones apply them.
  endpoint.fail('drop-answer', 3)
  expect(await migrate(neon, { schema: 'izta', folder: two })).toEqual({
    applied: ['0001_create_tasks', '0002_add_queue'],
  })
})

test('a user who may not create schemas can migrate a schema made for them', async () => {
  const role = `izta_limited_${process.pid}`
  await pool.query(`create role ${role} login password 'limited'; create schema izta authorization ${role}`)
  const limited = pgDatabase(Object.assign(new URL(url), { username: role, password: 'limited' }).href)
  const { applied } = await migrate(limited, { schema: 'izta', folder: two })
  await limited.close?.()
  await pool.query(`drop schema izta cascade; drop role ${role}`)
  expect(applied).toHaveLength(2)
})

test('a migration that fails leaves those before it applied, and names itself', async () => {
  const broken = await folderOf(
    { '0003_break_it.sql': 'create table izta.a (); select * from izta.nowhere' },
    two,
  )
  const error = await failureOf(migrate(database, { schema: 'izta', folder: broken }))
  expect(error).toMatchObject({ code: 'database-error', sqlState: '42P01', outcome: 'not-applied' })
  expect(error.message).toBe(
    'Migration 0003_break_it was not applied: relation "izta.nowhere" does not exist.',
  )
  expect(await checkSchema(database, { schema: 'izta', folder: broken })).toEqual({
    state: 'pending',
    applied: ['0001_create_tasks', '0002_add_queue'],
    pending: ['0003_break_it'],
    unknown: [],
  })
})

test('a file that changed after it was applied is refused', async () => {
  await migrate(database, { schema: 'izta', folder: two })
  const edited = await folderOf(
    { '0002_add_queue.sql': 'create table izta.queue (name text, paused bool);' },
    two,
  )
  const error = await failureOf(migrate(database, { schema: 'izta', folder: edited }))
  expect(error).toMatchObject({ code: 'migration-changed', retryable: false })
  expect(error.message).toContain('0002_add_queue')
})

test('an older version works beside a newer migration that is not breaking', async () => {
  const newer = await folderOf({ '0003_add_index.sql': 'create index on izta.task (id)' }, two)
  await migrate(database, { schema: 'izta', folder: newer })
  expect(await migrate(database, { schema: 'izta', folder: two })).toEqual({ applied: [] })
  expect(await checkSchema(database, { schema: 'izta', folder: two })).toMatchObject({
    state: 'current',
    unknown: ['0003_add_index'],
  })
})

test('an older version refuses to work beside a newer migration that is breaking', async () => {
  const newer = await folderOf({ '0003_drop_queue.sql': '--! breaking\ndrop table izta.queue' }, two)
  await migrate(database, { schema: 'izta', folder: newer })
  const error = await failureOf(migrate(database, { schema: 'izta', folder: two }))
  expect(error).toBeInstanceOf(SchemaTooNewError)
  expect(error.message).toContain('0003_drop_queue')
  expect(await checkSchema(database, { schema: 'izta', folder: two })).toMatchObject({ state: 'too-new' })
  expect(await checkSchema(database, { schema: 'izta', folder: newer })).toMatchObject({ state: 'current' })
})

test('a database without the schema is not migrated', async () => {
  expect(await checkSchema(database, { schema: 'izta', folder: two })).toEqual({
    state: 'not-migrated',
    applied: [],
    pending: ['0001_create_tasks', '0002_add_queue'],
    unknown: [],
  })
})

test('a missing folder is told, with what to do', async () => {
  const missing = new URL('missing/', two)
  const error = await migrate(database, { schema: 'izta', folder: missing }).catch(
    (thrown: unknown) => thrown,
  )
  expect(IztaError.is(error) && error.code).toBe('migrations-missing')
})

/** A temporary migrations folder with these files, and those of `base`. */
/** A session of somebody else, such as a dump, that has a table of izta open. */
async function dumping() {
  const dump = await connect()
  await dump.query("set application_name = 'pg_dump'")
  await dump.query('begin')
  await dump.query('lock table izta.task in access share mode')
  return dump
}

test('a migration tells who has the table that it needs, lets others work, and is applied when that ends', async () => {
  await migrate(database, { schema: 'izta', folder: two })
  const dump = await dumping()
  const waiting = Promise.withResolvers<MigrationWait>()
  const migrating = migrate(database, { schema: 'izta', folder: three, onWait: waiting.resolve })
  const wait = await waiting.promise
  expect(wait.migration).toBe('0003_alter_task')
  expect(wait.holders).toEqual([
    expect.stringMatching(
      /^process \d+ \(pg_dump, user \w+, idle in transaction, in a transaction since \d+ s\)$/,
    ),
  ])
  // The migration has given its place in the queue of locks back.
  await pool.query('insert into izta.task values (1)')
  await dump.query('rollback')
  expect(await migrating).toEqual({ applied: ['0003_alter_task'] })
})

test('a migration that does not get its lock in time says so, and who has it', async () => {
  await migrate(database, { schema: 'izta', folder: two })
  const dump = await dumping()
  const error = await failureOf(migrate(database, { schema: 'izta', folder: three, lockWaitSeconds: 0 }))
  await dump.query('rollback')
  expect(error).toMatchObject({ code: 'lock-timeout', retryable: true, outcome: 'not-applied' })
  expect(error.message).toMatch(
    /^Migration 0003_alter_task was not applied: .* Locks on its tables are held by process \d+ \(pg_dump, /,
  )
})

async function folderOf(files: Record<string, string>, base?: URL): Promise<URL> {
  const path = await mkdtemp(join(scratch, 'folder-'))
  if (base !== undefined) await cp(base, path, { recursive: true })
  await Promise.all(Object.entries(files).map(([name, text]) => writeFile(join(path, name), text)))
  return pathToFileURL(`${path}/`)
}

async function failureOf(promise: Promise<unknown>): Promise<DatabaseError> {
  const outcome = await promise.catch((error: unknown) => error)
  if (outcome instanceof DatabaseError) return outcome
  throw new Error('Expected a DatabaseError', { cause: outcome })
}
