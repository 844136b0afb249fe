// Strict JSON: what cannot be stored and read back as it was is refused, with its path, before anything is sent.
import { defaults } from '../defaults.ts'
import type { InputIssue } from '../errors.ts'

export type Encoded =
  | { readonly ok: true; readonly text: string; readonly bytes: number }
  | {
      readonly ok: false
      readonly code: 'payload-not-json' | 'payload-too-large'
      readonly issue: InputIssue
    }

export interface EncodeOptions {
  readonly limitBytes: number
  /**
   * What becomes of `{ a: undefined }`: refused where the caller can still mend it (payloads), left out where the
   * work has been done already (results).
   */
  readonly undefinedProperties: 'refuse' | 'omit'
}

/** Encodes a value as JSON text that Postgres' `json` type stores verbatim. */
export function encodeJson(value: unknown, options: EncodeOptions): Encoded {
  let problem: Problem | undefined
  let text: string | undefined
  try {
    problem = findProblem(value, 0, options.undefinedProperties === 'omit')
    if (problem === undefined) text = JSON.stringify(value)
  } catch (error) {
    problem = { path: [], message: `cannot be read: ${readableMessage(error)}` }
  }
  if (problem?.tooDeep === true) problem = findCycle(value, new Set()) ?? problem
  if (problem !== undefined || text === undefined) {
    const path = problem?.path.join('.') ?? ''
    const message = `${path === '' ? 'the value' : `"${path}"`} ${problem?.message ?? 'is not JSON'}`
    return { ok: false, code: 'payload-not-json', issue: { path, code: 'not-json', message } }
  }
  const bytes = Buffer.byteLength(text)
  if (bytes > options.limitBytes) {
    const message = `is ${bytes} bytes as JSON, above the limit of ${options.limitBytes}: store the bulk elsewhere and pass a reference`
    return { ok: false, code: 'payload-too-large', issue: { path: '', code: 'too-large', message } }
  }
  return { ok: true, text, bytes }
}

interface Problem {
  readonly path: PropertyKey[]
  readonly message: string
  readonly tooDeep?: true
}

const at = (key: PropertyKey, problem: Problem): Problem => {
  problem.path.unshift(key)
  return problem
}

function findProblem(value: unknown, depth: number, omitUndefined: boolean): Problem | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined
    case 'number':
      return Number.isFinite(value)
        ? undefined
        : { path: [], message: `is ${value}, which JSON cannot hold: use null or a string` }
    case 'undefined':
      return { path: [], message: 'is undefined, which JSON cannot hold: leave it out or use null' }
    case 'object':
      break
    default:
      return { path: [], message: `is a ${typeof value}, which JSON cannot hold` }
  }
  if (value === null) return undefined
  if (depth >= defaults.nestingLimit) {
    return { path: [], message: `is nested deeper than ${defaults.nestingLimit} levels`, tooDeep: true }
  }
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) {
      const problem = findProblem(value[index], depth + 1, omitUndefined)
      if (problem !== undefined) return at(index, problem)
    }
    return undefined
  }
  const prototype: unknown = Object.getPrototypeOf(value)
  if (prototype !== Object.prototype && prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    return { path: [], message: `is a ${className(value)}, not a plain object: ${advice(value)}` }
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    return { path: [], message: 'has a toJSON method and would not be stored as it is: pass plain data' }
  }
  for (const key of Object.keys(value)) {
    const item: unknown = (value as Record<string, unknown>)[key]
    if (item === undefined && omitUndefined) continue
    const problem = findProblem(item, depth + 1, omitUndefined)
    if (problem !== undefined) return at(key, problem)
  }
  return undefined
}

function findCycle(value: unknown, ancestors: Set<object>): Problem | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (ancestors.has(value)) return { path: [], message: 'is one of its own ancestors (a cycle)' }
  if (ancestors.size > defaults.nestingLimit) return undefined
  ancestors.add(value)
  for (const [key, item] of Object.entries(value)) {
    const problem = findCycle(item, ancestors)
    if (problem !== undefined) return at(key, problem)
  }
  ancestors.delete(value)
  return undefined
}

const className = (value: object) =>
  (value.constructor as { name?: string } | undefined)?.name ?? 'class instance'

function advice(value: object): string {
  if (value instanceof Date) return 'pass value.toISOString() and let the schema make it a Date'
  if (value instanceof Map || value instanceof Set) return 'pass an array of its entries'
  if (ArrayBuffer.isView(value)) return 'pass a base64 string'
  return 'pass its data as a plain object'
}

/** The message of anything that can be thrown; never throws itself. */
export function readableMessage(thrown: unknown): string {
  try {
    if (thrown instanceof Error) return String(thrown.message)
    if (typeof thrown === 'string') return thrown
    return JSON.stringify(thrown) ?? String(thrown)
  } catch {
    return `a value of type ${typeof thrown} that cannot be printed`
  }
}
