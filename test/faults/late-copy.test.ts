import { createIzta, defineJob } from 'izta'
import { drain } from 'izta/testing'
import { expect, test } from 'vitest'
import type { Database, SqlText } from '../../src/db/database.ts'
import { toDatabaseError } from '../../src/db/transient.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const nothing = () => undefined
const log = { debug: nothing, info: nothing, warn: nothing, error: nothing }

test('an enqueue that arrives after the task of its repeat has ended makes nothing', async () => {
  let runs = 0
  const job = defineJob({ id: 'late', run: () => void runs++ })
  let onItsWay: SqlText | undefined
  const slowNetwork: Database = {
    ...database,
    query(statement) {
      if (onItsWay !== undefined) return database.query(statement)
      onItsWay = statement
      return Promise.reject(
        toDatabaseError(Object.assign(new Error('reset'), { code: 'ECONNRESET' }), 'the test'),
      )
    },
  }
  const izta = createIzta({ database: slowNetwork, jobs: [job], log })
  await izta.enqueue(job)
  await drain(izta)
  expect(runs).toBe(1)

  await database.query(onItsWay as SqlText)
  await drain(izta)

  expect(runs).toBe(1)
  expect((await pool.query('select from izta.task')).rowCount).toBe(0)
})
