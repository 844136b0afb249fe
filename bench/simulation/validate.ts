// Whether the answers from memory are those of the SQL: the same two hours against both.
import { createTestClock } from '../../src/testing/clock.ts'
import { migrate } from '../../src/db/migrate.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { quantile } from '../measure.ts'
import { administer } from '../server.ts'
import { markdownTable, short } from '../table.ts'
import { memoryDatabase } from './memory-database.ts'
import type { Arrival } from './profiles.ts'
import { createRandom } from './random.ts'
import { simulate, type OpenDatabase, type Outcome, type Settings } from './world.ts'

const twoHoursMs = 2 * 3_600_000

/** Some of everything: singles, bursts, delays, tasks without a wake. */
function trace(): Arrival[] {
  const random = createRandom(7)
  const singles = Array.from({ length: 250 }, () => ({
    atMs: random.between(0, twoHoursMs - 600_000),
    delayMs: random.next() < 0.3 ? random.between(0, 1_800_000) : 0,
    durationMs: Math.min(50_000, random.logNormal(300, 1)),
    silent: random.next() < 0.05,
  }))
  const bursts = [600_000, 3_000_000].flatMap((burstMs) =>
    Array.from({ length: 120 }, () => ({
      atMs: burstMs + random.exponential(1000),
      delayMs: 0,
      durationMs: Math.min(50_000, random.logNormal(1000, 1)),
      silent: false,
    })),
  )
  return [...singles, ...bursts]
    .filter(({ atMs, delayMs }) => atMs + delayMs < twoHoursMs)
    .toSorted((a, b) => a.atMs - b.atMs)
}

/**
 * The table of both.
 *
 * @throws when memory and PostgreSQL do not agree.
 */
export async function validate(standard: Settings): Promise<string> {
  await using server = await startServer()
  const rows: string[][] = []
  for (const mode of ['steady', 'sleepy'] as const) {
    const settings = { ...standard, mode }
    const arrivals = trace()
    const inMemory = await simulate(arrivals, settings, async (clock) => memoryDatabase(clock), twoHoursMs)
    const inPostgres = await simulate(arrivals, settings, await server.open(mode), twoHoursMs)
    rows.push(describe(`${mode}, from memory`, inMemory), describe(`${mode}, PostgreSQL`, inPostgres))
    for (const [fact, one, other] of compared(inMemory, inPostgres)) {
      if (Math.abs(one - other) <= tolerance * other) continue
      throw new Error(`${mode}: ${fact} is ${one} from memory and ${other} with PostgreSQL`)
    }
  }
  return markdownTable(
    ['run', 'tasks', 'delay p50', 'p99', 'max', 'runners', 'scheduler', 'GB-s', 'statements'],
    rows,
  )
}

/** Statements of one instant may come in another order. */
const tolerance = 0.02

const compared = (one: Outcome, other: Outcome): [string, number, number][] => [
  ['the number of unfinished tasks', one.unfinished, other.unfinished],
  ['the number of runners', one.runnerInvocations, other.runnerInvocations],
  ['the number of ticks', one.schedulerInvocations, other.schedulerInvocations],
  ['the number of statements', one.statements, other.statements],
  ['the median delay', quantile(one.delaysMs, 0.5), quantile(other.delaysMs, 0.5)],
  ['the 99th percentile of delays', quantile(one.delaysMs, 0.99), quantile(other.delaysMs, 0.99)],
]

function describe(name: string, outcome: Outcome): string[] {
  const ms = (share: number) => `${short(quantile(outcome.delaysMs, share))} ms`
  return [
    name,
    short(outcome.tasks - outcome.unfinished),
    ms(0.5),
    ms(0.99),
    ms(1),
    short(outcome.runnerInvocations),
    short(outcome.schedulerInvocations),
    short(outcome.runnerGbSeconds + outcome.schedulerGbSeconds),
    short(outcome.statements),
  ]
}

/** A PostgreSQL whose time is the simulation's; one connection, so that statements keep their order. */
async function startServer() {
  const postgres = await startPostgres()
  return {
    async open(name: string): Promise<OpenDatabase> {
      await administer(postgres.url, `create database ${name}`)
      const url = new URL(postgres.url)
      url.pathname = `/${name}`
      const database = pgDatabase({ connectionString: url.href, max: 1 })
      await migrate(database, { schema: 'izta' })
      await createTestClock({ database })
      return async (clock) => {
        let written: number | undefined
        return {
          async query(statement) {
            if (written !== clock.epochMs) {
              written = clock.epochMs
              const at = new Date(written).toISOString()
              await database.query({ text: 'update izta.test_clock set at = $1::timestamptz', values: [at] })
            }
            return database.query(statement)
          },
          close: async () => database.close?.(),
        }
      }
    },
    [Symbol.asyncDispose]: () => postgres.stop(),
  }
}
