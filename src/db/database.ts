// The database port: one method that runs one statement; every value goes in and comes back as text.

/**
 * One SQL statement with its values. Values are text in Postgres' own input format (arrays as array literals),
 * so that every driver sends the same bytes and none of its type settings matters.
 */
export interface SqlText {
  readonly text: string
  readonly values: readonly (string | null)[]
}

/**
 * How a statement uses a connection. `turn`: it claims or settles for a runner, and connections are reserved for it.
 * `may-wait`: it may wait for a lock that another transaction holds, so only some connections are given to such
 * statements. `quick`: it does neither.
 */
export type Lane = 'turn' | 'quick' | 'may-wait'

/** A statement of izta's own. Required in each, so that none waits for locks in the place of others unnoticed. */
export interface Statement extends SqlText {
  readonly lane: Lane
}

/** How one statement is sent. */
export interface QueryOptions {
  /** Aborts when the caller waits no longer: then the connection is closed and the statement given up. */
  readonly signal?: AbortSignal | undefined
}

/** A row as Postgres prints it: column name → text, or null. */
export type Row = Record<string, string | null>

/**
 * What izta needs of a database. Each call is one statement in a transaction of its own: no session state, so it
 * works over HTTP, through PgBouncer in transaction mode and over plain TCP alike.
 *
 * A call throws a `DatabaseError`; its `outcome` says whether the statement may have been applied nevertheless.
 */
export interface Database {
  query(statement: SqlText, options?: QueryOptions): Promise<Row[]>
  /**
   * How many statements the database can carry at once, such as the size of a pool. More than that wait in izta, in
   * order, and not in the driver. @default 10
   */
  readonly connections?: number | undefined
  /** The largest reply the driver can carry, in bytes; absent when there is no such limit. */
  readonly replyLimitBytes?: number
  /**
   * Whether enqueues of several callers may travel in one statement. True for connections that the adapter opens
   * itself, to which all callers are alike. Leave it out where a statement may belong to the transaction of its caller,
   * also in a copy of an adapter whose `query` is another.
   */
  readonly joinsEnqueues?: boolean
  /** Ends connections that the adapter opened itself. */
  close?(): Promise<void>
}

/** What a wrapper passes on as it is. */
export function traitsOf(database: Database): Omit<Database, 'query' | 'close'> {
  const { connections, replyLimitBytes, joinsEnqueues } = database
  return {
    ...(connections === undefined ? {} : { connections }),
    ...(replyLimitBytes === undefined ? {} : { replyLimitBytes }),
    ...(joinsEnqueues === undefined ? {} : { joinsEnqueues }),
  }
}

/** The schema's name as it stands in every statement and migration of izta. */
export const writtenSchema = 'izta'

/** Puts the configured schema name in place of the written one. */
export function bindSchema(text: string, schema: string): string {
  if (schema === writtenSchema) return text
  return text.replaceAll(/\bizta\b/g, () => `"${schema.replaceAll('"', '""')}"`)
}

/** A database whose statements run in `schema`; each static text is translated once. */
export function inSchema(database: Database, schema: string): Database {
  if (schema === writtenSchema) return database
  const texts = new Map<string, string>()
  return {
    ...traitsOf(database),
    query(statement, options) {
      let text = texts.get(statement.text)
      if (text === undefined) texts.set(statement.text, (text = bindSchema(statement.text, schema)))
      return database.query({ ...statement, text }, options)
    },
    close: async () => database.close?.(),
  }
}
