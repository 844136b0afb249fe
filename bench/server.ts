// The bench's own PostgreSQL: durable, with the settings one would give a small dedicated server.
import { randomUUID } from 'node:crypto'
import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { startPostgres } from '../src/local/postgres.ts'

/** Beside Postgres' defaults, which keep fsync, synchronous_commit, full_page_writes and autovacuum on. */
export const serverSettings: Readonly<Record<string, string>> = {
  shared_buffers: '1GB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
  random_page_cost: '1.1',
  // For rows and bytes, and for profiles.
  shared_preload_libraries: 'pg_stat_statements',
}

/** Room for hundreds of runners; no other figure depends on it. */
const maxConnections = 1000

export interface Server {
  readonly version: string
  /** A fresh database; dropped when disposed. */
  database(): Promise<{ readonly url: string } & AsyncDisposable>
  stop(): Promise<void>
}

export async function startServer(): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'izta-bench-'))
  // Whatever ends the bench early, Ctrl-C included: the server goes with this process, its folder must too.
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }))
  process.once('SIGINT', () => process.exit(130))
  // Twice: some settings hold from the next start only.
  const first = await startPostgres({ folder, persistent: true, maxConnections })
  for (const [name, value] of Object.entries(serverSettings)) {
    // oxlint-disable-next-line no-await-in-loop -- a few short statements
    await administer(first.url, `alter system set ${name} = '${value}'`)
  }
  await first.stop()
  const postgres = await startPostgres({ folder, persistent: true, maxConnections })
  const [row] = await administer(postgres.url, 'show server_version')
  return {
    version: String(row?.['server_version']),
    async database() {
      const name = `bench_${randomUUID().slice(0, 8)}`
      await administer(postgres.url, `create database ${name}`)
      const url = new URL(postgres.url)
      url.pathname = `/${name}`
      return {
        url: url.href,
        async [Symbol.asyncDispose]() {
          await administer(postgres.url, `drop database ${name} with (force)`)
        },
      }
    },
    async stop() {
      await postgres.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** Runs one statement over a connection of its own. */
export async function administer(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client(url)
  await client.connect()
  try {
    const { rows } = await client.query<Record<string, unknown>>(text)
    return rows
  } finally {
    await client.end()
  }
}
