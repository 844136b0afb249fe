// Strict JSON: whatever is accepted comes back from Postgres as it was, whatever is refused is named with its path.
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { encodeJson } from '../../src/job/json.ts'
import { testDatabase } from '../support/database.ts'
import { readableMessage } from '../../src/errors.ts'

const { database } = await testDatabase({ migrated: false })

class Point {
  readonly x = 1
}

function textOf(value: unknown): string {
  const encoded = encodeJson(value, defaults.payloadLimitBytes)
  if (!encoded.ok) throw new Error(encoded.issue.message)
  return encoded.text
}

function issueOf(value: unknown, limitBytes: number = defaults.payloadLimitBytes) {
  const encoded = encodeJson(value, limitBytes)
  if (encoded.ok) throw new Error(`accepted as ${encoded.text}`)
  return encoded.issue
}

async function stored(text: string): Promise<unknown> {
  const [row] = await database.query({ text: 'select $1::json as value', values: [text] })
  return JSON.parse(row?.['value'] ?? '')
}

function nested(levels: number, wrap: (inside: unknown) => unknown): unknown {
  let value: unknown = 'core'
  for (let level = 0; level < levels; level++) value = wrap(value)
  return value
}

/** How many calls have to return, once the stack has ended, before `work` has room enough. */
function callsNeeded(work: () => unknown): number {
  let calls = 0
  let isDone = false
  const dive = () => {
    try {
      dive()
    } catch {
      // The stack has ended.
    }
    if (isDone) return
    try {
      work()
      isDone = true
    } catch {
      calls++
    }
  }
  dive()
  return calls
}

const oddStrings = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '\u0000',
    'a\u0000b',
    '\ud800',
    '\udc00x',
    '\u2028',
    '__proto__',
    'constructor',
    '',
    '"\\',
    '{"a":1}',
  ),
)
// Only -0 comes back as another value.
const oddNumbers = fc
  .oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.integer(),
    fc.constantFrom(1e308, 5e-324, 2 ** 64),
  )
  .map((number) => (number === 0 ? 0 : number))
const { json } = fc.letrec<{ json: unknown }>((tie) => ({
  json: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    oddNumbers,
    oddStrings,
    fc.array(tie('json'), { maxLength: 5 }),
    fc
      .array(fc.tuple(oddStrings, tie('json')), { maxLength: 5 })
      // Through entries, so that __proto__ is a key like any other.
      .map((entries) => Object.fromEntries(entries)),
  ),
}))

test('whatever is accepted comes back deeply equal from a json column', async () => {
  await fc.assert(
    fc.asyncProperty(json, async (value) => {
      expect(await stored(textOf(value))).toEqual(value)
    }),
    { numRuns: 200 },
  )
})

test('what is not JSON is refused with its path wherever it hides', () => {
  const strangers = fc.constantFrom<unknown>(
    1n,
    NaN,
    Infinity,
    [undefined],
    Symbol('s'),
    () => 1,
    new Date(0),
    new Map(),
    new Set(),
    new Point(),
    { toJSON: () => 1 },
    new Uint8Array(2),
    new Error('x'),
    { [Symbol('key')]: 1 },
  )
  const keys = fc.array(fc.oneof(fc.nat({ max: 3 }), fc.string({ minLength: 1 })), { maxLength: 6 })
  fc.assert(
    fc.property(strangers, keys, json, (stranger, path, neighbour) => {
      let value = stranger
      for (const key of path.toReversed()) {
        if (typeof key === 'number') value = [...Array.from({ length: key }, () => neighbour), value]
        else
          value = Object.fromEntries([
            [`${key}!`, neighbour],
            [key, value],
          ])
      }
      const expected = Array.isArray(stranger) ? [...path, 0] : path
      expect(issueOf(value)).toMatchObject({ code: 'not-json', path: expected.join('.') })
    }),
  )
})

test.for<[name: string, value: unknown, message: string]>([
  ['a bigint', { a: [0, 10n] }, '"a.1" is the bigint 10n, which JSON cannot hold: pass a string'],
  ['NaN', { a: NaN }, '"a" is NaN, which JSON cannot hold: use null or a string'],
  ['an infinity', -Infinity, 'the value is -Infinity, which JSON cannot hold: use null or a string'],
  [
    'an undefined item',
    { a: [undefined] },
    '"a.0" is undefined, which JSON cannot hold: leave it out or use null',
  ],
  ['a hole', Array(1), '"0" is undefined, which JSON cannot hold: leave it out or use null'],
  ['a function', { run() {} }, '"run" is a function, which JSON cannot hold: leave it out'],
  ['a symbol', [Symbol('s')], '"0" is a symbol, which JSON cannot hold: leave it out'],
  [
    'a symbol as a key',
    { [Symbol('s')]: 1 },
    'the value has a symbol as a key, which JSON cannot hold: leave it out',
  ],
  [
    'a Date',
    { at: new Date(0) },
    '"at" is a Date, not a plain object: pass value.toISOString() and let the schema make it a Date',
  ],
  ['a Map', new Map(), 'the value is a Map, not a plain object: pass an array of its entries'],
  ['bytes', { a: Buffer.from('a') }, '"a" is a Buffer, not a plain object: pass a base64 string'],
  [
    'a class instance',
    new Point(),
    'the value is a Point, not a plain object: pass its data as a plain object',
  ],
  [
    'an object with toJSON',
    { a: { toJSON: () => 1 } },
    '"a" has a toJSON method and would not be stored as it is: pass plain data',
  ],
])('%s is refused with where it stands and what to do', ([, value, message]) => {
  expect(issueOf(value).message).toBe(message)
})

test('a getter that throws is refused with its path', () => {
  const value = {
    list: [
      {
        get broken(): never {
          throw new Error('no')
        },
      },
    ],
  }
  expect(issueOf(value)).toMatchObject({
    path: 'list.0.broken',
    message: '"list.0.broken" cannot be read: no',
  })
})

test('a cycle is refused with the shortest path to where it closes', () => {
  const parent: { children: unknown[] } = { children: [] }
  parent.children.push({ name: 'first' }, { parent })
  expect(issueOf({ root: parent })).toMatchObject({
    path: 'root.children.1.parent',
    message: '"root.children.1.parent" is one of its own ancestors (a cycle), which JSON cannot hold',
  })
})

test('an object that stands in two places is no cycle', () => {
  const shared = { a: 1 }
  expect(textOf([shared, shared, { shared }])).toBe('[{"a":1},{"a":1},{"shared":{"a":1}}]')
})

test('a value of many shared parts is refused before its text is made', () => {
  let value: unknown = 1
  for (let level = 0; level < 60; level++) value = [value, value]
  expect(issueOf(value)).toMatchObject({ code: 'too-large' })
})

test('an object without a prototype, and one of another realm, are plain', async () => {
  const { runInNewContext } = await import('node:vm')
  expect(textOf(Object.assign(Object.create(null), { a: 1 }))).toBe('{"a":1}')
  expect(textOf(runInNewContext('({ a: [1, { b: 2 }] })'))).toBe('{"a":[1,{"b":2}]}')
})

test('undefined properties are left out, and undefined items are refused', () => {
  const value = { a: undefined, b: [{ c: undefined }] }
  expect(encodeJson(value, 100)).toEqual({ ok: true, text: '{"b":[{}]}', bytes: 10, isShortened: true })
  expect(encodeJson({ b: [{}] }, 100)).toMatchObject({ isShortened: false })
  expect(issueOf([undefined])).toMatchObject({ path: '0' })
  expect(issueOf(undefined)).toMatchObject({ path: '' })
})

test('the limit counts bytes of JSON, not characters', () => {
  expect(encodeJson('ääx', 8)).toMatchObject({ ok: true, bytes: 7 })
  expect(encodeJson('äää', 8)).toMatchObject({ ok: true, bytes: 8 })
  expect(issueOf('äääx', 8)).toMatchObject({
    code: 'too-large',
    message:
      'the value is 9 bytes as JSON, above the limit of 8 bytes: store the bulk elsewhere and pass a reference',
  })
})

const shapes: [string, (inside: unknown) => unknown][] = [
  ['arrays', (inside) => [inside]],
  ['objects', (inside) => ({ inside })],
  ['both', (inside) => [1, { a: 'x', inside, b: [] }, {}]],
]

test.for(shapes)(
  '%s nested up to the limit come back, also where little of the stack is left',
  async ([, wrap]) => {
    const levels = wrap === shapes[2]?.[1] ? defaults.nestingLimit / 2 - 1 : defaults.nestingLimit
    const value = nested(levels, wrap)
    const text = textOf(value)
    expect(callsNeeded(() => textOf(value))).toBeLessThan(500)
    const back = await stored(text)
    expect(textOf(back)).toBe(text)
  },
)

test.for(shapes)('%s nested deeper than the limit are refused with a path', ([, wrap]) => {
  const issue = issueOf(nested(defaults.nestingLimit + 1, wrap))
  expect(issue.message).toMatch(/^".+" is nested deeper than \d+ levels$/)
  expect(issue.message.length).toBeLessThan(200)
  expect(issue.path.split('.').length).toBeGreaterThanOrEqual(defaults.nestingLimit)
})

test.for<[thrown: unknown, message: string]>([
  [null, 'null'],
  ['words', 'words'],
  [new Error('why'), 'why'],
  [{ code: 1 }, '{"code":1}'],
  [undefined, 'undefined'],
  [10n, 'a value of type bigint that cannot be printed'],
])('%o that was thrown is readable', ([thrown, message]) => {
  expect(readableMessage(thrown)).toBe(message)
})

test('an error whose getters throw is readable', () => {
  const error = Object.defineProperty(new Error(), 'message', {
    get() {
      throw new Error('no')
    },
  })
  expect(readableMessage(error)).toBe('a value of type object that cannot be printed')
})
