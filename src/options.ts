// Turns what zod says of an options object into one izta error that names option, value and range.
import * as z from 'zod'
import { OptionError } from './errors.ts'

/** Names of queues, jobs and schedules. */
export const namePattern = /^[A-Za-z0-9._:-]{1,100}$/
export const nameRule = '1 to 100 of A–Z a–z 0–9 . _ : -'
export const nameSchema = z.string().regex(namePattern).describe(nameRule)

/** Checks `options` and returns what the schema makes of them; `what` starts the error's sentence. */
export function checkOptions<S extends z.ZodType>(
  what: string,
  schema: S,
  options: unknown,
  fail: (option: string, message: string) => Error = (option, message) => new OptionError(option, message),
): z.output<S> {
  // An empty message marks an issue for which the schema has no words of its own.
  const parsed = schema.safeParse(options, { error: () => '' })
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  if (issue === undefined) throw new Error('zod refused without an issue')
  if (issue.code === 'unrecognized_keys') {
    const option = [...issue.path, issue.keys[0]].join('.')
    const known = Object.keys(shapeOf(schemaAt(schema, issue.path))).join(', ')
    throw fail(option, `${what}: unknown option "${option}". Known: ${known}.`)
  }
  const option = issue.path.join('.')
  const expected =
    issue.message === '' ? `expected ${expectation(schemaAt(schema, issue.path))}` : issue.message
  const got = showValue(valueAt(options, issue.path))
  throw fail(option, `${what}: ${option === '' ? '' : `option "${option}": `}${expected}; got ${got}.`)
}

/** A value as a reader of an error recognizes it: short, on one line, without passwords of URLs, never throwing. */
export function showValue(value: unknown): string {
  try {
    if (typeof value === 'bigint') return `${value}n`
    if (typeof value === 'function') return 'a function'
    if (typeof value === 'number' || value === undefined || typeof value === 'symbol') return String(value)
    if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid Date' : value.toISOString()
    const text = withoutPasswords(JSON.stringify(value) ?? String(value))
    return text.length > 80 ? `${text.slice(0, 77)}…` : text
  } catch {
    return `a value of type ${typeof value}`
  }
}

/** A connection string is easily passed to the wrong option. */
function withoutPasswords(text: string): string {
  return text.replaceAll(/:\/\/.*@/gs, '://***@').replaceAll(/(password=)[^&\s"]+/gi, '$1***')
}

/** What stands at a path, undefined where the path ends early. */
export function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  for (const key of path) {
    if (typeof value !== 'object' || value === null) return undefined
    value = Reflect.get(value, key)
  }
  return value
}

/** What an option takes, in words: its description, else what its kind and range say. */
function expectation(schema: z.core.$ZodType | undefined): string {
  if (schema instanceof z.ZodType && schema.description !== undefined) return schema.description
  if (schema instanceof z.ZodNumber) {
    const kind = schema.format === 'safeint' ? 'a whole number' : 'a number'
    return `${kind}${rangeOf(schema.minValue ?? -Infinity, schema.maxValue ?? Infinity)}`
  }
  if (schema instanceof z.ZodEnum) return schema.options.map(showValue).join(' or ')
  if (schema instanceof z.ZodLiteral) return [...schema.values].map(showValue).join(' or ')
  if (schema instanceof z.ZodBoolean) return 'true or false'
  if (schema instanceof z.ZodDate) return 'a valid Date'
  if (schema instanceof z.ZodString) return 'text'
  if (schema instanceof z.ZodArray) return 'an array'
  if (schema instanceof z.ZodObject) return `an object with ${Object.keys(schema.shape).join(', ')}`
  return 'another value'
}

function rangeOf(min: number, max: number): string {
  const [hasMin, hasMax] = [Math.abs(min) < Number.MAX_SAFE_INTEGER, Math.abs(max) < Number.MAX_SAFE_INTEGER]
  if (hasMin && hasMax) return ` from ${min} to ${max}`
  return hasMin ? ` of at least ${min}` : hasMax ? ` of at most ${max}` : ''
}

function schemaAt(
  schema: z.core.$ZodType | undefined,
  path: readonly PropertyKey[],
): z.core.$ZodType | undefined {
  let found = unwrapped(schema)
  for (const key of path) {
    found = unwrapped(found instanceof z.ZodArray ? found.element : shapeOf(found)[String(key)])
  }
  return found
}

/** The schema under defaults and `optional`; the outer description counts. */
function unwrapped(schema: z.core.$ZodType | undefined): z.core.$ZodType | undefined {
  while (
    schema instanceof z.ZodOptional ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
  ) {
    schema = schema.unwrap()
  }
  return schema
}

function shapeOf(schema: z.core.$ZodType | undefined): Record<string, z.core.$ZodType | undefined> {
  return schema instanceof z.ZodObject ? schema.shape : {}
}
