// A portion of the hostile requests of `npm run test:fuzz`.
import { expect, test } from 'vitest'
import { testDatabase } from '../support/database.ts'
import { fuzz } from './fuzz.ts'

const { database, pool } = await testDatabase()

test(
  'hostile requests are answered in time and in order, and what is accepted is run and read back',
  { timeout: 60_000 },
  async () => {
    const report = await fuzz({
      database,
      pool,
      seed: 1 + Math.floor(Math.random() * 1e6),
      count: 2000,
      portion: 1000,
    })
    expect(report.violations, `replay: npm run test:fuzz -- --bodies 2000 --seed ${report.seed}`).toEqual([])
    expect(report.answers[202]).toBeGreaterThan(100)
    expect(report.answers[422]).toBeGreaterThan(100)
    expect(report.tasks).toBeGreaterThan(100)
  },
)
