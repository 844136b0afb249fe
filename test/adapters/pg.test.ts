import { Pool } from 'pg'
import { expect, test, vi } from 'vitest'
import { pgDatabase, type PgConnection } from '../../src/adapters/pg.ts'
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

const bareUrl = Object.assign(new URL(url), { password: '' }).href
const password = decodeURIComponent(new URL(url).password)

test.for([['a text', password] as const, ['a function', async () => password] as const])(
  'the password may be %s beside a connection string without one',
  async ([, given]) => {
    const database = pgDatabase({ connectionString: bareUrl, password: given })
    expect(await ask(database, 'select 1 as value')).toEqual([{ value: '1' }])
    await database.close?.()
  },
)

test('a password function is asked for each new connection, and told which one', async () => {
  const { hostname, port, username } = new URL(url)
  const asked = vi.fn<(connection: PgConnection) => Promise<string>>().mockResolvedValue(password)
  const database = pgDatabase({ connectionString: bareUrl, password: asked, max: 1 })
  const [first] = await ask(database, pidStatement)
  await ask(database, pidStatement)
  expect(asked).toHaveBeenCalledTimes(1)
  await failure(database, 'select pg_terminate_backend(pg_backend_pid())')
  const [second] = await ask(database, pidStatement)
  expect(second).not.toEqual(first)
  expect(asked).toHaveBeenCalledTimes(2)
  expect(asked.mock.lastCall?.[0]).toMatchObject({
    host: hostname,
    port: Number(port),
    user: username,
    ssl: false,
  })
  await database.close?.()
})

test('a password function that fails is an error before anything is sent', async () => {
  const database = pgDatabase({
    connectionString: bareUrl,
    password: () => Promise.reject(new Error('no key')),
  })
  expect(await failure(database, 'select 1')).toMatchObject({ outcome: 'not-applied' })
  await database.close?.()
})

test('a server without TLS is refused where the connection string asks for it', async () => {
  const database = pgDatabase(`${url}?sslmode=verify-full`)
  const error = await failure(database, 'select 1')
  expect(error).toMatchObject({ code: 'database-tls', outcome: 'not-applied', retryable: false })
  await database.close?.()
})

test('two passwords are refused at once, and neither is shown', () => {
  const open = () => pgDatabase({ connectionString: url, password: 'open-sesame' })
  expect(open).toThrow(DefinitionError)
  expect(open).not.toThrow(/open-sesame/)
  expect(open).not.toThrow(password)
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
