// Runs a Standard Schema and gives its answer in izta's own words.
import type { InputIssue } from '../errors.ts'
import type { Schema } from './job.ts'
import { readableMessage } from './json.ts'

export type Validated =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly issues: readonly InputIssue[] }

/** Validates a value. Answers at once where the schema does, so that callers wait only for asynchronous ones. */
export function validate(schema: Schema | undefined, value: unknown): Validated | Promise<Validated> {
  if (schema === undefined) return { ok: true, value }
  try {
    const result = schema['~standard'].validate(value)
    return result instanceof Promise ? result.then(read, refuse) : read(result)
  } catch (error) {
    return refuse(error)
  }
}

type StandardResult = Awaited<ReturnType<Schema['~standard']['validate']>>

function read(result: StandardResult): Validated {
  if (result.issues === undefined) return { ok: true, value: result.value }
  return {
    ok: false,
    issues: result.issues.map(({ message, path }) => ({
      path: (path ?? []).map((segment) => String(typeof segment === 'object' ? segment.key : segment)).join('.'),
      code: 'schema',
      message,
    })),
  }
}

const refuse = (error: unknown): Validated => ({
  ok: false,
  issues: [{ path: '', code: 'schema', message: `the schema threw: ${readableMessage(error)}` }],
})

/** The issues as one sentence. */
export function describeIssues(issues: readonly InputIssue[]): string {
  return issues.map(({ path, message }) => (path === '' ? message : `${path}: ${message}`)).join('; ')
}
