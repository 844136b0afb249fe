import { Pool } from 'pg'
import { expect, test, vi } from 'vitest'
import { pgDatabase } from '../../src/db/adapters/pg.ts'
import { DefinitionError } from '../../src/errors.ts'
import { ask, databaseContract, failure } from '../support/database-contract.ts'
import { testDatabase } from '../support/database.ts'

const { url, pool, connect } = await testDatabase({ migrated: false })

databaseContract({ url, open: pgDatabase })

const pidStatement = 'select pg_backend_pid() as pid'

test('a pool of the application is used and not closed', async () => {
  const database = pgDatabase(pool)
  expect(await ask(database, 'select true as value')).toEqual([{ value: 't' }])
  await database.close?.()
  expect((await pool.query('select true as value')).rows).toEqual([{ value: true }])
})

test('an error of a given pool names host, port and database', async () => {
  const { host, pathname } = new URL(url)
  expect((await failure(pgDatabase(pool), 'selekt')).message).toContain(`${host}${pathname}`)
})

test('options of pg are passed on', async () => {
  const database = pgDatabase({ connectionString: url, application_name: 'shop', max: 1 })
  expect(await ask(database, "select current_setting('application_name') as name")).toEqual([
    { name: 'shop' },
  ])
  await database.close?.()
})

test('an idle connection that the server drops does no harm', async () => {
  const database = pgDatabase({ connectionString: url, max: 1 })
  const [before] = await ask(database, pidStatement)
  const dropped = Promise.withResolvers<void>()
  const ended = vi.spyOn(Pool.prototype, 'emit').mockImplementation(function (this: Pool, event, ...rest) {
    if (event === 'remove') dropped.resolve()
    return Object.getPrototypeOf(Pool.prototype).emit.call(this, event, ...rest)
  })
  await pool.query('select pg_terminate_backend($1)', [before?.['pid']])
  await dropped.promise
  ended.mockRestore()
  const [after] = await ask(database, pidStatement)
  expect(after?.['pid']).not.toBe(before?.['pid'])
  await database.close?.()
})

test('a connection that was idle for too long is not used again, though no timer ran', async () => {
  const database = pgDatabase({ connectionString: url, max: 1 })
  const [first] = await ask(database, pidStatement)
  const [second] = await ask(database, pidStatement)
  expect(second).toEqual(first)
  const thawed = vi.spyOn(Date, 'now').mockReturnValue(Date.now() + 31_000)
  const [third] = await ask(database, pidStatement)
  thawed.mockRestore()
  expect(third).not.toEqual(first)
  await database.close?.()
})

test('a refused statement does not cost its connection', async () => {
  const database = pgDatabase({ connectionString: url, max: 1 })
  const [before] = await ask(database, pidStatement)
  await failure(database, 'selekt')
  expect(await ask(database, pidStatement)).toEqual([before])
  await database.close?.()
})

test('a statement without a reply in time has an unknown outcome', async () => {
  const database = pgDatabase({ connectionString: url, query_timeout: 50 })
  const holder = await connect()
  await holder.query('select pg_advisory_lock(1)')
  expect(await failure(database, 'select pg_advisory_lock(1)')).toMatchObject({
    code: 'database-unreachable',
    outcome: 'unknown',
    retryable: true,
  })
  await holder.query('select pg_advisory_unlock_all()')
  await database.close?.()
})

test('after close() it says so', async () => {
  const database = pgDatabase(url)
  await database.close?.()
  expect(await failure(database, 'select 1')).toMatchObject({ code: 'database-closed', retryable: false })
})

const expected =
  'pgDatabase: expected a connection string such as postgres://user:password@host/database, a pg.Pool or options of pg.Pool'

test.for([
  [undefined, 'undefined: is the environment variable set?'],
  [null, 'null: is the environment variable set?'],
  ['', 'an empty text: is the environment variable set?'],
  [5432, '5432.'],
] as const)('what is no source is refused at once: %s', ([source, got]) => {
  expect(() => pgDatabase(source as never)).toThrow(new DefinitionError(`${expected}; got ${got}`))
})

test('options whose connection string is undefined do not mean localhost', () => {
  expect(() => pgDatabase({ connectionString: undefined as never })).toThrow(
    'is the environment variable set?',
  )
  expect(() => pgDatabase({ connectionString: undefined as never, host: 'db.example.com' })).not.toThrow()
})

test.for([
  'postgres://user:secret#1@db.example.com/app',
  'postgres://user:1/secret@db.example.com/app',
  'postgres://user:1?secret@db.example.com/app',
  'mysql://user:secret@db.example.com/app',
  'localhost/secret',
  'not a connection string with a secret in it',
])('text that is no postgres URL is refused at once and not shown: %s', (connectionString) => {
  for (const source of [connectionString, { connectionString }]) {
    expect(() => pgDatabase(source)).toThrow(DefinitionError)
    expect(() => pgDatabase(source)).toThrow('no postgres:// URL: percent-encode # / @ : ? of a password.')
    expect(() => pgDatabase(source)).not.toThrow(/secret/)
  }
})
