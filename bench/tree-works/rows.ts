// Rows for big tables: copies of one that the product has made, whatever columns its tables have.
import type { Client } from 'pg'

/**
 * Copies the first row of a table of izta so often, `n` counting the copies from 1.
 *
 * @param given SQL for the columns that differ between the copies; a column that the table has not is left out
 */
export async function copyRows(
  watcher: Client,
  table: 'task' | 'history' | 'queue',
  count: number,
  given: Readonly<Record<string, string>>,
): Promise<void> {
  if (count === 0) return
  const { rows } = await watcher.query<{ name: string }>(
    `select column_name as name from information_schema.columns
     where table_schema = 'izta' and table_name = $1 order by ordinal_position`,
    [table],
  )
  const columns = rows.map(({ name }) => given[name] ?? `"${name}"`).join(', ')
  const { rowCount } = await watcher.query(
    `insert into izta.${table} select ${columns} from (select * from izta.${table} limit 1) one,
     generate_series(1, $1::integer) n`,
    [count],
  )
  if (rowCount !== count) throw new Error(`izta.${table} has no row to copy`)
}

/** Tasks of tomorrow and later, one a second. */
export const futureTasks = {
  id: 'uuidv7()',
  priority: 'n % 10',
  run_at: `now() + interval '1 day' + n * interval '1 s'`,
  due_at: `now() + interval '1 day' + n * interval '1 s'`,
  key: 'null',
} as const
