// Entry of `npm run test:fuzz`: hostile requests to the enqueue function, by a seed that it prints.
import { Command, InvalidArgumentError } from 'commander'
import { Pool } from 'pg'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { migrate } from '../../src/db/migrate.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { fuzz } from './fuzz.ts'

const whole = (text: string) => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number above 0')
  return value
}
const { bodies, seed } = new Command('test:fuzz')
  .description('Sends hostile requests to the enqueue function and checks what must hold for each.')
  .option('--bodies <n>', 'how many', whole, 100_000)
  .option('--seed <n>', 'which ones', whole, 1 + Math.floor(Math.random() * 1_000_000))
  .showHelpAfterError()
  .parse()
  .opts<{ bodies: number; seed: number }>()

const say = (line: string) => void process.stderr.write(`${line}\n`)
say(`seed ${seed}: ${bodies} requests`)
const server = await startPostgres()
const database = pgDatabase(server.url)
const pool = new Pool({ connectionString: server.url })
try {
  await migrate(database, { schema: 'izta' })
  const report = await fuzz({ database, pool, seed, count: bodies, portion: 5000, log: say })
  say(JSON.stringify(report, undefined, 2))
  process.exitCode = report.violations.length === 0 ? 0 : 1
} finally {
  await Promise.all([database.close?.(), pool.end()])
  await server.stop()
}
