// What callers learn when the database cannot be used: one class each, retryable or not, what to do, and no secret.
import { createIzta, defineJob, IztaError, type Clock, type Izta, type Logger } from 'izta'
import { neonDatabase } from 'izta/neon'
import { pgDatabase } from 'izta/pg'
import { readdir } from 'node:fs/promises'
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { newestMigration } from '../../src/store/open.ts'
import { testDatabase } from '../support/database.ts'
import { neonEndpoint } from '../support/neon-endpoint.ts'

const migrated = await testDatabase()
const empty = await testDatabase({ migrated: false })
const endpoint = await neonEndpoint(migrated.url)
const emptyEndpoint = await neonEndpoint(empty.url)
const lines: unknown[] = []
const note = (message: string, facts?: object) => void lines.push(message, facts)
const log: Logger = { debug: note, info: note, warn: note, error: note }
/** Pauses before another try take no time. */
const impatient: Clock = {
  now: () => 0,
  after(_, callback) {
    queueMicrotask(callback)
    return () => {}
  },
}
const sweep = defineJob({ id: 'sweep' })
const create = (database: Parameters<typeof createIzta>[0]['database'], schema?: string) =>
  createIzta({ database, jobs: [sweep], log, schema, clock: impatient })

const id = '0198a000-0000-7000-8000-000000000000'
const calls: [name: string, call: (izta: Izta) => Promise<unknown>][] = [
  ['enqueue', (izta) => izta.enqueue(sweep)],
  ['enqueueMany', (izta) => izta.enqueueMany(sweep, [undefined])],
  ['get', (izta) => izta.get(sweep, id)],
  ['listPage', (izta) => izta.listPage()],
  ['counts', (izta) => izta.counts()],
  ['wait', (izta) => izta.wait(sweep, id)],
  ['cancel', (izta) => izta.cancel(id)],
  ['retry', (izta) => izta.retry(id)],
  ['queues.list', (izta) => izta.queues.list()],
  ['wake', (izta) => izta.wake('default')],
  ['schedules.list', (izta) => izta.schedules.list()],
]

async function failureOf(call: Promise<unknown>): Promise<IztaError> {
  const error = await call.then(
    (value) => new Error(`resolved to ${JSON.stringify(value)}`),
    (thrown: unknown) => thrown,
  )
  if (IztaError.is(error)) return error
  throw error
}

function changed(url: string, parts: Partial<URL>): string {
  return Object.assign(new URL(url), parts).href
}

const { password } = new URL(migrated.url)
const adapters = [
  ['pg', pgDatabase, migrated.url, empty.url],
  ['neon', neonDatabase, endpoint.url, emptyEndpoint.url],
] as const

describe.for(adapters)('by %s,', ([, open, url, emptyUrl]) => {
  test.for(calls)('%s of an unreachable database fails with a retryable error', async ([, call]) => {
    // fetch refuses port 1: https://fetch.spec.whatwg.org/#port-blocking
    const izta = create(open(changed(url, { port: '2' })))
    const error = await failureOf(call(izta))
    await izta.close()
    expect(error).toMatchObject({
      name: 'DatabaseUnreachableError',
      code: 'database-unreachable',
      retryable: true,
    })
    expect(error.message).toMatch(
      /^The database at \S+ could not be reached .*: see that it runs and that host and port are right\.$/,
    )
  })

  test.for(calls)('%s with a wrong password fails for good', async ([, call]) => {
    const izta = create(open(changed(url, { password: 'open-sesame' })))
    const error = await failureOf(call(izta))
    await izta.close()
    expect(error).toMatchObject({ name: 'DatabaseAccessError', code: 'database-access', retryable: false })
    expect(error.message).toMatch(/refused access .*: check user, password, database name and privileges\.$/)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('open-sesame')
  })

  test.for(calls)('%s of a database that is not migrated says what to run', async ([, call]) => {
    const izta = create(open(emptyUrl))
    const error = await failureOf(call(izta))
    await izta.close()
    expect(error).toMatchObject({ name: 'NotMigratedError', code: 'not-migrated', retryable: false })
    expect(error.message).toMatch(/lacks an object that this version of izta needs .*: run `izta migrate`\.$/)
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain(password)
  })
})

describe('a schema that is newer than the code', () => {
  const { pool, database } = migrated

  async function migrateFurther(breaking: boolean): Promise<string> {
    const schema = breaking ? 'breaking' : 'gentle'
    await pool.query(`
      create schema ${schema};
      create table ${schema}.migration (id integer, name text, checksum text, breaking boolean);
      insert into ${schema}.migration
      values (${newestMigration}, 'known', '', true), (${newestMigration + 1}, '0099_drop_turn', '', ${breaking})`)
    return schema
  }

  test('and that it cannot live with is told apart from a missing one, for every call', async () => {
    const izta = create(database, await migrateFurther(true))
    for (const [, call] of calls) {
      const error = await failureOf(call(izta))
      expect(error).toMatchObject({
        name: 'SchemaTooNewError',
        code: 'schema-too-new',
        retryable: false,
        message:
          'The database was migrated by a newer izta (0099_drop_turn), beside which this version cannot run: deploy the newer code.',
      })
    }
  })

  test('is no reason for an object that is missing otherwise', async () => {
    const izta = create(database, await migrateFurther(false))
    expect(await failureOf(izta.enqueue(sweep))).toMatchObject({ code: 'not-migrated' })
  })

  test('is measured by the last migration of this version', async () => {
    const files = await readdir(new URL('../../migrations/', import.meta.url))
    const numbered = files.filter((file) => /^\d/.test(file))
    expect(Math.max(...numbered.map((file) => Number.parseInt(file, 10)))).toBe(newestMigration)
  })
})

test('no log line has a password', () => {
  const text = inspect(lines, { depth: 9 })
  for (const secret of [password, 'open-sesame']) expect(text).not.toContain(secret)
})
