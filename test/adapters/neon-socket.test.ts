// The WebSocket adapter against a proxy like Neon's: bytes of a WebSocket, passed on to Postgres.
import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { pipeline } from 'node:stream/promises'
import { neonConfig, Pool } from '@neondatabase/serverless'
import { DefinitionError } from 'izta'
import { neonSocketDatabase } from 'izta/neon-socket'
import { afterAll, expect, test, vi } from 'vitest'
import { createWebSocketStream, WebSocketServer } from 'ws'
import { ask, databaseContract, failure } from '../support/database-contract.ts'
import { testDatabase } from '../support/database.ts'

const { url, pool, connect } = await testDatabase({ migrated: false })
const real = new URL(url)

const proxy = new WebSocketServer({ host: '127.0.0.1', port: 0 })
proxy.on('connection', (socket) => {
  const stream = createWebSocketStream(socket)
  const upstream = connectTcp(Number(real.port), real.hostname)
  // Either side may break off: the other one goes with it.
  for (const [from, to] of [
    [stream, upstream],
    [upstream, stream],
  ] as const) {
    pipeline(from, to).catch(() => {})
  }
})
await once(proxy, 'listening')
const address = proxy.address()
const proxied = Object.assign(new URL(url), {
  host: `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`,
}).href
// The host of the connection string is the proxy's own, so that a closed port is one.
neonConfig.wsProxy = (host, port) => `${host}:${port}/v2`
neonConfig.useSecureWebSocket = false
// Neon asks for a plain password inside its TLS; the test server for SCRAM.
neonConfig.pipelineConnect = false
afterAll(() => {
  for (const client of proxy.clients) client.terminate()
  proxy.close()
})

databaseContract({ url: proxied, open: neonSocketDatabase })

const pidStatement = 'select pg_backend_pid() as pid'

test('statements go through the WebSocket, several over one connection', async () => {
  const database = neonSocketDatabase({ connectionString: proxied, max: 1 })
  const opened = vi.fn<() => void>()
  proxy.on('connection', opened)
  const [first] = await ask(database, pidStatement)
  expect(await ask(database, pidStatement)).toEqual([first])
  proxy.off('connection', opened)
  expect(opened).toHaveBeenCalledTimes(1)
  await database.close?.()
})

test('a refused statement does not cost its connection, with values or without', async () => {
  const database = neonSocketDatabase({ connectionString: proxied, max: 1 })
  const [before] = await ask(database, pidStatement)
  await failure(database, 'selekt')
  await failure(database, 'select $1::int', ['one'])
  expect(await ask(database, pidStatement)).toEqual([before])
  await database.close?.()
})

test('a reply of more rows than one batch is whole', async () => {
  const database = neonSocketDatabase(proxied)
  expect(await ask(database, 'select n from generate_series(1, 20000) n')).toHaveLength(20_000)
  await database.close?.()
})

test('a WebSocket that breaks under a statement leaves its outcome unknown', async () => {
  const database = neonSocketDatabase({ connectionString: proxied, max: 1 })
  const [backend] = await ask(database, pidStatement)
  const holder = await connect()
  await holder.query('select pg_advisory_lock(7)')
  const lost = failure(database, 'select pg_advisory_lock($1)', ['7'])
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  while (!(await isWaiting(backend?.['pid'] ?? ''))) await new Promise(setImmediate)
  for (const client of proxy.clients) client.terminate()
  expect(await lost).toMatchObject({ code: 'database-unreachable', outcome: 'unknown', retryable: true })
  await holder.query('select pg_advisory_unlock_all()')
  expect(await ask(database, 'select 1 as value')).toEqual([{ value: '1' }])
  await database.close?.()
})

async function isWaiting(pid: string): Promise<boolean> {
  const { rows } = await pool.query('select cardinality(pg_blocking_pids($1)) > 0 as waiting', [pid])
  return rows[0].waiting
}

test('the password may be an option beside a connection string without one', async () => {
  const bare = Object.assign(new URL(proxied), { password: '' }).href
  const password = decodeURIComponent(real.password)
  const database = neonSocketDatabase({ connectionString: bare, password })
  expect(await ask(database, 'select 1 as value')).toEqual([{ value: '1' }])
  await database.close?.()
})

test('a pool of the application is used and not closed', async () => {
  const given = new Pool({ connectionString: proxied })
  given.on('error', () => {})
  const database = neonSocketDatabase(given)
  expect(await ask(database, 'select true as value')).toEqual([{ value: 't' }])
  await database.close?.()
  expect((await given.query('select true as value')).rows).toEqual([{ value: true }])
  await given.end()
})

test('what is no source is refused at once, by its own name', () => {
  expect(() => neonSocketDatabase('mysql://user:secret@db.example.com/app')).toThrow(DefinitionError)
  expect(() => neonSocketDatabase('mysql://user:secret@db.example.com/app')).toThrow(/^neonSocketDatabase: /)
  expect(() => neonSocketDatabase('mysql://user:secret@db.example.com/app')).not.toThrow(/secret/)
})
