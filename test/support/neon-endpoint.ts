// Neon's SQL-over-HTTP protocol in front of the test server, with faults on demand.

import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { neonConfig } from '@neondatabase/serverless'
import { DatabaseError, Pool, type PoolClient } from 'pg'
import { afterAll } from 'vitest'

/**
 * - `refuse`: the connection breaks before the statement is run.
 * - `drop-answer`: it breaks after the statement has committed.
 * - `truncate`: half of the answer comes, after the commit.
 * - `duplicate`: the statement is run twice at once; the first to end answers.
 */
export type Fault = 'refuse' | 'drop-answer' | 'truncate' | 'duplicate'

export interface NeonEndpoint {
  /** For `neonDatabase`: names this endpoint, and the database, user and password of the given URL. */
  readonly url: string
  /** The next `times` statements meet the fault. */
  readonly fail: (fault: Fault, times?: number) => void
  /** The next answer waits for `release`; `committed` resolves when its statement has. */
  readonly hold: () => { committed: Promise<void>; release: () => void }
}

interface Held {
  committed: () => void
  released: Promise<void>
}

// The driver knows one endpoint for all, so a loopback URL in a test names its endpoint itself.
neonConfig.fetchEndpoint = (host, port) => `http://${host}:${port}/sql`

/** Call it at the top of a test file, with the URL of its database. Closed after the file. */
export async function neonEndpoint(databaseUrl: string): Promise<NeonEndpoint> {
  const faults: Fault[] = []
  const holds: Held[] = []
  const pools = new Map<string, Pool>()

  const server = createServer((request, response) => {
    void answer(request, response).catch((error: unknown) => {
      response.writeHead(500).end(JSON.stringify({ message: String(error), code: '' }))
    })
  })

  async function answer(request: IncomingMessage, response: ServerResponse) {
    const fault = faults.shift()
    const body = await bodyOf(request)
    if (fault === 'refuse') return request.socket.destroy()
    const pool = poolFor(String(request.headers['neon-connection-string']))
    const runs = Array.from({ length: fault === 'duplicate' ? 2 : 1 }, () =>
      'queries' in body ? transaction(pool, body.queries) : reply(pool, body),
    )
    const { status, answer: answered } = await Promise.race(runs)
    await Promise.all(runs)
    const held = holds.shift()
    held?.committed()
    await held?.released
    if (fault === 'drop-answer') return request.socket.destroy()
    const text = JSON.stringify(answered)
    return response.writeHead(status).end(fault === 'truncate' ? text.slice(0, text.length / 2) : text)
  }

  /** The client's user, password and database at the real server. */
  function poolFor(connectionString: string): Pool {
    const url = new URL(connectionString)
    const real = new URL(databaseUrl)
    url.host = real.host
    const pool = pools.get(url.href) ?? new Pool({ connectionString: url.href })
    pools.set(url.href, pool)
    return pool
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
  afterAll(async () => {
    server.closeAllConnections()
    server.close()
    await Promise.all([...pools.values()].map((pool) => pool.end()))
  })
  return {
    url: url.href,
    fail(fault, times = 1) {
      for (let n = 0; n < times; n++) faults.push(fault)
    },
    hold() {
      const committed = Promise.withResolvers<void>()
      const released = Promise.withResolvers<void>()
      holds.push({ committed: committed.resolve, released: released.promise })
      return { committed: committed.promise, release: released.resolve }
    },
  }
}

interface Query {
  readonly query: string
  readonly params: (string | null)[]
}

async function bodyOf(request: IncomingMessage): Promise<Query | { readonly queries: readonly Query[] }> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  return JSON.parse(Buffer.concat(chunks).toString('utf8'))
}

interface Reply {
  readonly status: number
  readonly answer: unknown
}

/** Neon's proxy answers a refused statement with 400 and all of Postgres' fields. */
async function reply(connection: Pool | PoolClient, { query: text, params: values }: Query): Promise<Reply> {
  const types = { getTypeParser: () => (value: string) => value }
  const query = { text, values, types, rowMode: 'array' as const, queryMode: 'extended' }
  try {
    const { command, rowCount, rows, fields } = await connection.query(query)
    return { status: 200, answer: { command, rowCount, rows, fields, rowAsArray: true } }
  } catch (error) {
    if (error instanceof DatabaseError)
      return { status: 400, answer: Object.assign({}, error, { message: error.message }) }
    return { status: 500, answer: { message: String(error), code: '' } }
  }
}

/** Several statements in one request: all of them, or none. */
async function transaction(pool: Pool, queries: readonly Query[]): Promise<Reply> {
  const client = await pool.connect()
  try {
    await client.query('begin')
    const results: unknown[] = []
    for (const query of queries) {
      const { status, answer } = await reply(client, query)
      if (status !== 200) {
        await client.query('rollback')
        return { status, answer }
      }
      results.push(answer)
    }
    await client.query('commit')
    return { status: 200, answer: { results } }
  } finally {
    client.release()
  }
}
