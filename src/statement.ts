// Runs one statement of the store, repeated while the database is unreachable or busy.
import type { ResolvedConfig } from './config.ts'
import type { Row, Statement } from './db/database.ts'
import { repeat } from './db/repeat.ts'

/** For statements that may run twice without harm. */
export async function runStatement(
  { database, clock }: Pick<ResolvedConfig, 'database' | 'clock'>,
  statement: Statement,
): Promise<Row[]> {
  const { rows } = await repeat(database, clock, () => statement)
  return rows
}
