// An enqueue inside the application's own transaction, with the drivers that applications have.
import { neon } from '@neondatabase/serverless'
import { sql, type SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { createIzta, defineJob, type EnqueueStatement, type Logger } from 'izta'
import { migrate } from '../../src/db/migrate.ts'
import { CompiledQuery, Kysely, PostgresDialect } from 'kysely'
import { beforeEach, describe, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { neonEndpoint } from '../support/neon-endpoint.ts'

const { database, pool, url, connect } = await testDatabase()
const endpoint = await neonEndpoint(url)
const log: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const invoice = defineJob({ id: 'invoice', payload: z.object({ order: z.number() }), queue: 'invoices' })
const later = defineJob({ id: 'later', payload: z.string().refine(async () => true) })
const woken: string[] = []
const izta = createIzta({
  database,
  jobs: [invoice, later],
  log,
  wake: { wake: (queue) => void woken.push(queue) },
})
await pool.query('create table orders (id integer primary key)')

beforeEach(async () => {
  woken.length = 0
  await pool.query('truncate orders, izta.task, izta.history, izta.queue')
})

async function stored(): Promise<unknown> {
  const text =
    'select (select count(*)::int from orders) as orders, (select count(*)::int from izta.task) as tasks'
  const { rows } = await pool.query(text)
  return rows[0]
}

/** What the README shows for Drizzle, whose raw SQL takes no list of values. */
function toDrizzle({ text, values }: EnqueueStatement): SQL {
  const parts = text.split(/\$(\d+)/)
  return sql.join(
    parts.map((part, index) => (index % 2 === 0 ? sql.raw(part) : sql`${values[Number(part) - 1]}`)),
  )
}

const rollback = new Error('roll back')
const orm = drizzle({ client: pool })
const kysely = new Kysely<{ orders: { id: number } }>({ dialect: new PostgresDialect({ pool }) })

/** Inserts an order and runs the statement in one transaction, which is rolled back where `fails`. */
type Transaction = (
  statement: EnqueueStatement,
  fails: boolean,
) => Promise<Parameters<EnqueueStatement['read']>[0]>

const transactions: [driver: string, run: Transaction][] = [
  [
    'pg',
    async ({ text, values }, fails) => {
      const client = await connect()
      await client.query('begin')
      await client.query('insert into orders values (1)')
      const result = await client.query(text, values)
      await client.query(fails ? 'rollback' : 'commit')
      return result
    },
  ],
  [
    'Neon over HTTP',
    async ({ text, values }, fails) => {
      const http = neon(endpoint.url)
      const queries = [http`insert into orders values (1)`, http.query(text, values)]
      if (fails) queries.push(http`select 1 / 0`)
      const [, rows = []] = await http.transaction(queries)
      return rows as Record<string, unknown>[]
    },
  ],
  [
    'Drizzle',
    async (statement, fails) =>
      orm.transaction(async (transaction) => {
        await transaction.execute(sql`insert into orders values (1)`)
        const result = await transaction.execute(toDrizzle(statement))
        if (fails) throw rollback
        return result
      }),
  ],
  [
    'Kysely',
    async ({ text, values }, fails) =>
      kysely.transaction().execute(async (transaction) => {
        await transaction.insertInto('orders').values({ id: 1 }).execute()
        const result = await transaction.executeQuery(CompiledQuery.raw(text, values))
        if (fails) throw rollback
        return result
      }),
  ],
]

describe.for(transactions)('with %s', ([, run]) => {
  test('the task exists when the transaction commits', async () => {
    const statement = izta.enqueueStatement(invoice, { order: 1 }, { priority: 1 })
    const result = await run(statement, false)
    expect(statement.read(result)).toEqual({ id: statement.id, created: true, status: 'pending' })
    expect(await stored()).toEqual({ orders: 1, tasks: 1 })
    expect(await izta.get(invoice, statement.id)).toMatchObject({ payload: { order: 1 }, priority: 1 })
  })

  test('there is no task when it rolls back', async () => {
    const statement = izta.enqueueStatement(invoice, { order: 1 })
    await run(statement, true).catch(() => {})
    expect(await stored()).toEqual({ orders: 0, tasks: 0 })
  })

  test('a taken key is answered with its holder', async () => {
    const holder = await izta.enqueue(invoice, { order: 1 }, { key: 'k' })
    const statement = izta.enqueueStatement(invoice, { order: 1 }, { key: 'k' })
    const result = await run(statement, false)
    expect(statement.read(result)).toEqual({ id: holder.id, created: false, status: 'pending' })
    expect(await stored()).toEqual({ orders: 1, tasks: 1 })
  })
})

describe('the statement', () => {
  test('touches no row of izta.queue and wakes nobody, until izta.wake is called', async () => {
    await izta.enqueue(invoice, { order: 0 })
    await pool.query("update izta.queue set woken_at = '-infinity'")
    woken.length = 0
    const client = await connect()
    const { text, values } = izta.enqueueStatement(invoice, { order: 1 })
    await client.query('begin')
    await client.query(text, values)
    // Would wait for the open transaction if that had locked the row.
    await pool.query('select 1 from izta.queue for update nowait')
    await client.query('commit')
    expect(woken).toEqual([])
    await izta.wake('invoices')
    expect(woken).toEqual(['invoices'])
  })

  test('is refused as an enqueue would be, before there is a statement', () => {
    expect(() => izta.enqueueStatement(invoice, { order: 'x' } as never)).toThrow('"order": Invalid input')
    expect(() => izta.enqueueStatement(invoice, { order: 1 }, { priority: 11 })).toThrow('option "priority"')
  })

  test('cannot wait for an asynchronous schema', () => {
    expect(() => izta.enqueueStatement(later, 'x')).toThrow(
      'enqueueStatement cannot wait for the asynchronous payload schema of job "later": use enqueue, or a synchronous schema.',
    )
  })

  test('with an id of the caller makes one task, also after it has ended', async () => {
    const { id } = await izta.enqueue(invoice, { order: 1 })
    await izta.cancel(id)
    const { text, values, read } = izta.enqueueStatement(invoice, { order: 1 }, { id })
    expect(read(await pool.query(text, values))).toEqual({ id, created: false, status: 'cancelled' })
  })

  test('reads its row with JSON parsed or as text, and nothing else', async () => {
    const { id } = await izta.enqueue(invoice, { order: 1 }, { key: 'k' })
    const { text, values, read } = izta.enqueueStatement(invoice, { order: 1 }, { key: 'k' })
    const { rows } = await pool.query(text, values)
    const raw = await database.query({ text, values })
    const expected = { id, created: false, status: 'pending' }
    expect([read(rows), read(raw), read({ rows })]).toEqual([expected, expected, expected])
    expect(() => read([])).toThrow(
      'read: expected the one row that the statement returns, as an object; got [].',
    )
    expect(() => read([{ id: 1 }])).toThrow('read: expected the one row')
    expect(() => read(undefined as never)).toThrow('read: expected the one row')
  })

  test('names the holder of the key also when that committed while the statement waited, and says so if it is gone', async () => {
    const [first, second] = [await connect(), await connect()]
    const holder = izta.enqueueStatement(invoice, { order: 1 }, { key: 'k' })
    const mine = izta.enqueueStatement(invoice, { order: 1 }, { key: 'k' })
    await first.query('begin')
    await first.query(holder.text, holder.values)
    const waiting = second.query(mine.text, mine.values)
    const blocked = 'select 1 from pg_stat_activity where cardinality(pg_blocking_pids(pid)) > 0'
    for (let look = 0; look < 500 && (await pool.query(blocked)).rowCount === 0; look++);
    await first.query('commit')
    expect(mine.read(await waiting)).toEqual({ id: holder.id, created: false, status: 'pending' })
    const gone = [{ reply: { refused: [{ index: 0, id: null, status: null }] } }]
    expect(() => mine.read(gone)).toThrow(expect.objectContaining({ code: 'key-contended', retryable: true }))
  })

  test('names the configured schema', async () => {
    await migrate(database, { schema: 'my_jobs' })
    const own = createIzta({ database, jobs: [invoice], schema: 'my_jobs', log })
    const { id, text, values, read } = own.enqueueStatement(invoice, { order: 1 })
    expect(read(await pool.query(text, values))).toMatchObject({ created: true })
    expect(await own.get(invoice, id)).toMatchObject({ status: 'pending' })
    expect(await izta.get(invoice, id)).toBeUndefined()
  })
})
