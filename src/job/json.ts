// Strict JSON: a value that cannot be stored and read back as it was is refused, with its path, before it is sent.
import { defaults } from '../defaults.ts'
import { type InputIssue, readableMessage } from '../errors.ts'
import { showValue } from '../options.ts'

export type Encoded =
  | {
      readonly ok: true
      readonly text: string
      readonly bytes: number
      /** Whether the value has properties that are undefined, which the text leaves out. */
      readonly isShortened: boolean
    }
  | {
      readonly ok: false
      readonly code: 'payload-not-json' | 'payload-too-large'
      readonly issue: InputIssue
    }

/**
 * Encodes a value as JSON text that Postgres' `json` type stores verbatim. Properties that are undefined are left out;
 * apart from them only -0 comes back changed, as 0. Never recurses, so that deep values do not depend on how much of
 * the stack is left.
 */
export function encodeJson(value: unknown, limitBytes: number): Encoded {
  let found: Found
  let text = ''
  try {
    found = inspect(value, limitBytes)
    if (found.problem === undefined) text = stringify(value)
  } catch (error) {
    found = {
      problem: { path: [], message: `cannot be read: ${readableMessage(error)}` },
      isShortened: false,
    }
  }
  const { problem, isShortened } = found
  if (problem === tooMany) return tooLarge('more than', limitBytes, limitBytes)
  if (problem !== undefined) {
    const message = `${problem.path.length === 0 ? 'the value' : `"${shown(problem.path)}"`} ${problem.message}`
    return {
      ok: false,
      code: 'payload-not-json',
      issue: { path: problem.path.join('.'), code: 'not-json', message },
    }
  }
  const bytes = Buffer.byteLength(text)
  return bytes > limitBytes ? tooLarge('', bytes, limitBytes) : { ok: true, text, bytes, isShortened }
}

function tooLarge(about: string, bytes: number, limitBytes: number): Encoded {
  const message = `the value is ${about && `${about} `}${bytes} bytes as JSON, above the limit of ${limitBytes} bytes: store the bulk elsewhere and pass a reference`
  return { ok: false, code: 'payload-too-large', issue: { path: '', code: 'too-large', message } }
}

interface Problem {
  readonly path: readonly (string | number)[]
  readonly message: string
}

interface Found {
  readonly problem: Problem | undefined
  readonly isShortened: boolean
}

/** Each value takes a byte at least: counting them ends the walk of what would be too large anyway. */
const tooMany: Problem = { path: [], message: 'has too many values' }

/** An array or object whose items are being visited. */
interface Open {
  readonly container: object
  /** Undefined for an array. */
  readonly keys: readonly string[] | undefined
  readonly length: number
  next: number
}

function open(container: object): Open {
  if (Array.isArray(container)) return { container, keys: undefined, length: container.length, next: 0 }
  const keys = Object.keys(container)
  return { container, keys, length: keys.length, next: 0 }
}

const keyAt = ({ keys }: Open, index: number) => keys?.[index] ?? index

function inspect(root: unknown, limitValues: number): Found {
  const ancestors: Open[] = []
  const path = () => ancestors.map((one) => keyAt(one, one.next - 1))
  const refuse = (problem: Problem): Found => ({ problem, isShortened })
  let isShortened = false
  let values = 0
  let value = root
  try {
    for (;;) {
      if (++values > limitValues) return refuse(tooMany)
      const isLeftOut = value === undefined && ancestors.at(-1)?.keys !== undefined
      isShortened ||= isLeftOut
      const message = isLeftOut ? undefined : refusalOf(value)
      if (message !== undefined) return refuse({ path: path(), message })
      if (typeof value === 'object' && value !== null) {
        // A cycle is met again at every depth; looking for it at some is enough.
        const isTooDeep = ancestors.length >= defaults.nestingLimit
        if ((isTooDeep || ancestors.length % 64 === 63) && ancestors.some((one) => one.container === value)) {
          return refuse(cycle([...ancestors, open(value)]))
        }
        if (isTooDeep) {
          return refuse({ path: path(), message: `is nested deeper than ${defaults.nestingLimit} levels` })
        }
        ancestors.push(open(value))
      }
      let parent = ancestors.at(-1)
      while (parent !== undefined && parent.next === parent.length) {
        ancestors.pop()
        parent = ancestors.at(-1)
      }
      if (parent === undefined) return { problem: undefined, isShortened }
      value = Reflect.get(parent.container, keyAt(parent, parent.next++))
    }
  } catch (error) {
    return refuse({ path: path(), message: `cannot be read: ${readableMessage(error)}` })
  }
}

/** Why a value, its items apart, is not JSON. */
function refusalOf(value: unknown): string | undefined {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return undefined
    case 'number':
      return Number.isFinite(value) ? undefined : `is ${value}, which JSON cannot hold: use null or a string`
    case 'undefined':
      return 'is undefined, which JSON cannot hold: leave it out or use null'
    case 'bigint':
      return `is the bigint ${showValue(value)}, which JSON cannot hold: pass a string`
    case 'function':
    case 'symbol':
      return `is a ${typeof value}, which JSON cannot hold: leave it out`
    case 'object':
      return value === null ? undefined : refusalOfObject(value)
  }
}

function refusalOfObject(value: object): string | undefined {
  if (!Array.isArray(value)) {
    const prototype: unknown = Object.getPrototypeOf(value)
    // The Object of another realm has a prototype without a prototype as well.
    if (prototype !== Object.prototype && prototype !== null && Object.getPrototypeOf(prototype) !== null) {
      return `is a ${className(value)}, not a plain object: ${advice(value)}`
    }
    if (
      Object.getOwnPropertySymbols(value).some((key) =>
        Object.prototype.propertyIsEnumerable.call(value, key),
      )
    ) {
      return 'has a symbol as a key, which JSON cannot hold: leave it out'
    }
  }
  if ('toJSON' in value && typeof value.toJSON === 'function') {
    return 'has a toJSON method and would not be stored as it is: pass plain data'
  }
  return undefined
}

/** The shortest path to where a container comes again. */
function cycle(chain: readonly Open[]): Problem {
  const seen = new Set<object>()
  const end = chain.findIndex(({ container }) => seen.size === seen.add(container).size)
  const path = chain.slice(0, end).map((one) => keyAt(one, one.next - 1))
  return { path, message: 'is one of its own ancestors (a cycle), which JSON cannot hold' }
}

function stringify(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch (error) {
    // V8's own is faster but recurses, and little of the stack may be left.
    if (error instanceof RangeError) return stringifyDeep(value)
    throw error
  }
}

function stringifyDeep(root: unknown): string {
  const parts: string[] = []
  const ancestors: Open[] = []
  let value = root
  for (;;) {
    if (typeof value === 'object' && value !== null) {
      const opened = open(value)
      parts.push(opened.keys === undefined ? '[' : '{')
      ancestors.push(opened)
    } else {
      parts.push(JSON.stringify(value))
    }
    for (;;) {
      const parent = ancestors.at(-1)
      if (parent === undefined) return parts.join('')
      if (parent.next === parent.length) {
        parts.push(parent.keys === undefined ? ']' : '}')
        ancestors.pop()
        continue
      }
      const key = keyAt(parent, parent.next++)
      value = Reflect.get(parent.container, key)
      if (value === undefined) continue
      const previous = parts.at(-1)
      if (previous !== '[' && previous !== '{') parts.push(',')
      if (typeof key === 'string') parts.push(JSON.stringify(key), ':')
      break
    }
  }
}

function shown(path: readonly (string | number)[]): string {
  const text = path.join('.')
  return text.length > 120 ? `${text.slice(0, 60)}…${text.slice(-40)}` : text
}

function className(value: object): string {
  const maker: unknown = Reflect.get(value, 'constructor')
  return typeof maker === 'function' && maker.name !== '' ? maker.name : 'class instance'
}

function advice(value: object): string {
  if (value instanceof Date) return 'pass value.toISOString() and let the schema make it a Date'
  if (value instanceof Map || value instanceof Set) return 'pass an array of its entries'
  if (ArrayBuffer.isView(value)) return 'pass a base64 string'
  return 'pass its data as a plain object'
}

/** Stands for a payload of undefined, which JSON lacks: `json` columns keep the space that tells it from null. */
export const undefinedText = ' null'

/** The payload behind its stored text. */
export function decodePayload(text: string): unknown {
  return text === undefinedText ? undefined : JSON.parse(text)
}
