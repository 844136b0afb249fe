// The Postgres port over node-postgres: plain TCP, direct or through PgBouncer in transaction mode.

import { Pool, type PoolClient } from 'pg'
import { DefinitionError } from '../../errors.ts'
import { showValue } from '../../options.ts'
import { assertConnectionString } from '../connection-string.ts'
import type { Database, Row, Statement } from '../database.ts'
import { placeOf } from '../redact.ts'
import { toDatabaseError } from '../transient.ts'

/** What izta needs of a pool of the application: a `pg.Pool` or anything with its `query`. */
export interface PgPool {
  query(config: {
    text: string
    values: (string | null)[]
    queryMode: 'extended'
    types: { getTypeParser: () => (text: string) => string }
  }): Promise<{ rows: Row[] }>
  /** What the pool was made with; host, port and database are named in messages. */
  readonly options?: Parameters<typeof placeOf>[0]
}

/** How to connect. Every other option of `pg.Pool` is passed on as it is. */
export interface PgOptions {
  /** For example `postgres://user:password@host:5432/app`; TLS is what it says. */
  connectionString?: string
  host?: string
  /** @default 5432 */
  port?: number
  user?: string
  /** A function is called for each new connection, for passwords that change. */
  password?: string | (() => string | Promise<string>)
  database?: string
  /** Most connections at a time. @default 5 */
  max?: number
  /** Milliseconds after which an unused connection is closed; 0 keeps it. @default 30000 */
  idleTimeoutMillis?: number
  /** Milliseconds to wait for a connection. @default 10000 */
  connectionTimeoutMillis?: number
  /** Milliseconds to wait for the reply to a statement. @default 30000 */
  query_timeout?: number
  [option: string]: unknown
}

/** Defaults of `pgDatabase`; times in milliseconds, named as pg names them. */
export const pgDefaults = {
  max: 5,
  idleTimeoutMillis: 30_000,
  connectionTimeoutMillis: 10_000,
  query_timeout: 30_000,
  keepAlive: true,
  allowExitOnIdle: true,
} as const

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
 * const database = pgDatabase('postgres://app:secret@db.example.com/app')
 * ```
 */
export function pgDatabase(source: string | PgOptions | PgPool): Database {
  if (typeof source === 'string' || source === undefined || source === null) {
    assertConnectionString(expected, source)
    return ownPool({ connectionString: source })
  }
  if (typeof source !== 'object') throw new DefinitionError(`${expected}; got ${showValue(source)}.`)
  if (isPool(source)) return givenPool(source)
  // Left undefined, pg would take localhost for it.
  if ('connectionString' in source && (source.connectionString !== undefined || source.host === undefined)) {
    assertConnectionString(
      'pgDatabase: option "connectionString": expected text such as postgres://user:password@host/database',
      source.connectionString,
    )
  }
  return ownPool(source)
}

const expected =
  'pgDatabase: expected a connection string such as postgres://user:password@host/database, a pg.Pool or options of pg.Pool'

function isPool(source: PgOptions | PgPool): source is PgPool {
  return typeof source.query === 'function'
}

function givenPool(pool: PgPool): Database {
  const where = pool.options === undefined ? 'the given pool' : placeOf(pool.options)
  return {
    async query(statement) {
      try {
        const { rows } = await pool.query(asText(statement))
        return rows
      } catch (error) {
        throw toDatabaseError(error, where)
      }
    },
  }
}

function ownPool(options: PgOptions): Database {
  const where = placeOf(options)
  const settings = { ...pgDefaults, ...options }
  let pool: Pool | undefined
  let closing: Promise<void> | undefined
  const usedAt = new WeakMap<PoolClient, number>()

  function open(): Pool {
    const opened = new Pool(settings)
    // Without listeners a connection that the server drops (57P01, a restart) ends the process.
    opened.on('error', () => undefined)
    opened.on('connect', (client) => client.on('error', () => undefined))
    return opened
  }

  /** A connection that is not suspect: while a Lambda is frozen no timer retires the idle ones. */
  async function checkOut(): Promise<PoolClient> {
    pool ??= open()
    const client = await pool.connect()
    const idleMs = Date.now() - (usedAt.get(client) ?? Date.now())
    if (settings.idleTimeoutMillis === 0 || idleMs <= settings.idleTimeoutMillis) return client
    client.release(true)
    return checkOut()
  }

  return {
    async query(statement) {
      const client = await checkOut().catch((error: unknown) => {
        throw toDatabaseError(error, where, { sent: false })
      })
      try {
        const { rows } = await client.query<Row>(asText(statement))
        usedAt.set(client, Date.now())
        client.release()
        return rows
      } catch (thrown) {
        const error = toDatabaseError(thrown, where)
        usedAt.set(client, Date.now())
        // An answer, be it an error, shows that the connection works.
        client.release(error.sqlState === undefined)
        throw error
      }
    },
    close: () => (closing ??= (pool ??= open()).end()),
  }
}

/** Text in and out whatever type parsers are set, unnamed for PgBouncer, and one command only as over HTTP. */
function asText({ text, values }: Statement) {
  return {
    text,
    values: [...values],
    queryMode: 'extended' as const,
    types: { getTypeParser: () => (value: string) => value },
  }
}
