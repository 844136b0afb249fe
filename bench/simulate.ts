// node bench/simulate.ts: replays days of arrivals against the policy of claim, linger, wake and hand-over on a virtual
// clock, and prints delays, invocations and cost for each mode and setting. `--write` puts it into docs/performance-tables.md.
import { Command } from 'commander'
import { defaults } from '../src/defaults.ts'
import { writeSection } from './markers.ts'
import { quantile } from './measure.ts'
import { daysPerMonth, prices } from './prices.ts'
import { memoryDatabase } from './simulation/memory-database.ts'
import { arrivalsOf, profiles, type Profile } from './simulation/profiles.ts'
import { validate } from './simulation/validate.ts'
import { assumptions, simulate, type Outcome, type Settings } from './simulation/world.ts'
import { markdownTable, short } from './table.ts'

const standard: Settings = {
  mode: 'steady',
  tickMinutes: 1,
  lingerSeconds: defaults.runner.lingerSeconds,
  concurrency: defaults.runner.concurrency,
  maxRunners: 10,
  timeoutSeconds: 300,
  checkSeconds: defaults.alarm.checkSeconds,
}

/** What is compared: the defaults, and one thing changed at a time. */
const variants: readonly { readonly name: string; readonly settings: Partial<Settings> }[] = [
  { name: 'steady: the defaults', settings: {} },
  { name: 'linger 120 s', settings: { lingerSeconds: 120 } },
  { name: 'linger 20 s', settings: { lingerSeconds: 20 } },
  { name: 'linger 5 s', settings: { lingerSeconds: 5 } },
  { name: 'linger 0', settings: { lingerSeconds: 0 } },
  { name: 'tick 5 min', settings: { tickMinutes: 5 } },
  { name: 'concurrency 1', settings: { concurrency: 1 } },
  { name: 'concurrency 50', settings: { concurrency: 50 } },
  { name: 'timeout 900 s', settings: { timeoutSeconds: 900 } },
  { name: 'sleepy: the defaults', settings: { mode: 'sleepy' } },
  { name: 'sleepy, linger 20 s', settings: { mode: 'sleepy', lingerSeconds: 20 } },
  { name: 'sleepy, look after 10 min', settings: { mode: 'sleepy', checkSeconds: 600 } },
  { name: 'sleepy, linger 0', settings: { mode: 'sleepy', lingerSeconds: 0 } },
]

interface Options {
  profile: string[]
  variant: string[]
  seed: string
  write: boolean
  validate: boolean
}

const collect = (value: string, before: readonly string[]) => [...before, value]
const options = new Command('node bench/simulate.ts')
  .description('Replays a day of arrivals against the policy on a virtual clock.')
  .option(
    '--profile <name>',
    `one of ${profiles.map(({ name }) => name).join(', ')}; may be repeated`,
    collect,
    [],
  )
  .option('--variant <text>', 'variants whose name contains this; may be repeated', collect, [])
  .option('--seed <number>', 'of the arrivals', '1')
  .option('--write', 'writes the whole comparison into docs/performance-tables.md', false)
  .option('--validate', 'replays two hours against a real PostgreSQL as well; fails if they differ', false)
  .parse()
  .opts<Options>()

const print = (line: string) => void process.stdout.write(`${line}\n`)
const head = [
  'setting',
  'delay p50',
  'p95',
  'p99',
  'max',
  'runners',
  'scheduler',
  'GB-s',
  'statements',
  'database h',
  'Lambda $/month',
  'database $/month',
]

function costOf(outcome: Outcome): { lambda: number; database: number } {
  const perDay =
    (outcome.runnerGbSeconds + outcome.schedulerGbSeconds) * prices.lambdaGbSecond.dollars +
    (outcome.runnerInvocations + outcome.schedulerInvocations) * prices.lambdaRequest.dollars +
    outcome.scheduledInvocations * prices.schedulerInvocation.dollars +
    outcome.deadLetters * prices.sqsRequest.dollars
  return {
    lambda: perDay * daysPerMonth,
    database: outcome.databaseHours * assumptions.databaseCu * prices.neonCuHour.dollars * daysPerMonth,
  }
}

function cells(name: string, outcome: Outcome): string[] {
  const { lambda, database } = costOf(outcome)
  const delay = (share: number) => seconds(quantile(outcome.delaysMs, share))
  return [
    name,
    delay(0.5),
    delay(0.95),
    delay(0.99),
    delay(1),
    short(outcome.runnerInvocations),
    short(outcome.schedulerInvocations),
    short(outcome.runnerGbSeconds + outcome.schedulerGbSeconds),
    short(outcome.statements),
    short(outcome.databaseHours),
    lambda.toFixed(2),
    database.toFixed(2),
  ]
}

const seconds = (ms: number) =>
  ms < 1000 ? `${Math.round(ms)} ms` : ms < 600_000 ? `${short(ms / 1000)} s` : `${short(ms / 3_600_000)} h`

async function day(profile: Profile): Promise<string> {
  const arrivals = arrivalsOf(profile, Number(options.seed))
  const rows: string[][] = []
  const same: string[] = []
  for (const { name, settings } of variants) {
    if (options.variant.length > 0 && !options.variant.some((text) => name.includes(text))) continue
    const startedAt = performance.now()
    const outcome = await simulate(arrivals, { ...standard, ...settings }, async (clock) =>
      memoryDatabase(clock),
    )
    if (outcome.unfinished > 0)
      throw new Error(`${profile.name}, ${name}: ${outcome.unfinished} tasks never ended`)
    const row = cells(name, outcome)
    if (String(row.slice(1)) === String(rows[0]?.slice(1))) same.push(name)
    else rows.push(row)
    const took = ((performance.now() - startedAt) / 1000).toFixed(1)
    process.stderr.write(
      `${profile.name}, ${name}: ${took} s, ${outcome.coldStarts} cold starts, ${outcome.deadLetters} dead letters\n`,
    )
  }
  return `**${profile.name}**: ${profile.title} (${arrivals.length.toLocaleString('en')} in this day).\n\n${markdownTable(head, rows)}${same.length === 0 ? '' : `\n\nNo difference to the first row: ${same.join('; ')}.`}`
}

if (options.validate) {
  const text = await validate(standard)
  print(text)
  if (options.write) await writeSection('simulation-check', text)
} else {
  const chosen = profiles.filter(({ name }) => options.profile.length === 0 || options.profile.includes(name))
  const sections: string[] = []
  for (const profile of chosen) {
    const section = await day(profile)
    sections.push(section)
    print(`${section}\n`)
  }
  if (options.write) await writeSection('simulation', sections.join('\n\n'))
}
