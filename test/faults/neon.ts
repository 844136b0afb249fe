// Neon's SQL over HTTP in front of the server, which refuses, drops, truncates, delays and doubles on demand.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { DatabaseError, Pool } from 'pg'

export const httpFaults = [
  'http-refused',
  'http-answer-dropped',
  'http-answer-truncated',
  'http-stalled',
  'http-doubled',
  'http-late',
] as const
export type HttpFault = (typeof httpFaults)[number]

export interface NeonEndpoint {
  readonly port: number
  /** The next statement meets the fault. False when none has come for two seconds. */
  arm(fault: HttpFault, delayMs: number): Promise<boolean>
  close(): Promise<void>
}

interface Armed {
  readonly fault: HttpFault
  readonly delayMs: number
  readonly applied: (applied: boolean) => void
}

interface Reply {
  readonly status: number
  readonly answer: unknown
}

export async function startNeonEndpoint(url: string): Promise<NeonEndpoint> {
  const armed: Armed[] = []
  const pool = new Pool({
    connectionString: url,
    max: 6,
    connectionTimeoutMillis: 1000,
    query_timeout: 10_000,
  })
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const query = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { query: string; params: string[] }
    const one = armed.shift()
    one?.applied(true)
    if (one?.fault === 'http-refused') return void request.socket.destroy()
    if (one?.fault === 'http-late') {
      // The client sees a cut and tries again before this copy arrives.
      request.socket.destroy()
      await sleep(one.delayMs)
    }
    const copies = one?.fault === 'http-doubled' ? 2 : 1
    const replies = Array.from({ length: copies }, () => reply(pool, query))
    const { status, answer: answered } = await Promise.race(replies)
    await Promise.all(replies)
    if (one?.fault === 'http-answer-dropped') return void request.socket.destroy()
    if (one?.fault === 'http-stalled') await sleep(one.delayMs)
    const text = JSON.stringify(answered)
    response
      .writeHead(status)
      .end(one?.fault === 'http-answer-truncated' ? text.slice(0, text.length / 2) : text)
  }

  const server = createServer((request, response) => {
    void answer(request, response).catch(() => request.socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the endpoint has no port')
  return {
    port: address.port,
    async arm(fault, delayMs) {
      const applied = Promise.withResolvers<boolean>()
      const one = { fault, delayMs, applied: applied.resolve }
      armed.push(one)
      const timer = setTimeout(() => {
        if (armed.includes(one)) armed.splice(armed.indexOf(one), 1)
        applied.resolve(false)
      }, 2000)
      const result = await applied.promise
      clearTimeout(timer)
      return result
    },
    async close() {
      server.closeAllConnections()
      server.close()
      await pool.end()
    },
  }
}

/** Neon's proxy answers a refused statement with 400 and all of Postgres' fields. */
async function reply(pool: Pool, { query, params }: { query: string; params: string[] }): Promise<Reply> {
  const types = { getTypeParser: () => (value: string) => value }
  try {
    const config = { text: query, values: params, types, rowMode: 'array' as const, queryMode: 'extended' }
    const { command, rowCount, rows, fields } = await pool.query(config)
    return { status: 200, answer: { command, rowCount, rows, fields, rowAsArray: true } }
  } catch (error) {
    const fields = Object.assign({}, error, { message: String(error) })
    return error instanceof DatabaseError
      ? { status: 400, answer: fields }
      : { status: 500, answer: { message: String(error), code: '' } }
  }
}
