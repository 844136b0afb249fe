// Reads the arguments of a statement by their names.
import type { SqlText } from '../../src/db/database.ts'

/** The value that the statement passes as this argument of its function; undefined when it does not pass it. */
export function argument({ text, values }: SqlText, name: string): string | null | undefined {
  const place = new RegExp(`\\b${name} => \\$(\\d+)`).exec(text)?.[1]
  return place === undefined ? undefined : values[Number(place) - 1]
}

/** The elements of an array argument whose elements need no quotes. */
export function elements(statement: SqlText, name: string): string[] {
  const literal = argument(statement, name) ?? '{}'
  return literal === '{}' ? [] : literal.slice(1, -1).split(',')
}
