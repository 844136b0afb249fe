// The Postgres port over Neon's WebSocket proxy: connections that are kept, where plain TCP does not get through.
import { Client, DatabaseError, Pool, type ClientConfig, type PoolConfig } from '@neondatabase/serverless'
import type { Database, Row, SqlText } from '../db/database.ts'
import { asText, keepPassword, pooledDatabase, type ClientPool, type PgOptions, type PgPool } from './pool.ts'

export { pgDefaults as neonSocketDefaults, type PgConnection, type PgOptions, type PgPool } from './pool.ts'

/**
 * A Neon database over WebSockets, with the `Pool` of `@neondatabase/serverless`. Options, their defaults and the
 * behaviour are those of `pgDatabase`, except that an open connection keeps the process alive until `close()` or
 * `idleTimeoutMillis`. Neon's proxy does the encryption: `sslmode` does not matter. Needs the global `WebSocket` that
 * Node has since version 22, or `neonConfig.webSocketConstructor`.
 *
 * @throws {DefinitionError} when the source is none of these, or the connection string no `postgres://` URL.
 *
 * @example
 * ```ts
 * const database = neonSocketDatabase('postgres://app:secret@ep-example-123.eu-central-1.aws.neon.tech/app')
 * ```
 */
export function neonSocketDatabase(source: string | PgOptions | PgPool): Database {
  return pooledDatabase('neonSocketDatabase', source, openPool, askExtended)
}

function openPool(options: PgOptions): ClientPool<SocketClient> {
  const pool = new Pool(options as PoolConfig)
  pool.Client = SocketClient as typeof Client
  return pool as unknown as ClientPool<SocketClient>
}

class SocketClient extends Client {
  declare readonly release: (destroy?: boolean) => void
  constructor(options: PgOptions) {
    super(options as ClientConfig)
    keepPassword(this, options)
  }
}

const everyRow = 2 ** 31 - 1

/**
 * In the extended protocol, which takes one command only. This driver has no `queryMode` and uses that protocol for
 * statements with values, or with a limit of rows; after an error of the latter it leaves the server waiting.
 */
async function askExtended(client: SocketClient, statement: SqlText): Promise<{ rows: Row[] }> {
  const query = asText(statement)
  if (query.values.length > 0) return client.query<Row>(query)
  try {
    return await client.query<Row>({ ...query, rows: everyRow } as typeof query)
  } catch (error) {
    if (error instanceof DatabaseError) client.connection.sync()
    throw error
  }
}
