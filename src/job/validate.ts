// Runs a Standard Schema and gives its answer in izta's own words.
import { type InputIssue, readableMessage } from '../errors.ts'
import type { Schema } from './job.ts'
import { showValue, valueAt } from '../options.ts'
import { withoutUndefined } from './without-undefined.ts'

export type Validated =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly issues: readonly InputIssue[] }

/** Validates a value. Answers at once where the schema does, so that callers wait only for asynchronous ones. */
export function validate(schema: Schema | undefined, value: unknown): Validated | Promise<Validated> {
  if (schema === undefined) return { ok: true, value }
  try {
    const result = schema['~standard'].validate(value)
    // Not `instanceof`: a promise of another realm or library would pass for a result without issues.
    if ('then' in result) return Promise.resolve(result).then((answer) => read(answer, value), refuse)
    return read(result, value)
  } catch (error) {
    return refuse(error)
  }
}

/**
 * Validates a result or a declared error. Properties that are undefined count as left out where the schema wants them
 * so: some schemas tell the two apart, and the type of an optional property usually does not.
 */
export async function validateProduced(schema: Schema | undefined, value: unknown): Promise<Validated> {
  const validated = await validate(schema, value)
  if (validated.ok) return validated
  const rest = withoutUndefined(value)
  return rest === value ? validated : validate(schema, rest)
}

/** Of a long list that is all wrong the first say enough; each is put into words, stored and sent. */
const listedIssues = 100

type StandardResult = Awaited<ReturnType<Schema['~standard']['validate']>>

function read(result: StandardResult, value: unknown): Validated {
  if (result.issues === undefined) return { ok: true, value: result.value }
  const issues = result.issues.slice(0, listedIssues).map(({ message, path = [] }) => {
    const keys = path.map((segment) => (typeof segment === 'object' ? segment.key : segment))
    const got = showValue(valueAt(value, keys))
    // Some libraries say themselves what they got.
    const full = message.includes(got) ? message : `${message.replace(/\.$/, '')}; got ${got}`
    return { path: keys.map(String).join('.'), code: 'schema', message: full }
  })
  const more = result.issues.length - issues.length
  if (more > 0) issues.push({ path: '', code: 'schema', message: `and ${more} more` })
  return { ok: false, issues }
}

const refuse = (error: unknown): Validated => ({
  ok: false,
  issues: [{ path: '', code: 'schema', message: `the schema threw: ${readableMessage(error)}` }],
})

/** The issues as one sentence; those of other codes than `schema` name their path themselves. */
export function describeIssues(issues: readonly InputIssue[]): string {
  return issues
    .map(({ path, code, message }) => (path === '' || code !== 'schema' ? message : `"${path}": ${message}`))
    .join('; ')
}
