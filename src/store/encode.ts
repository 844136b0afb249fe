// Values to and from the text that the database port carries.
import type { Row } from '../db/database.ts'

/** An array literal of any text. */
export function textArray(values: readonly (string | null)[]): string {
  return `{${values.map((value) => (value === null ? 'NULL' : quoted(value))).join(',')}}`
}

/** An array literal of values that need no quotes: uuids, numbers, booleans. */
export function plainArray(values: readonly (string | number | boolean | null)[]): string {
  return `{${values.map((value) => (value === null ? 'NULL' : String(value))).join(',')}}`
}

/** An array literal of instants. */
export function instantArray(values: readonly (Date | null | undefined)[]): string {
  return plainArray(values.map((value) => (value ? `"${value.toISOString()}"` : null)))
}

const quoted = (value: string) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`

/** The row of a statement that always returns one: an answer without it says nothing, and not "nothing was refused". */
export function onlyRow(rows: readonly Row[]): Row {
  const [row] = rows
  if (row === undefined) throw new TypeError('a statement that returns one row was answered with none')
  return row
}

/** The text of a column that cannot be null. */
export function text(row: Row, column: string): string {
  const value = row[column]
  if (value === null || value === undefined) throw new TypeError(`column "${column}" is missing in a row`)
  return value
}

export const optionalText = (row: Row, column: string): string | undefined => row[column] ?? undefined

export const integer = (row: Row, column: string): number => Number(text(row, column))

export function optionalInteger(row: Row, column: string): number | undefined {
  return optionalText(row, column) === undefined ? undefined : integer(row, column)
}

/** A boolean column, which Postgres prints as `t` or `f`. */
export const flag = (row: Row, column: string): boolean => row[column] === 't' || row[column] === 'true'

/** An instant from milliseconds since the epoch. */
export const instant = (row: Row, column: string): Date => new Date(integer(row, column))

export function optionalInstant(row: Row, column: string): Date | undefined {
  const value = row[column]
  return value === null || value === undefined ? undefined : new Date(Number(value))
}

/** JSON text of izta's own making (never a user's payload), or the fallback when null. */
export function json<T>(row: Row, column: string, fallback: T): T {
  const value = row[column]
  return value === null || value === undefined ? fallback : (JSON.parse(value) as T)
}

/** Milliseconds since the epoch, for `instant`: the text of a timestamp depends on settings of the session. */
export const epochMs = (expression: string): string =>
  `(date_part('epoch', ${expression}) * 1000::float8)::bigint`
