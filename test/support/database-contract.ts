// What every adapter of the database port must do; run for pg, direct and through PgBouncer, and for Neon's HTTP and WebSockets.

import { types as neonTypes } from '@neondatabase/serverless'
import { types as pgTypes } from 'pg'
import { expect, test } from 'vitest'
import type { Database, Row } from '../../src/db/database.ts'
import {
  DatabaseAccessError,
  DatabaseError,
  DatabaseUnreachableError,
  NotMigratedError,
} from '../../src/errors.ts'

export interface Subject {
  /** Reaches a database of the test server by the adapter under test. */
  readonly url: string
  readonly open: (url: string) => Database
}

const printed: readonly (readonly [sql: string, text: string | null])[] = [
  ['null::text', null],
  ["''::text", ''],
  ['true', 't'],
  ['false', 'f'],
  ['9223372036854775807::bigint', '9223372036854775807'],
  ['1.50::numeric', '1.50'],
  ['0.1::float8', '0.1'],
  ["timestamptz '2026-03-01 12:00:00.123456+00' at time zone 'UTC'", '2026-03-01 12:00:00.123456'],
  ["date '2026-03-01'", '2026-03-01'],
  [`'{"a" : 1.0, "a":2}'::json`, '{"a" : 1.0, "a":2}'],
  [`'{"a": 1}'::jsonb`, '{"a": 1}'],
  ["array['a', null, 'b,c']", '{a,NULL,"b,c"}'],
  ['array[1, 2]::bigint[]', '{1,2}'],
  [`array['{"a":1}'::json]`, '{"{\\"a\\":1}"}'],
  [String.raw`'\x00ff'::bytea`, String.raw`\x00ff`],
  ["'0198a000-0000-7000-8000-000000000000'::uuid", '0198a000-0000-7000-8000-000000000000'],
]

const sent: readonly (readonly [name: string, type: string, value: string | null])[] = [
  ['null', 'text', null],
  ['an empty text', 'text', ''],
  ['quotes, backslashes and dollars', 'text', `it's "a" \\ b $1 $$ %s :name`],
  ['line ends and tabs', 'text', 'a\r\nb\tc'],
  ['other scripts and emoji', 'text', 'žlutý 日本語 👩‍🚀 \u{10FFFF}'],
  ['a text of 1 MiB', 'text', 'ä👍x'.repeat(2 ** 20 / 7)],
  ['JSON with an escaped NUL', 'json', String.raw`{"text":"\u0000"}`],
  ['JSON with an escaped lone surrogate', 'json', String.raw`["\ud800", "\udc00"]`],
  ['JSON that looks like an array literal', 'json', '{}'],
  ['an array literal', 'text[]', '{"a,b",NULL,"\\"c\\""}'],
  ['an array of JSON', 'json[]', '{"{\\"a\\":1}"}'],
]

/** Port 1 would do as well, but `fetch` refuses to use it: https://fetch.spec.whatwg.org/#port-blocking */
const closedPort = '2'

/** Call it in a test file after the subject's database was made. */
export function databaseContract({ url, open }: Subject): void {
  const database = open(url)

  test.for(printed)('%s comes back as Postgres prints it', async ([sql, text]) => {
    expect(await ask(database, `select ${sql} as value`)).toEqual([{ value: text }])
  })

  test.for(sent)('%s arrives and comes back unchanged', async ([, type, value]) => {
    expect(await ask(database, `select $1::${type} as value`, [value])).toEqual([{ value }])
  })

  test('an instant comes back with its offset, in the time zone of the connection', async () => {
    const [row] = await ask(database, "select timestamptz '2026-03-01 12:00:00.5+00' as value")
    expect(row?.['value']).toMatch(/^2026-03-01 \d\d:\d\d:00\.5[+-]\d\d/)
    expect(new Date(row?.['value'] ?? '')).toEqual(new Date('2026-03-01T12:00:00.500Z'))
  })

  test('type parsers that the application sets do not matter', async () => {
    const { BOOL } = pgTypes.builtins
    const before = pgTypes.getTypeParser(BOOL)
    for (const types of [pgTypes, neonTypes]) types.setTypeParser(BOOL, parseLikeTheApplication)
    try {
      expect(await ask(database, 'select true as value')).toEqual([{ value: 't' }])
    } finally {
      for (const types of [pgTypes, neonTypes]) types.setTypeParser(BOOL, before)
    }
  })

  test('a statement without rows gives none', async () => {
    expect(await ask(database, 'select 1 as value where false')).toEqual([])
    expect(await ask(database, 'do $$ begin end $$')).toEqual([])
  })

  test('more statements at once than connections are all answered', async () => {
    const numbers = Array.from({ length: 30 }, (_, n) => `${n}`)
    const replies = await Promise.all(numbers.map((n) => ask(database, 'select $1::int as value', [n])))
    expect(replies).toEqual(numbers.map((value) => [{ value }]))
  })

  test('two commands in one statement are refused', async () => {
    expect(await failure(database, 'select 1; select 2')).toMatchObject({
      sqlState: '42601',
      retryable: false,
    })
  })

  test('a syntax error is not retryable and the next statement works', async () => {
    const error = await failure(database, 'selekt 1')
    expect(error).toBeInstanceOf(DatabaseError)
    expect(error).toMatchObject({
      code: 'database-error',
      sqlState: '42601',
      retryable: false,
      outcome: 'not-applied',
    })
    expect(error.message).toContain('syntax error at or near "selekt"')
    expect(await ask(database, 'select 1 as value')).toEqual([{ value: '1' }])
  })

  test('a missing table, column, function or schema means that the database is not migrated', async () => {
    const statements = [
      'select * from nowhere',
      'select nothing',
      'select nothing()',
      'create table nowhere.a ()',
    ]
    const errors = await Promise.all(statements.map((text) => failure(database, text)))
    for (const error of errors) {
      expect(error).toBeInstanceOf(NotMigratedError)
      expect(error.message).toContain('run `izta migrate`')
    }
  })

  test.for([
    ['a NUL in a text', 'select $1::text', '\u0000'],
    ['a number out of range', 'select $1::smallint', '70000'],
    ['a date that is none', 'select $1::timestamptz', 'soon'],
  ] as const)('%s is refused as data', async ([, text, value]) => {
    expect(await failure(database, text, [value])).toMatchObject({ code: 'data-refused', retryable: false })
  })

  test('an answer that is lost leaves the outcome unknown', async () => {
    const error = await failure(database, 'select pg_terminate_backend(pg_backend_pid())')
    expect(error).toBeInstanceOf(DatabaseUnreachableError)
    expect(error).toMatchObject({ outcome: 'unknown', retryable: true })
  })

  test('a closed port is unreachable, retryable, and nothing was applied', async () => {
    const elsewhere = open(changed(url, { port: closedPort }))
    const error = await failure(elsewhere, 'select 1')
    await elsewhere.close?.()
    expect(error).toBeInstanceOf(DatabaseUnreachableError)
    expect(error).toMatchObject({ outcome: 'not-applied', retryable: true })
    expect(error.message).toContain(`127.0.0.1:${closedPort}/`)
  })

  test('a wrong password is refused, and no message shows it', async () => {
    const stranger = open(changed(url, { password: 'open-sesame' }))
    const error = await failure(stranger, 'select 1')
    await stranger.close?.()
    expect(error).toBeInstanceOf(DatabaseAccessError)
    expect(error).toMatchObject({ outcome: 'not-applied', retryable: false })
    expect(`${error.message} ${String(error.cause)}`).not.toContain('open-sesame')
  })

  test('a statement whose caller waits no longer is given up, and the next one works', async () => {
    await ask(database, 'select 1')
    const controller = new AbortController()
    const { signal } = controller
    const call = database.query({ text: 'select pg_sleep(60)', values: [] }, { signal })
    const error = call.catch((thrown: unknown) => thrown)
    await new Promise(setImmediate)
    controller.abort()
    expect(await error).toBeInstanceOf(DatabaseUnreachableError)
    expect(await ask(database, 'select 1 as value')).toEqual([{ value: '1' }])
  })

  test('an adapter of izta says how many statements it carries at once', () => {
    expect(database.connections).toBeGreaterThan(0)
  })

  test('closing it twice is fine', async () => {
    const other = open(url)
    await ask(other, 'select 1')
    await other.close?.()
    await expect(Promise.resolve(other.close?.())).resolves.toBeUndefined()
    await database.close?.()
  })
}

function parseLikeTheApplication(): string {
  return 'parsed by the application'
}

export async function ask(database: Database, text: string, values: (string | null)[] = []): Promise<Row[]> {
  return database.query({ text, values })
}

/** The error of a statement that must fail. */
export async function failure(
  database: Database,
  text: string,
  values: (string | null)[] = [],
): Promise<DatabaseError> {
  const outcome = await database.query({ text, values }).catch((error: unknown) => error)
  if (outcome instanceof DatabaseError) return outcome
  throw new Error(`Expected a DatabaseError from ${text}`, { cause: outcome })
}

function changed(url: string, parts: { port?: string; password?: string }): string {
  return Object.assign(new URL(url), parts).href
}
