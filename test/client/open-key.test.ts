// A transaction of somebody else that holds a key and stays open: who waits for it, and who does not.
import { createIzta, defineJob, startRunner } from 'izta'
import { pgDatabase } from 'izta/pg'
import { afterAll, beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { url, pool, connect } = await testDatabase()
const log = { debug() {}, info() {}, warn() {}, error() {} }
const runs: string[] = []
let onRun = () => {}
const work = defineJob({
  id: 'work',
  payload: z.string(),
  run(text) {
    runs.push(text)
    onRun()
  },
})
const izta = createIzta({ database: pgDatabase(url), jobs: [work], log })
const outside = createIzta({ database: pgDatabase(url), jobs: [work], log })
afterAll(() => Promise.all([izta.close(), outside.close()]))
beforeEach(async () => {
  runs.length = 0
  await pool.query('truncate izta.task, izta.history')
})

test('an open transaction that holds a key stalls neither other enqueues, nor reads, nor the runner of the process', async () => {
  const holder = await connect()
  await holder.query('begin')
  const { text, values } = izta.enqueueStatement(work, 'held', { key: 'daily' })
  await holder.query(text, values)
  const runner = startRunner(izta)
  const waiters = Promise.all(
    Array.from({ length: 8 }, (_, n) => izta.enqueue(work, `${n}`, { key: 'daily' })),
  )
  const ranOutside = Promise.withResolvers<void>()
  onRun = () => runs.includes('outside') && ranOutside.resolve()
  // The transaction stays open until all of these have ended.
  await expect(izta.enqueue(work, 'unkeyed')).resolves.toMatchObject({ created: true })
  await izta.counts()
  await outside.enqueue(work, 'outside')
  await ranOutside.promise
  await holder.query('commit')
  // Told of the holder, or stored after it has run.
  await waiters
  await runner.stop()
})
test('thousands of keyed enqueues at once are all stored', async () => {
  const own = createIzta({ database: pgDatabase({ connectionString: url, max: 3 }), jobs: [work], log })
  const answers = await Promise.all(
    Array.from({ length: 5000 }, (_, n) => own.enqueue(work, `${n}`, { key: `k${n}` })),
  )
  await own.close()
  expect(answers.every(({ created }) => created)).toBe(true)
  const { rows } = await pool.query('select count(*)::int as n from izta.task')
  expect(rows).toEqual([{ n: 5000 }])
})
