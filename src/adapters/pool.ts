// The Postgres port over a pool of connections with the interface of pg.Pool, whoever makes it.
import { DefinitionError } from '../errors.ts'
import { showValue } from '../options.ts'
import { assertConnectionString } from '../db/connection-string.ts'
import type { Database, Row, SqlText } from '../db/database.ts'
import { placeOf } from '../db/redact.ts'
import { endsConnection, toDatabaseError } from '../db/transient.ts'

/** What izta needs of a pool of the application: a `pg.Pool` or anything with its `query`. */
export interface PgPool {
  query(config: {
    text: string
    values: (string | null)[]
    queryMode: 'extended'
    types: { getTypeParser: () => (text: string) => string }
  }): Promise<{ rows: Row[] }>
  /** Options of the pool: host, port and database are named in messages, `max` is its size. */
  readonly options?: Parameters<typeof placeOf>[0] & { readonly max?: number }
}

/** What a connection is opened with, as its password function gets it. */
export interface PgConnection {
  readonly host: string
  readonly port: number
  readonly user: string
  /** `false` without TLS. */
  readonly ssl: unknown
}

/** How to connect. Every other option of `pg.Pool` is passed on as it is. */
export interface PgOptions {
  /** For example `postgres://user:password@host:5432/app?sslmode=verify-full`; without `sslmode` there is no TLS. */
  connectionString?: string
  host?: string
  /** @default 5432 */
  port?: number
  user?: string
  /** A function is called for each new connection, for passwords that change: `rdsToken()` of `izta/lambda`. */
  password?: string | ((connection: PgConnection) => string | Promise<string>)
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

/** Defaults of the pools that izta opens; times in milliseconds, named as pg names them. */
export const pgDefaults = {
  max: 5,
  idleTimeoutMillis: 30_000,
  connectionTimeoutMillis: 10_000,
  query_timeout: 30_000,
  keepAlive: true,
  allowExitOnIdle: true,
} as const

/** The parts of `pg.Pool` and its clients that are used here. */
export interface ClientPool<Client extends PoolClient> {
  connect(): Promise<Client>
  end(): Promise<void>
  on(event: 'error', listener: () => void): unknown
  on(event: 'connect', listener: (client: ErrorSource) => void): unknown
}

export interface PoolClient extends ErrorSource {
  release(destroy?: boolean): void
}

interface ErrorSource {
  on(event: 'error', listener: () => void): unknown
}

/**
 * The database behind what an adapter was given. `openPool` makes its pool, the defaults filled in; `ask` sends a
 * statement over a connection.
 *
 * @throws {DefinitionError} when the source is none of these, or the connection string no `postgres://` URL.
 */
export function pooledDatabase<Client extends PoolClient>(
  adapter: string,
  source: string | PgOptions | PgPool,
  openPool: (options: PgOptions) => ClientPool<Client>,
  ask: (client: Client, statement: SqlText) => Promise<{ rows: Row[] }>,
): Database {
  if (typeof source === 'object' && source !== null && isPool(source)) return givenPool(source)
  return ownPool(checkPgOptions(adapter, source), openPool, ask)
}

/**
 * Options from what an adapter was given.
 *
 * @throws {DefinitionError} when it is neither, or the connection string no `postgres://` URL.
 */
export function checkPgOptions(
  adapter: string,
  source: string | PgOptions,
  others = 'a pg.Pool or options of pg.Pool',
): PgOptions {
  const expected = `${adapter}: expected a connection string such as postgres://user:password@host/database, ${others}`
  if (typeof source === 'string' || source === undefined || source === null) {
    assertConnectionString(expected, source)
    return { connectionString: source }
  }
  if (typeof source !== 'object') throw new DefinitionError(`${expected}; got ${showValue(source)}.`)
  const { connectionString, password } = source
  // Left undefined, pg would take localhost for it.
  if ('connectionString' in source && (connectionString !== undefined || source.host === undefined)) {
    assertConnectionString(
      `${adapter}: option "connectionString": expected text such as postgres://user:password@host/database`,
      connectionString,
    )
    if (password !== undefined && URL.parse(connectionString)?.password !== '') {
      throw new DefinitionError(
        `${adapter}: option "password": the connection string has a password as well: take one of them out.`,
      )
    }
  }
  return source
}

function isPool(source: PgOptions | PgPool): source is PgPool {
  return typeof source.query === 'function'
}

/** One database per pool, so that all who are given the pool share one gate. */
const givenPools = new WeakMap<PgPool, Database>()

function givenPool(pool: PgPool): Database {
  const known = givenPools.get(pool)
  if (known !== undefined) return known
  const made = overPool(pool)
  givenPools.set(pool, made)
  return made
}

function overPool(pool: PgPool): Database {
  const where = pool.options === undefined ? 'the given pool' : placeOf(pool.options)
  return {
    get connections() {
      return pool.options?.max
    },
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

function ownPool<Client extends PoolClient>(
  options: PgOptions,
  openPool: (options: PgOptions) => ClientPool<Client>,
  ask: (client: Client, statement: SqlText) => Promise<{ rows: Row[] }>,
): Database {
  const where = placeOf(options)
  const settings = { ...pgDefaults, ...options }
  let pool: ClientPool<Client> | undefined
  let closing: Promise<void> | undefined
  const usedAt = new WeakMap<Client, number>()

  function open(): ClientPool<Client> {
    const opened = openPool(settings)
    // Without listeners a connection that the server drops (57P01, a restart) ends the process.
    opened.on('error', () => undefined)
    opened.on('connect', (client) => client.on('error', () => undefined))
    return opened
  }

  /** A connection that is not suspect: while a Lambda is frozen no timer retires the idle ones. */
  async function checkOut(): Promise<Client> {
    pool ??= open()
    const client = await pool.connect()
    const idleMs = Date.now() - (usedAt.get(client) ?? Date.now())
    if (settings.idleTimeoutMillis === 0 || idleMs <= settings.idleTimeoutMillis) return client
    client.release(true)
    return checkOut()
  }

  return {
    connections: settings.max,
    joinsEnqueues: true,
    async query(statement, { signal } = {}) {
      const client = await checkOut().catch((error: unknown) => {
        throw toDatabaseError(error, where, { sent: false })
      })
      let isHeld = true
      const giveBack = (isGood: boolean) => {
        if (!isHeld) return
        isHeld = false
        usedAt.set(client, Date.now())
        client.release(!isGood)
      }
      // Closes the connection under the statement, which ends its waiting here; the server notices by itself.
      const giveUp = () => giveBack(false)
      try {
        if (signal?.aborted === true) throw notSent
        signal?.addEventListener('abort', giveUp)
        const { rows } = await ask(client, statement)
        giveBack(true)
        return rows
      } catch (thrown) {
        giveBack(thrown === notSent || !endsConnection(thrown))
        throw toDatabaseError(thrown, where, { sent: thrown !== notSent })
      } finally {
        signal?.removeEventListener('abort', giveUp)
      }
    },
    close: () => (closing ??= (pool ??= open()).end()),
  }
}

const notSent = new Error('the caller waits no longer')

/** Text in and out whatever type parsers are set, unnamed for PgBouncer, and one command only as over HTTP. */
export function asText({ text, values }: SqlText) {
  return {
    text,
    values: [...values],
    queryMode: 'extended' as const,
    types: { getTypeParser: () => (value: string) => value },
  }
}

/** The drivers take an empty password from a connection string without one, whatever the option says. */
export function keepPassword(client: object, { password }: PgOptions): void {
  if (password === undefined) return
  if (typeof password === 'string') return void Object.assign(client, { password })
  const askForPassword = async (connection: PgConnection) => {
    try {
      return await password(connection)
    } catch (error) {
      // The drivers leave the connection open, on which the server waits for a password for a minute.
      setImmediate(() => streamOf(client).destroy())
      throw error
    }
  }
  Object.assign(client, { password: askForPassword })
}

/** The types of the drivers leave it out. */
const streamOf = (client: object) =>
  (client as { connection: { stream: { destroy(): void } } }).connection.stream
