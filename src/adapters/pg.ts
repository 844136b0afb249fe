// The Postgres port over node-postgres: plain TCP, direct or through PgBouncer in transaction mode.
import { Pool, type PoolClient, type PoolConfig } from 'pg'
import type { Database, Row } from '../db/database.ts'
import { PgClient } from './pg-client.ts'
import { asText, pooledDatabase, type PgOptions, type PgPool } from './pool.ts'

export { notifyWake, type NotifyWakeOptions } from './notify-wake.ts'
export { pgDefaults, type PgConnection, type PgOptions, type PgPool } from './pool.ts'

/**
 * A database reached with node-postgres (`pg`). From a connection string or options it opens its own connections
 * when they are needed, and `close()` ends them. A pool of the application is used as it is and never closed; see
 * that it has an `'error'` listener, without which a connection that the server drops ends the process.
 *
 * No prepared statements and no session state: PgBouncer in transaction mode is fine. The type parsers and time
 * zones of the application do not matter.
 *
 * @throws {DefinitionError} when the source is none of these, or the connection string no `postgres://` URL.
 *
 * @example
 * ```ts
 * const database = pgDatabase('postgres://app:secret@db.example.com/app?sslmode=verify-full')
 * ```
 */
export function pgDatabase(source: string | PgOptions | PgPool): Database {
  return pooledDatabase<PoolClient>('pgDatabase', source, openPool, (client, statement) =>
    client.query<Row>(asText(statement)),
  )
}

const openPool = (options: PgOptions) => new Pool({ ...options, Client: PgClient } as unknown as PoolConfig)
