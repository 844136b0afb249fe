// Neon's SQL-over-HTTP protocol in front of a plain Postgres, in a process of its own as in the real thing.
// Started as a program: node neon-endpoint.ts DATABASE_URL; answers with its port on the first line.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { neonConfig } from '@neondatabase/serverless'
import { Pool } from 'pg'

export interface NeonEndpoint {
  /** For `neonDatabase`. */
  readonly url: string
  stop(): Promise<void>
}

export async function startNeonEndpoint(databaseUrl: string): Promise<NeonEndpoint> {
  neonConfig.fetchEndpoint = (host, port) => `http://${host}:${port}/sql`
  const server = fork(import.meta.filename, [databaseUrl])
  const [port] = (await once(server, 'message')) as [number]
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${port}`
  return {
    url: url.href,
    async stop() {
      const ended = once(server, 'exit')
      server.kill()
      await ended
    },
  }
}

if (import.meta.main) {
  const pool = new Pool({ connectionString: process.argv[2], max: 20 })
  const types = { getTypeParser: () => (value: string) => value }
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { query, params } = await bodyOf(request)
    try {
      const result = await pool.query({ text: query, values: params, types, rowMode: 'array' })
      const { command, rowCount, rows, fields } = result
      response.end(JSON.stringify({ command, rowCount, rows, fields, rowAsArray: true }))
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      response.writeHead(400).end(JSON.stringify({ ...(error as object), message }))
    }
  }
  const server = createServer((request, response) => void answer(request, response))
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    process.send?.(typeof address === 'object' ? address?.port : 0)
  })
  process.once('disconnect', () => process.exit())
}

async function bodyOf(request: IncomingMessage): Promise<{ query: string; params: (string | null)[] }> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return JSON.parse(Buffer.concat(chunks).toString('utf8')) as { query: string; params: (string | null)[] }
}
