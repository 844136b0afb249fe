import { expect, test } from 'vitest'
import { neonDatabase } from '../../src/adapters/neon.ts'
import { DefinitionError, OptionError } from '../../src/errors.ts'
import { ask, databaseContract, failure } from '../support/database-contract.ts'
import { testDatabase } from '../support/database.ts'
import { neonEndpoint } from '../support/neon-endpoint.ts'

const { url, pool } = await testDatabase({ migrated: false })
const endpoint = await neonEndpoint(url)
await pool.query('create table entry (id int)')

databaseContract({ url: endpoint.url, open: neonDatabase })

const database = neonDatabase(endpoint.url)
const insert = 'insert into entry values ($1)'

async function countOf(id: string) {
  const { rows } = await pool.query('select count(*)::int as count from entry where id = $1', [id])
  return rows[0].count
}

test('it says how large a reply may be', () => {
  expect(database.replyLimitBytes).toBe(64 * 1024 * 1024)
})

test.for([
  ['drop-answer', '1', 1],
  ['truncate', '2', 1],
  ['refuse', '3', 0],
] as const)('after the fault %s the outcome is unknown', async ([fault, id, count]) => {
  endpoint.fail(fault)
  expect(await failure(database, insert, [id])).toMatchObject({ outcome: 'unknown', retryable: true })
  expect(await countOf(id)).toBe(count)
})

test('a duplicated request is run twice', async () => {
  endpoint.fail('duplicate')
  await ask(database, insert, ['4'])
  expect(await countOf('4')).toBe(2)
})

test('an answer that comes too late leaves the outcome unknown', async () => {
  const held = endpoint.hold()
  const hasty = neonDatabase({ connectionString: endpoint.url, fetchTimeoutSeconds: 0.5 })
  const [error] = await Promise.all([failure(hasty, insert, ['5']), held.committed])
  held.release()
  expect(error).toMatchObject({ code: 'database-unreachable', outcome: 'unknown', retryable: true })
  expect(await countOf('5')).toBe(1)
})

test('the connection string may come from a function', async () => {
  const secret = neonDatabase({ connectionString: async () => endpoint.url })
  expect(await ask(secret, 'select 1 as value')).toEqual([{ value: '1' }])
})

test('a connection string that cannot be had is an error before anything is sent', async () => {
  const broken = neonDatabase({ connectionString: () => Promise.reject(new Error('no such secret')) })
  expect(await failure(broken, 'select 1')).toMatchObject({ outcome: 'not-applied', retryable: false })
})

test.for([
  'db.example.com with a secret',
  'https://user:secret@db.example.com/app',
  'postgres://user:1#secret@db.example.com/app',
  '',
  undefined,
])('a connection string that is no postgres URL is refused without showing it: %s', (given) => {
  const connectionString = given as string
  expect(() => neonDatabase(connectionString)).toThrow(DefinitionError)
  expect(() => neonDatabase({ connectionString })).toThrow(DefinitionError)
  expect(() => neonDatabase(connectionString)).not.toThrow(/secret/)
})

test.for([0, -1, Number.NaN])('a timeout of %s seconds is refused', (fetchTimeoutSeconds) => {
  expect(() => neonDatabase({ connectionString: endpoint.url, fetchTimeoutSeconds })).toThrow(OptionError)
})
