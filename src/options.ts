// Turns what zod says of an options object into one izta error that names option, value and range.
import * as z from 'zod/mini'
import { OptionError } from './errors.ts'

/** Names of queues, jobs and schedules. */
export const namePattern = /^[A-Za-z0-9._:-]{1,100}$/
export const nameRule = '1 to 100 of A–Z a–z 0–9 . _ : -'
export const nameSchema = z.string().check(z.regex(namePattern), z.describe(nameRule))

/** Ends a call when it aborts. */
export const signalSchema = z.optional(
  z.custom<AbortSignal>((value) => value instanceof AbortSignal).check(z.describe('an AbortSignal')),
)

/** A number in this range. */
export const numberFrom = (min: number, max: number) => z.number().check(z.minimum(min), z.maximum(max))

/** A whole number in this range. */
export const intFrom = (min: number, max: number) => z.int().check(z.minimum(min), z.maximum(max))

/** Checks `options` and returns what the schema makes of them; `what` starts the error's sentence. */
export function checkOptions<S extends z.ZodMiniType>(
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

const cycleAdvice =
  'two files that import each other see undefined: define the job without run, and add the handler in a file of its own with implementJob'

/** A value that another file exports, as `showValue` has it, and why it may be undefined. */
export const showImported = (value: unknown): string =>
  value === undefined ? `undefined (${cycleAdvice})` : showValue(value)

/** A schema of a value that another file exports. */
export const importedSchema = <T>(what: string, fits: (value: unknown) => boolean) =>
  z.custom<T>(fits, {
    error: ({ input }) => `expected ${what}${input === undefined ? ` (${cycleAdvice})` : ''}`,
  })

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
function expectation(schema: Schema | undefined): string {
  if (schema === undefined) return 'another value'
  const description = z.globalRegistry.get(schema)?.description
  if (description !== undefined) return description
  const { def } = schema._zod
  switch (def.type) {
    case 'number':
      return `${'format' in def ? 'a whole number' : 'a number'}${rangeOf(def.checks ?? [])}`
    case 'enum':
      return Object.values(def.entries).map(showValue).join(' or ')
    case 'literal':
      return def.values.map(showValue).join(' or ')
    case 'boolean':
      return 'true or false'
    case 'date':
      return 'a valid Date'
    case 'string':
      return 'text'
    case 'array':
      return 'an array'
    case 'object':
      return `an object with ${Object.keys(def.shape).join(', ')}`
    default:
      return 'another value'
  }
}

function rangeOf(checks: readonly z.core.$ZodCheck[]): string {
  const bounds = checks.map((check) => (check as z.core.$ZodChecks)._zod.def)
  const min = bounds.find((bound) => bound.check === 'greater_than')?.value as number | undefined
  const max = bounds.find((bound) => bound.check === 'less_than')?.value as number | undefined
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`
  return min !== undefined ? ` of at least ${min}` : max !== undefined ? ` of at most ${max}` : ''
}

function schemaAt(schema: z.core.$ZodType, path: readonly PropertyKey[]): Schema | undefined {
  let found: Schema | undefined = unwrapped(schema)
  for (const key of path) {
    const next = partOf(found, key)
    found = next && unwrapped(next)
  }
  return found
}

function partOf(schema: Schema | undefined, key: PropertyKey): z.core.$ZodType | undefined {
  return schema?._zod.def.type === 'array' ? schema._zod.def.element : shapeOf(schema)[String(key)]
}

/** The schema under defaults and `optional`; the inner description counts. */
function unwrapped(schema: z.core.$ZodType): Schema {
  let found = schema as Schema
  for (;;) {
    const { def } = found._zod
    if (def.type !== 'optional' && def.type !== 'default' && def.type !== 'prefault') return found
    found = def.innerType as Schema
  }
}

const shapeOf = (schema: Schema | undefined): z.core.$ZodShape =>
  schema?._zod.def.type === 'object' ? schema._zod.def.shape : {}

/** Any schema, told from others by `_zod.def.type`. */
type Schema = z.core.$ZodTypes
