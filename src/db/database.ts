// The database port: one method that runs one statement; every value goes in and comes back as text.

/**
 * One SQL statement with its values. Values are text in Postgres' own input format (arrays as array literals),
 * so that every driver sends the same bytes and none of its type settings matters.
 */
export interface Statement {
  readonly text: string
  readonly values: readonly (string | null)[]
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
  query(statement: Statement): Promise<Row[]>
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
export function traitsOf({ replyLimitBytes, joinsEnqueues }: Database): Omit<Database, 'query' | 'close'> {
  return {
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
    query(statement) {
      let text = texts.get(statement.text)
      if (text === undefined) texts.set(statement.text, (text = bindSchema(statement.text, schema)))
      return database.query({ text, values: statement.values })
    },
    close: async () => database.close?.(),
  }
}
