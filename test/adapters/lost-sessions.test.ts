// Sessions that the server ends or that are no longer good: the call goes on over another connection.
import { createIzta, defineJob, type Izta } from 'izta'
import { pgDatabase } from 'izta/pg'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { afterAll, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { ask, failure } from '../support/database-contract.ts'
import { testDatabase } from '../support/database.ts'

const { url, pool, name } = await testDatabase()
const note = defineJob({ id: 'note' })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const pidStatement = 'select pg_backend_pid() as pid'

function open(database: Database): Izta {
  const izta = createIzta({ database, jobs: [note], log })
  afterAll(() => izta.close())
  return izta
}

test.for(['25006', '25P02', '26000', '42P05', '57P01', '58030'])(
  'a connection that answered with %s is not used again',
  async (sqlState) => {
    const database = pgDatabase({ connectionString: url, max: 1 })
    const before = await ask(database, pidStatement)
    await failure(database, `do $$ begin raise exception using errcode = '${sqlState}'; end $$`)
    expect(await ask(database, pidStatement)).not.toEqual(before)
    await database.close?.()
  },
)

test('an enqueue over connections that a failover has left read-only goes on over a new one', async () => {
  const database = pgDatabase({ connectionString: url, max: 1 })
  await ask(database, 'set default_transaction_read_only = on')
  await expect(open(database).enqueue(note)).resolves.toMatchObject({ created: true })
})

/** Stands between client and server, and can keep what the server sends. */
async function proxyTo(target: string) {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let holding = false
  let kept = Promise.withResolvers<void>()
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    let late: Buffer[] = []
    upstream.on('data', (data) => {
      if (!holding) return void client.write(data)
      late.push(data)
      kept.resolve()
    })
    client.on('data', (data) => {
      // What was kept crosses this on its way.
      for (const farewell of late) client.write(farewell)
      late = []
      upstream.write(data)
    })
    upstream.on('close', () => holding || client.end())
    client.on('close', () => upstream.destroy())
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on('error', () => {})
    }
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  afterAll(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  const address = server.address()
  const through = new URL(target)
  through.port = String(typeof address === 'object' ? address?.port : '')
  return {
    url: through.href,
    /** Resolves when something has been kept. */
    hold() {
      holding = true
      kept = Promise.withResolvers<void>()
      return kept.promise
    },
    pass() {
      holding = false
    },
  }
}

test('an enqueue that crosses the farewell of an idle session is stored over another connection', async () => {
  const proxy = await proxyTo(url)
  const izta = open(pgDatabase({ connectionString: proxy.url, max: 1 }))
  await pool.query(`alter database ${name} set idle_session_timeout = '100ms'`)
  await izta.enqueue(note)
  await proxy.hold()
  const second = izta.enqueue(note)
  proxy.pass()
  await expect(second).resolves.toMatchObject({ created: true })
  await pool.query(`alter database ${name} reset idle_session_timeout`)
})
