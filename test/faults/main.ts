// Entry of `npm run test:faults`: reads arguments, runs, prints what was found, and writes the report.
import { Command, InvalidArgumentError } from 'commander'
import { kindNames, type KindName } from './kinds.ts'
import { writeMutations, writeReport } from './report.ts'
import { run } from './run.ts'

const whole = (text: string) => {
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError('expected a whole number above 0')
  return value
}
const someKinds = (text: string) =>
  text.split(',').map((name) => {
    const kind = kindNames.find((known) => known === name)
    if (kind === undefined) throw new InvalidArgumentError(`expected some of ${kindNames.join(', ')}`)
    return kind
  })

interface Options {
  readonly faults: number
  readonly seed: number
  readonly rate: number
  readonly runners: number
  readonly kinds: readonly KindName[]
  readonly except: readonly KindName[]
  readonly mutations?: boolean | string
  readonly report?: string
  readonly untilViolation?: boolean
  readonly json?: boolean
}

const options = new Command('test:faults')
  .description(
    'Injects faults into real processes on a real PostgreSQL and checks what must hold whatever happens.',
  )
  .option('--faults <n>', 'how many', whole, 300)
  .option('--seed <n>', 'the order of the faults', whole, 1 + Math.floor(Math.random() * 1_000_000))
  .option('--rate <n>', 'faults a second', whole, 7)
  .option('--runners <n>', 'processes that run tasks', whole, 8)
  .option('--kinds <list>', 'only these, by commas', someKinds, kindNames)
  .option('--except <list>', 'all but these', someKinds, [])
  .option('--report <file>', 'write the figures into this page')
  .option('--until-violation', 'stop at the first violation')
  .option('--mutations [names]', 'break the engine on purpose, once for each way, and see that it is caught')
  .option('--json', 'print the report as JSON, as the last line')
  .showHelpAfterError()
  .parse()
  .opts<Options>()

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130))

const log = (line: string) => void process.stderr.write(`${line}\n`)

if (options.mutations !== undefined) {
  const { runMutations } = await import('./mutate.ts')
  const names = typeof options.mutations === 'string' ? options.mutations.split(',') : undefined
  const results = await runMutations({ seed: options.seed, names, log })
  if (options.report !== undefined) await writeMutations(options.report, results)
  process.exitCode = results.every(({ caughtBy }) => caughtBy !== undefined) ? 0 : 1
} else {
  log(`seed ${options.seed}: ${options.faults} faults, ${options.rate} a second`)
  const kinds = options.kinds.filter((kind) => !options.except.includes(kind))
  const report = await run({ ...options, kinds, untilViolation: options.untilViolation ?? false, log })
  if (options.report !== undefined) await writeReport(options.report, report)
  if (options.json === true) process.stdout.write(`${JSON.stringify(report)}\n`)
  else log(JSON.stringify(report, undefined, 2))
  log(
    report.violations.length === 0
      ? 'Every invariant held.'
      : `${report.violations.length} invariants were violated: replay with --seed ${report.seed}.`,
  )
  process.exitCode = report.violations.length === 0 ? 0 : 1
}
process.exit()
