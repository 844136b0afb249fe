// Requests for the enqueue function, of the right structure and wrong in one way or many: what a seed repeats.
import { randomBytes } from 'node:crypto'
import { createRandom, type Random } from '../faults/random.ts'

/** A request as the handler gets it, and in which way it is hostile. */
export interface Body {
  readonly kind: string
  readonly event: unknown
}

type Request = { tasks: { job: unknown; payload?: unknown; options?: unknown }[] }

const texts = [
  [
    '',
    ' ',
    '\0',
    'a\0b',
    '\u{1F98A}',
    '\uD800',
    'x\uDFFFy',
    '\u2028\u2029',
    '\uFEFF',
    '\u202Etxet',
    '\u00e9'.normalize('NFD'),
  ],
  ['__proto__', 'constructor', 'prototype', 'toString', 'then', 'toJSON', 'length', 'hasOwnProperty'],
  [
    `'; drop table izta.task; --`,
    '$1',
    '${x}',
    '%s%n',
    '\\',
    '"',
    "'",
    '{}',
    '{NULL}',
    'NULL',
    '{"a":1}',
    '$$',
    '/*',
    '\\u0000',
  ],
  ['1', '-1', '0x10', '1e400', 'NaN', 'Infinity', 'true', 'null', 'undefined', '[object Object]'],
  [
    '2030-01-01T00:00:00Z',
    '1969-12-31T23:59:59Z',
    '9999-12-31T23:59:59.999+14:00',
    '+275760-09-13T00:00:00Z',
  ],
  ['2030-02-30T00:00:00Z', '2030-01-01', 'now', 'infinity', '-infinity', '2030-01-01T00:00:00+99:99'],
  [
    '00000000-0000-0000-0000-000000000000',
    'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF',
    '{01890a5d-ac96-774b-bcce-b302099a8057}',
  ],
  [
    'default',
    'a:b.c_d-e',
    'a b',
    'a/b',
    '..',
    'x'.repeat(100),
    'x'.repeat(101),
    'k'.repeat(512),
    'é'.repeat(257),
    'l'.repeat(5000),
  ],
].flat()
const numbers = [
  [0, -0, 1, -1, 0.1, 9, 10, 0.5, 1e21, 1e308, 5e-324, 2 ** 31, 2 ** 53, 2 ** 53 + 2, -(2 ** 63), 2 ** 64],
  [32_767, 32_768, 315_360_000, 315_360_001, 1e-7, 123_456_789_012_345_680_000],
].flat()
// Without a lone backslash: JSON.parse of Node 24 takes any escaped key for it, once it has met an object that has it at
// the same place, so what comes back would differ from what was sent through no fault of izta.
const names = [
  'job',
  'payload',
  'options',
  'tasks',
  'id',
  'key',
  'queue',
  'priority',
  'runAt',
  ...texts.slice(0, 40).filter((text) => text !== '\\'),
]
const options = [
  'id',
  'key',
  'keyUntil',
  'queue',
  'priority',
  'maxAttempts',
  'runAt',
  'delaySeconds',
] as const
/** Few, since every name of a queue that is accepted stays one. */
const queues = ['default', '__proto__', 'constructor', 'a:b.c_d-e', '.', '-', '0', 'x'.repeat(100)]
/** Ids of the jobs that take these requests, and others. */
export const jobIds = ['anything', 'strict', 'bare', 'asynchronous'] as const

const depths = [2, 100, 999, 1000, 1001, 5000, 100_000]
const mebibyte = 1024 * 1024

/** Requests without end. */
export function* bodies(seed: number): Generator<Body> {
  const random = createRandom(seed)
  const make = makers(random)
  const total = make.reduce((sum, [weight]) => sum + weight, 0)
  for (;;) {
    let place = random.next() * total
    for (const [weight, kind, build] of make) {
      place -= weight
      if (place >= 0) continue
      yield { kind, event: build() }
      break
    }
  }
}

type Maker = readonly [weight: number, kind: string, build: () => unknown]

function makers(random: Random): readonly Maker[] {
  const { between, chance } = random
  const pick = <T>(items: readonly T[]): T => random.pick(items) as T

  function value(depth = 0): unknown {
    const kind = between(0, depth > 4 ? 3 : 6)
    if (kind === 0) return pick([null, true, false])
    if (kind === 1) return pick(numbers)
    if (kind < 4) return pick(texts)
    if (kind === 4) return Array.from({ length: between(0, 4) }, () => value(depth + 1))
    return object(depth)
  }
  // Object.fromEntries makes __proto__ a property like any other, as JSON.parse does.
  const object = (depth: number) =>
    Object.fromEntries(Array.from({ length: between(0, 4) }, () => [pick(names), value(depth + 1)]))

  const uuid = () => {
    const hex = Array.from({ length: 32 }, () => between(0, 15).toString(16)).join('')
    return hex.replace(/(.{8})(.{4})(.{4})(.{4})(.{12})/, '$1-$2-$3-$4-$5')
  }
  const goodOptions: Record<(typeof options)[number], () => unknown> = {
    id: () => (chance(0.2) ? uuid().toUpperCase() : uuid()),
    key: () => pick(['a', '__proto__', 'k'.repeat(512), '\u{1F98A}', '{"a"}', "'", '\\']),
    keyUntil: () => pick(['started', 'finished']),
    queue: () => pick(queues),
    priority: () => between(0, 9),
    maxAttempts: () => pick([1, 3, 32_767]),
    runAt: () =>
      pick([
        '2030-01-01T00:00:00Z',
        '1970-01-01T00:00:00Z',
        '9999-12-31T23:59:59Z',
        '2030-01-01T00:00:00.123456+14:00',
      ]),
    delaySeconds: () => pick([0, 0.001, 60, 315_360_000]),
  }
  function someOptions(): Record<string, unknown> {
    const chosen = options.filter(() => chance(0.25))
    const made = Object.fromEntries(chosen.map((name) => [name, goodOptions[name]()]))
    if ('runAt' in made) delete made['delaySeconds']
    if (!('key' in made)) delete made['keyUntil']
    return made
  }
  function task(): Request['tasks'][number] {
    const job = pick(jobIds)
    const payload = {
      anything: value,
      strict: () => ({ n: pick(numbers), s: pick(texts) }),
      bare: () => undefined,
      asynchronous: () => 'good',
    }[job]()
    return {
      job,
      ...(payload === undefined ? {} : { payload }),
      ...(chance(0.5) ? { options: someOptions() } : {}),
    }
  }
  const request = (count = chance(0.8) ? 1 : between(0, 5)): Request => ({
    tasks: Array.from({ length: count }, task),
  })

  /** Every place in a value. */
  function places(root: unknown): { container: object; key: string }[] {
    const found: { container: object; key: string }[] = []
    const visit = (container: unknown): void => {
      if (typeof container !== 'object' || container === null) return
      for (const key of Object.keys(container)) {
        found.push({ container, key })
        visit(Reflect.get(container, key))
      }
    }
    visit(root)
    return found
  }
  const define = (container: object, key: string, put: unknown) =>
    // JSON gives an array nothing but items.
    (Array.isArray(container) && !/^\d+$/.test(key)) ||
    Object.defineProperty(container, key, {
      value: put,
      configurable: true,
      enumerable: true,
      writable: true,
    })

  function post(body: unknown, more: object = {}) {
    return {
      version: '2.0',
      rawPath: '/',
      headers: { 'content-type': 'application/json' },
      requestContext: { http: { method: 'POST', path: '/' } },
      body,
      isBase64Encoded: false,
      ...more,
    }
  }
  /** By any of the three ways that a request comes. */
  function deliver(body: unknown): unknown {
    if (chance(0.4)) return body
    const text = JSON.stringify(body)
    return chance(0.5) ? post(text) : post(Buffer.from(text).toString('base64'), { isBase64Encoded: true })
  }
  function deliverText(text: string): unknown {
    return chance(0.5) ? post(text) : post(Buffer.from(text).toString('base64'), { isBase64Encoded: true })
  }

  const nested = (depth: number, open: string, close: string) => open.repeat(depth) + close.repeat(depth)
  function deep(): unknown {
    const depth = pick(depths)
    const inner = chance(0.5) ? nested(depth, '[', ']') : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`
    const text = pick([
      `{"tasks":[{"job":"anything","payload":${inner}}]}`,
      `{"tasks":[{"job":"anything","payload":1,"options":${inner}}]}`,
      `{"tasks":[{"job":"anything","payload":1,"options":{"key":${inner}}}]}`,
      `{"tasks":[{"job":${inner},"payload":1}]}`,
      `{"tasks":${inner}}`,
      inner,
      '['.repeat(depth),
      `{"tasks":[{"job":"anything","payload":${'['.repeat(depth)}`,
    ])
    return deliverText(text)
  }
  function corrupt(): unknown {
    const text = JSON.stringify(request())
    const at = between(0, text.length)
    const token = pick([
      '1e400',
      '-',
      '\\',
      '"',
      ',',
      '}',
      ']',
      '{',
      '//',
      '\0',
      '\u2028',
      'NaN',
      '\\ud800',
      '\\u0000',
      '"__proto__":{},',
      '"job":"bare",',
    ])
    return deliverText(
      pick([
        text.slice(0, at),
        text.slice(0, at) + token + text.slice(at),
        text.slice(at) + text.slice(0, at),
        text.replace(/:("[^"]*"|\d+)/, `:${token}`),
        `\uFEFF${text}`,
        `${text}${text}`,
        text.replaceAll('"', "'"),
        text.replace('{"job"', '{"job":"bare","job"'),
        '',
        token,
      ]),
    )
  }
  function bytes(): unknown {
    const raw = Buffer.from(JSON.stringify(request()))
    for (let n = between(1, 4); n > 0; n--) raw[between(0, raw.length - 1)] = between(0, 255)
    const encoding = pick(['base64', 'base64url', 'hex', 'latin1', 'utf16le'] as const)
    return post(
      pick([raw, randomBytes(0), Buffer.concat([raw, Buffer.from([0xed, 0xa0, 0x80])])]).toString(encoding),
      {
        isBase64Encoded: chance(0.8),
      },
    )
  }
  function http(): unknown {
    const event: Record<string, unknown> = post(JSON.stringify(request()))
    const changes: readonly (() => void)[] = [
      () => (event['rawPath'] = pick<unknown>(['', '//', '/x', '/%00', null, 1, {}, [], undefined])),
      () =>
        (event['requestContext'] = pick<unknown>([
          null,
          1,
          [],
          {},
          { http: null },
          { http: {} },
          { http: { method: 1 } },
        ])),
      () =>
        (event['requestContext'] = {
          http: { method: pick(['GET', 'post', 'PUT', 'OPTIONS', '', '\0', 'POST ']) },
        }),
      () => (event['body'] = pick<unknown>([null, 1, {}, [], undefined, true, request()])),
      () => (event['isBase64Encoded'] = pick<unknown>([null, 1, 'true', 'false', {}, undefined, true])),
      () => delete event[pick(Object.keys(event))],
      () => void define(event, pick(names), value()),
    ]
    for (let n = between(1, 3); n > 0; n--) pick(changes)()
    return event
  }
  /** What Lambda never passes, since it parses JSON: a test of one's own might. */
  function notJson(): unknown {
    const cycle: Record<string, unknown> = { job: 'anything' }
    cycle['payload'] = cycle
    const payload = pick<unknown>([
      cycle,
      1n,
      Symbol('s'),
      () => 1,
      NaN,
      new Date(NaN),
      new Map(),
      Array.from({ length: 2 }),
      { a: undefined },
    ])
    return pick<unknown>([
      undefined,
      payload,
      { tasks: payload },
      { tasks: [payload] },
      { tasks: [{ job: 'anything', payload }] },
      { tasks: [{ job: 'anything', payload: 1, options: payload }] },
      { tasks: [{ job: payload }] },
    ])
  }
  const fill = (size: number, around: (text: string) => unknown) => {
    const bare = Buffer.byteLength(JSON.stringify(around('')))
    return around('x'.repeat(Math.max(0, size - bare)))
  }

  return [
    [10, 'valid', () => deliver(request())],
    [14, 'any payload', () => deliver({ tasks: [{ job: 'anything', payload: value() }] })],
    [
      18,
      'wrong type somewhere',
      () => {
        const body = request(between(1, 3))
        for (let n = between(1, 3); n > 0; n--) {
          const place = pick(places(body))
          define(place.container, place.key, value())
        }
        return deliver(body)
      },
    ],
    [
      16,
      'wrong or unknown options',
      () =>
        deliver({
          tasks: [
            {
              job: 'anything',
              payload: 1,
              options: {
                ...someOptions(),
                ...Object.fromEntries([[pick([...options, ...texts]), value(3)]]),
              },
            },
          ],
        }),
    ],
    [
      8,
      'strange keys',
      () => {
        const body = request(between(1, 3))
        const place = pick([
          { container: body },
          ...body.tasks.map((container) => ({ container })),
          ...places(body),
        ])
        define(place.container, pick(names), value())
        return deliver(body)
      },
    ],
    [
      6,
      'duplicates',
      () => {
        const [id, key] = [uuid(), pick(texts)]
        const twin = pick<object>([{ id }, { key }, { id, key }, { key, keyUntil: 'started' }])
        return deliver({
          tasks: Array.from({ length: between(2, 5) }, () => ({
            job: 'bare',
            options: { ...twin, ...(chance(0.2) ? { id: id.toUpperCase() } : {}) },
          })),
        })
      },
    ],
    [12, 'corrupt text', corrupt],
    [6, 'corrupt bytes', bytes],
    [5, 'http', http],
    [1, 'not JSON', notJson],
    [3, 'deep', deep],
    [
      0.2,
      'payload at its limit',
      () =>
        deliver({
          tasks: [{ job: 'anything', payload: fill(mebibyte + between(-2, 2), (text) => ({ text })) }],
        }),
    ],
    [
      0.02,
      'body at its limit',
      () =>
        post(
          JSON.stringify(
            fill(6 * mebibyte + between(-2, 2), (text) => ({
              tasks: [{ job: pick(['anything', 'none']), payload: text }],
            })),
          ),
        ),
    ],
    [
      0.05,
      'many tasks',
      () =>
        deliver({
          tasks: Array.from({ length: pick([1000, 9_999, 10_000, 10_001]) }, () => ({
            job: pick(['bare', 'bare', 'none']),
          })),
        }),
    ],
    [
      0.05,
      'many wrong tasks',
      () =>
        deliver({
          tasks: Array.from({ length: pick([1000, 10_000]) }, () => ({ job: 'bare', options: value() })),
        }),
    ],
    [
      0.02,
      'giant array',
      () =>
        post(
          `{"tasks":[${Array.from({ length: pick([100_000, 1_000_000, 2_000_000]) }, () => pick(['1', '{}', '[]', '""'])).join(',')}]}`,
        ),
    ],
    [
      0.02,
      'giant object',
      () =>
        deliver({
          tasks: [
            {
              job: 'anything',
              payload: Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [n, n])),
            },
          ],
        }),
    ],
    [
      0.02,
      'giant list of wrong values',
      () =>
        deliver({
          tasks: [{ job: 'list', payload: Array.from({ length: 200_000 }, () => pick(['', null])) }],
        }),
    ],
    [
      0.02,
      'giant options',
      () =>
        deliver({
          tasks: [
            {
              job: 'anything',
              options: Object.fromEntries(Array.from({ length: 100_000 }, (_, n) => [`o${n}`, n])),
            },
          ],
        }),
    ],
  ]
}
