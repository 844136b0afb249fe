import { inspect } from 'node:util'
import { NeonDbError } from '@neondatabase/serverless'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { placeOf } from '../../src/db/redact.ts'
import { endsConnection, toDatabaseError } from '../../src/db/transient.ts'
import { byMessage, bySqlState } from '../../src/db/verdicts.ts'

const where = 'db.example.com:5432/app'

function coded(code: string, message = 'it failed'): Error {
  return Object.assign(new Error(message), { code })
}

function neonError(message: string, fields: Partial<NeonDbError> = {}): NeonDbError {
  return Object.assign(new NeonDbError(message), fields)
}

const unreachable = 'DatabaseUnreachableError'
const access = 'DatabaseAccessError'
const other = 'DatabaseError'

/** What was thrown, then: class, code, retryable, outcome. */
type Case = readonly [thrown: Error, name: string, code: string, retryable: boolean, outcome: string]

const withSqlState: readonly Case[] = [
  [coded('08006'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('08P01', 'SASL authentication failed'), access, 'database-access', false, 'not-applied'],
  [coded('08P01', 'no such database: shop'), access, 'database-access', false, 'not-applied'],
  [coded('08P01', 'no more connections allowed'), other, 'busy', true, 'not-applied'],
  [coded('08P01', 'server login has been failing'), unreachable, 'database-unreachable', true, 'not-applied'],
  [coded('08P01', 'server conn crashed?'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('57P01'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('57P02'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('57P03'), unreachable, 'database-unreachable', true, 'not-applied'],
  [coded('57P04'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('57P05'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('25P03'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('25P04'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('25P02'), other, 'stale-session', true, 'not-applied'],
  [coded('26000'), other, 'stale-session', true, 'not-applied'],
  [coded('42P05'), other, 'stale-session', true, 'not-applied'],
  [coded('0A000', 'cached plan must not change result type'), other, 'stale-session', true, 'not-applied'],
  [coded('0A000', 'no such feature'), other, 'database-error', false, 'not-applied'],
  [coded('58030'), other, 'system-error', true, 'not-applied'],
  [coded('58P01'), other, 'system-error', true, 'not-applied'],
  [coded('40003'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('53300'), other, 'busy', true, 'not-applied'],
  [coded('53100'), other, 'busy', true, 'not-applied'],
  [coded('28P01'), access, 'database-access', false, 'not-applied'],
  [coded('28000'), access, 'database-access', false, 'not-applied'],
  [coded('3D000'), access, 'database-access', false, 'not-applied'],
  [coded('42501'), access, 'database-access', false, 'not-applied'],
  [coded('3F000'), 'NotMigratedError', 'not-migrated', false, 'not-applied'],
  [coded('42P01'), 'NotMigratedError', 'not-migrated', false, 'not-applied'],
  [coded('42883'), 'NotMigratedError', 'not-migrated', false, 'not-applied'],
  [coded('42703'), 'NotMigratedError', 'not-migrated', false, 'not-applied'],
  [coded('40001'), other, 'serialization', true, 'not-applied'],
  [coded('40P01'), other, 'deadlock', true, 'not-applied'],
  [coded('55P03'), other, 'lock-timeout', true, 'not-applied'],
  [coded('57014'), other, 'statement-timeout', true, 'not-applied'],
  [coded('25006'), other, 'read-only', true, 'not-applied'],
  [coded('22P02'), other, 'data-refused', false, 'not-applied'],
  [coded('54000'), other, 'data-refused', false, 'not-applied'],
  [coded('23505'), other, 'database-error', false, 'not-applied'],
  [coded('IZ001'), other, 'database-error', false, 'not-applied'],
]

const withoutSqlState: readonly Case[] = [
  [coded('ECONNREFUSED'), unreachable, 'database-unreachable', true, 'not-applied'],
  [coded('ENOTFOUND'), unreachable, 'database-unreachable', true, 'not-applied'],
  [coded('SELF_SIGNED_CERT_IN_CHAIN'), access, 'database-tls', false, 'not-applied'],
  [coded('DEPTH_ZERO_SELF_SIGNED_CERT'), access, 'database-tls', false, 'not-applied'],
  [coded('UNABLE_TO_GET_ISSUER_CERT_LOCALLY'), access, 'database-tls', false, 'not-applied'],
  [coded('ERR_TLS_CERT_ALTNAME_INVALID'), access, 'database-tls', false, 'not-applied'],
  [coded('CERT_HAS_EXPIRED'), access, 'database-tls', false, 'not-applied'],
  [new Error('The server does not support SSL connections'), access, 'database-tls', false, 'not-applied'],
  [coded('EAI_AGAIN'), unreachable, 'database-unreachable', true, 'not-applied'],
  [new AggregateError([coded('ECONNREFUSED')]), unreachable, 'database-unreachable', true, 'not-applied'],
  [coded('ECONNRESET'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('EPIPE'), unreachable, 'database-unreachable', true, 'unknown'],
  [coded('ETIMEDOUT'), unreachable, 'database-unreachable', true, 'unknown'],
  [new Error('Connection terminated unexpectedly'), unreachable, 'database-unreachable', true, 'unknown'],
  [new Error('Query read timeout'), unreachable, 'database-unreachable', true, 'unknown'],
  [
    new Error('Connection terminated due to connection timeout', {
      cause: new Error('Connection terminated'),
    }),
    unreachable,
    'database-unreachable',
    true,
    'not-applied',
  ],
  [new Error('timeout exceeded when trying to connect'), other, 'busy', true, 'not-applied'],
  [
    new Error('Cannot use a pool after calling end on the pool'),
    other,
    'database-closed',
    false,
    'not-applied',
  ],
  [
    new Error('SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string'),
    access,
    'database-access',
    false,
    'not-applied',
  ],
  [new TypeError('a is not a function'), other, 'database-error', false, 'unknown'],
]

const ofNeon: readonly Case[] = [
  [neonError('relation', { code: '42P01' }), 'NotMigratedError', 'not-migrated', false, 'not-applied'],
  [
    neonError('Error connecting to database: TypeError: fetch failed', {
      sourceError: new TypeError('fetch failed', { cause: coded('ECONNREFUSED') }),
    }),
    unreachable,
    'database-unreachable',
    true,
    'not-applied',
  ],
  [
    neonError('Error connecting to database: TypeError: fetch failed', {
      sourceError: new TypeError('fetch failed', { cause: coded('UND_ERR_SOCKET') }),
    }),
    unreachable,
    'database-unreachable',
    true,
    'unknown',
  ],
  [
    neonError('Error connecting to database: TimeoutError', {
      sourceError: new DOMException('The operation was aborted due to timeout', 'TimeoutError'),
    }),
    unreachable,
    'database-unreachable',
    true,
    'unknown',
  ],
  [new SyntaxError('Unexpected end of JSON input'), unreachable, 'database-unreachable', true, 'unknown'],
  [
    neonError('password authentication failed for user "app"', { code: '' }),
    access,
    'database-access',
    false,
    'not-applied',
  ],
  [
    neonError('Server error (HTTP status 500): {"message":"sorry, too many clients already","code":"53300"}'),
    other,
    'busy',
    true,
    'not-applied',
  ],
  [neonError('Server error (HTTP status 502): '), unreachable, 'database-unreachable', true, 'unknown'],
  [neonError('Server error (HTTP status 429): '), other, 'busy', true, 'not-applied'],
  ...[
    'The endpoint has been disabled. Enable it using Neon API and retry.',
    'endpoint is disabled',
    'Your account or project has exceeded the compute time quota. Upgrade your plan to increase limits.',
    'Server error (HTTP status 402): {"message":"Your project has exceeded the data transfer quota."}',
    'Concurrently active endpoints limit exceeded',
  ].flatMap((message): Case[] => [
    [neonError(message, { code: '' }), access, 'database-disabled', false, 'not-applied'],
    [coded('XX000', message), access, 'database-disabled', false, 'not-applied'],
  ]),
  [
    neonError('Server error (HTTP status 507): {"message":"response is too large (max is 67108864 bytes)"}'),
    other,
    'reply-too-large',
    false,
    'unknown',
  ],
  [neonError('Server error (HTTP status 413): '), other, 'data-refused', false, 'not-applied'],
  [neonError('connection closed', { code: '' }), unreachable, 'database-unreachable', true, 'unknown'],
]

test.for([...withSqlState, ...withoutSqlState, ...ofNeon])(
  '%s becomes %s with code %s, retryable %s, outcome %s',
  ([thrown, name, code, retryable, outcome]) => {
    expect(toDatabaseError(thrown, where)).toMatchObject({ name, code, retryable, outcome })
  },
)

const severities = [undefined, 'ERROR', 'FATAL', 'PANIC'] as const
const anySqlState = fc.oneof(
  fc.constantFrom(...Object.keys(bySqlState).map((state) => state.padEnd(5, '0'))),
  fc.stringMatching(/^[0-9A-DF-Z][0-9A-Z]{4}$/),
)
/** Also sent in answer to the opening of a connection. */
const saidAtConnect = /^(28...|3D000|42501|53...|57P03)$/

test('whatever its SQLSTATE, an error that ends the session drops the connection and is repeated', () => {
  fc.assert(
    fc.property(anySqlState, fc.constantFrom('FATAL', 'PANIC'), (sqlState, severity) => {
      const thrown = Object.assign(coded(sqlState), { severity })
      expect(endsConnection(thrown)).toBe(true)
      const isAnswer = severity === 'FATAL' && saidAtConnect.test(sqlState)
      const { retryable, outcome } = toDatabaseError(thrown, where)
      if (!isAnswer) expect({ retryable, outcome }).toEqual({ retryable: true, outcome: 'unknown' })
      else expect(outcome).toBe('not-applied')
    }),
  )
})

test('an error whose severity is not told, or is told in another language, ends the connection by its SQLSTATE', () => {
  const ending = [
    '08006',
    '25006',
    '25P03',
    '25P04',
    '26000',
    '42P05',
    '57P01',
    '57P02',
    '57P04',
    '57P05',
    '58030',
  ]
  for (const severity of [undefined, 'ERROR', 'FEHLER']) {
    const ended = ending.filter((sqlState) => endsConnection(Object.assign(coded(sqlState), { severity })))
    expect(ended).toEqual(ending)
  }
})

test('whatever its SQLSTATE, an error with an unknown outcome is repeated over another connection', () => {
  fc.assert(
    fc.property(anySqlState, fc.constantFrom(...severities), (sqlState, severity) => {
      const thrown = Object.assign(coded(sqlState), { severity })
      if (toDatabaseError(thrown, where).outcome === 'not-applied') return
      expect(toDatabaseError(thrown, where).retryable).toBe(true)
      expect(endsConnection(thrown)).toBe(true)
    }),
  )
})

test('an error without a SQLSTATE never passes for one that applied nothing, unless it is known', () => {
  fc.assert(
    fc.property(fc.string(), (message) => {
      fc.pre(!byMessage.some(([pattern]) => pattern.test(message)))
      const thrown = new Error(message)
      expect(toDatabaseError(thrown, where).outcome).toBe('unknown')
      expect(endsConnection(thrown)).toBe(true)
      expect(toDatabaseError(thrown, where, { sent: false }).outcome).toBe('not-applied')
    }),
  )
})

test('a statement that was never sent was not applied, whatever broke', () => {
  expect(toDatabaseError(coded('ECONNRESET'), where, { sent: false }).outcome).toBe('not-applied')
})

test('the message says what happened, where, with what and what to do', () => {
  const error = toDatabaseError(coded('42P01', 'relation "izta.task" does not exist'), where)
  expect(error.message).toBe(
    'The database at db.example.com:5432/app lacks an object that this version of izta needs' +
      ' (42P01: relation "izta.task" does not exist): run `izta migrate`.',
  )
})

test('an error that is classified already stays as it is', () => {
  const error = toDatabaseError(coded('40001'), where)
  expect(toDatabaseError(error, 'elsewhere')).toBe(error)
})

test('something thrown that is no error is classified as well', () => {
  expect(toDatabaseError(undefined, where).code).toBe('database-error')
  expect(toDatabaseError('broken', where).message).toContain('broken')
})

test('the cause keeps what helps and loses connection strings, clients and the values of rows', () => {
  const thrown = Object.assign(coded('23514', 'new row violates check constraint "task_priority_check"'), {
    constraint: 'task_priority_check',
    detail: 'Failing row contains (hunter2).',
    client: { password: 'hunter2' },
    input: 'postgres://app:hunter2@db.example.com/app',
  })
  const { cause } = toDatabaseError(thrown, where)
  expect(cause).toMatchObject({ code: '23514', constraint: 'task_priority_check', message: thrown.message })
  expect(inspect(cause, { depth: Infinity, showHidden: true })).not.toContain('hunter2')
})

test.for(['postgres://app:hunter2@db/app', 'postgresql://app:hun ter2@db/app'])(
  'a driver that quotes %s does not betray it',
  (connectionString) => {
    const messages = [
      `bad header "${connectionString}"`,
      `not a valid URL (connection string: ${connectionString})`,
    ]
    for (const message of messages) {
      const error = toDatabaseError(new Error(message), where)
      expect(inspect(error, { depth: Infinity, showHidden: true })).not.toMatch(/hunter2|ter2/)
    }
  },
)

test.for([
  ['postgres://app:hunter2@db.example.com:6543/shop?sslmode=require', 'db.example.com:6543/shop'],
  ['postgres://db.example.com/shop', 'db.example.com/shop'],
  ['postgres://app:1/hunter2@db.example.com/shop', 'the given connection string'],
  ['postgres://app:1#hunter2@db.example.com/shop', 'the given connection string'],
  ['hunter2', 'the given connection string'],
] as const)('of %s only %s is shown', ([connectionString, place]) => {
  expect(placeOf({ connectionString })).toBe(place)
})

test('host, port and database are shown as pg fills them in', () => {
  expect(placeOf({ host: 'db.example.com', port: 6543, database: 'shop' })).toBe('db.example.com:6543/shop')
  expect(placeOf({})).toBe('localhost:5432')
})
