// Turns what zod says of an options object into one izta error that names option, value and range.
import type { z } from 'zod'
import { OptionError } from './errors.ts'

/** Names of queues, jobs and schedules. */
export const namePattern = /^[A-Za-z0-9._:-]{1,100}$/
export const nameRule = '1 to 100 of A–Z a–z 0–9 . _ : -'

/** Checks `options` and returns what the schema makes of them; `what` starts the error's sentence. */
export function checkOptions<S extends z.ZodType>(
  what: string,
  schema: S,
  options: unknown,
  fail: (option: string, message: string) => Error = (option, message) => new OptionError(option, message),
): z.output<S> {
  const parsed = schema.safeParse(options)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  if (issue === undefined) throw new Error('zod refused without an issue')
  if (issue.code === 'unrecognized_keys') {
    const option = [...issue.path, issue.keys[0]].join('.')
    throw fail(option, `${what}: unknown option "${option}". Known: ${knownKeys(schema)}.`)
  }
  const option = issue.path.join('.')
  const got = showValue(valueAt(options, issue.path))
  throw fail(
    option,
    option === ''
      ? `${what}: ${lowerFirst(issue.message)}; got ${got}.`
      : `${what}: option "${option}": ${lowerFirst(issue.message)}; got ${got}.`,
  )
}

/** A value as a reader of an error recognizes it: short, on one line, never throwing. */
export function showValue(value: unknown): string {
  try {
    if (typeof value === 'bigint') return `${value}n`
    if (typeof value === 'function') return 'a function'
    if (typeof value === 'number' || value === undefined || typeof value === 'symbol') return String(value)
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid Date' : value.toISOString()
    const text = JSON.stringify(value) ?? String(value)
    return text.length > 80 ? `${text.slice(0, 77)}…` : text
  } catch {
    return `a value of type ${typeof value}`
  }
}

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = (value as Record<PropertyKey, unknown>)[key]
  }
  return value
}

function knownKeys(schema: z.ZodType): string {
  const shape = 'shape' in schema ? (schema.shape as Record<string, unknown>) : {}
  return Object.keys(shape).join(', ')
}

const lowerFirst = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)
