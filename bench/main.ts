// npm run bench: starts a PostgreSQL of its own, runs the measures, prints the table,
// writes bench/results/ and, after a full run, the pages on performance in docs/.
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { createBench } from './bench.ts'
import { compareRuns, defaultTolerance, describeComparison } from './compare.ts'
import type { Measure } from './measure.ts'
import { busyRunner } from './measures/busy-runner.ts'
import { claimersMeasure } from './measures/claimers.ts'
import { clientCpu } from './measures/client-cpu.ts'
import { coldStart } from './measures/cold-start.ts'
import { drainFinished } from './measures/drain.ts'
import { drainHttp } from './measures/drain-http.ts'
import { enqueueAlone } from './measures/enqueue-alone.ts'
import { enqueueBulk } from './measures/enqueue-bulk.ts'
import { enqueueSingle } from './measures/enqueue-single.ts'
import { firstInvocation } from './measures/first-invocation.ts'
import { flatInSize } from './measures/flat-in-size.ts'
import { flatInTime } from './measures/flat-in-time.ts'
import { growthModel } from './measures/growth-model.ts'
import { idleQueues } from './measures/idle-queues.ts'
import { latencyMeasure } from './measures/latency.ts'
import { manyQueues } from './measures/many-queues.ts'
import { memoryMeasure } from './measures/memory.ts'
import { mixedMeasure } from './measures/mixed.ts'
import { pruningMeasure } from './measures/pruning.ts'
import { rowsAndBytes } from './measures/rows-and-bytes.ts'
import { smallInvocations } from './measures/small-invocations.ts'
import { staleStatistics } from './measures/stale-statistics.ts'
import { tenants } from './measures/tenants.ts'
import { writeReport } from './report.ts'
import {
  areComparable,
  readResults,
  thisMachine,
  withResult,
  writeResults,
  type MeasureResult,
  type Results,
} from './results.ts'
import { serverSettings, startServer } from './server.ts'
import { printTable } from './table.ts'

const measures: readonly Measure[] = [
  busyRunner,
  smallInvocations,
  firstInvocation,
  enqueueAlone,
  growthModel,
  drainFinished,
  drainHttp,
  enqueueBulk,
  enqueueSingle,
  clientCpu,
  latencyMeasure,
  mixedMeasure,
  staleStatistics,
  idleQueues,
  tenants,
  claimersMeasure,
  pruningMeasure,
  flatInSize,
  manyQueues,
  flatInTime,
  memoryMeasure,
  coldStart,
  rowsAndBytes,
]
const names = measures.map(({ name }) => name)

function number(text: string): number {
  const value = Number(text)
  if (!(value > 0)) throw new InvalidArgumentError('expected a number above 0')
  return value
}

function measureName(name: string, before: readonly string[] = []): string[] {
  if (!names.includes(name)) throw new InvalidArgumentError(`expected one of ${names.join(', ')}`)
  return [...before, name]
}

interface Options {
  quick: boolean
  only: string[]
  resume: boolean
  rounds?: number
  scale: number
  largest?: number
  out: string
  compare?: string | true
  tolerance: number
}

const ownFolder = join(import.meta.dirname, 'results')
const options = new Command('npm run bench --')
  .description('Measures izta beside its peers on a PostgreSQL that it starts itself.')
  .option('--quick', 'small sizes and one round: shows that everything runs, its figures mean nothing', false)
  .option('--only <name>', 'this measure, the others keep their results; may be repeated', measureName, [])
  .option('--resume', 'goes on with a full run that was interrupted', false)
  .option('--rounds <count>', 'runs of each contender (default 5, quick: 1)', number)
  .option('--scale <factor>', 'multiplies the number of tasks', number, 1)
  .option(
    '--largest <rows>',
    'largest table of future tasks and history (default 10,000,000, quick: 20,000)',
    number,
  )
  .option('--out <folder>', 'where the JSON and the chart go', ownFolder)
  .option(
    '--compare [file]',
    'compares the ratios and counts with those of a stored run (default results/results.json), which stays as it is; code 1 where the new ones are worse',
  )
  .option('--tolerance <factor>', 'how much worse is accepted', number, defaultTolerance)
  .addHelpText(
    'after',
    `\nMeasures:\n${measures.map(({ name, title }) => `  ${name.padEnd(18)} ${title}`).join('\n')}`,
  )
  .parse()
  .opts<Options>()

const { quick, only, resume, scale, out, compare, tolerance } = options
const beganAt = performance.now()
const log = (line: string) => {
  const seconds = Math.round((performance.now() - beganAt) / 1000)
  const elapsed = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
  process.stderr.write(`${elapsed.padStart(6)}  ${line}\n`)
}
const yardstick = compare === true ? join(ownFolder, 'results.json') : compare
const compared = yardstick === undefined ? undefined : await readResults(yardstick)
if (yardstick !== undefined && compared === undefined) throw new Error(`${yardstick} does not exist`)
const file = join(out, compared !== undefined ? 'compared.json' : quick ? 'quick.json' : 'results.json')
const startedAt = new Date().toISOString()
const server = await startServer()
const failed: string[] = []
const bench = createBench({
  quick,
  rounds: options.rounds ?? (quick ? 1 : 5),
  largest: options.largest ?? (quick ? 20_000 : 10_000_000),
  scale,
  server,
  log,
})
const facts = {
  startedAt,
  quick,
  machine: thisMachine(),
  postgres: { version: server.version, settings: serverSettings },
  complete: false,
  skipped: {},
}
const stored = await readResults(file)
const before = stored !== undefined && areComparable(stored, facts) ? stored : undefined
if (stored !== undefined && before === undefined)
  log(`${file} comes from another machine or server and is replaced`)
const isFull = only.length === 0
const results: Results = {
  ...facts,
  ...(isFull && !resume ? {} : { startedAt: before?.startedAt ?? startedAt }),
  results: before?.results ?? [],
}
const hasResult = ({ name }: Measure) =>
  results.results.some(({ measure, measuredAt }) => measure === name && measuredAt >= results.startedAt)
const todo = measures.filter((measure) =>
  isFull ? !(resume && hasResult(measure)) : only.includes(measure.name),
)
const done: MeasureResult[] = []
try {
  for (const [index, measure] of todo.entries()) {
    const { name, title } = measure
    const measuredAt = new Date()
    log(`${name} (${index + 1} of ${todo.length}): ${title}`)
    try {
      // oxlint-disable-next-line no-await-in-loop -- measures side by side would measure each other
      const rows = await measure.run(bench)
      const minutes = Math.round((Date.now() - measuredAt.getTime()) / 6000) / 10
      const result = {
        measure: name,
        title,
        measuredAt: measuredAt.toISOString(),
        minutes,
        rounds: bench.rounds,
        scale,
        rows,
      }
      done.push(result)
      results.skipped = { ...stored?.skipped, ...Object.fromEntries(bench.skipped) }
      results.results = withResult(results.results, result, names)
      results.complete = measures.every(hasResult)
      // What has been measured in an hour is not lost when the next measure never ends.
      // oxlint-disable-next-line no-await-in-loop
      await writeResults(file, results)
    } catch (error) {
      log(`${name} failed: ${error instanceof Error ? error.stack : String(error)}`)
      failed.push(name)
      process.exitCode = 1
    }
  }
} finally {
  await server.stop()
}

printTable(done, (line) => process.stdout.write(`${line}\n`))
for (const name of failed) process.stdout.write(`failed: ${name}\n`)
for (const [label, reason] of bench.skipped) process.stdout.write(`skipped ${label}: ${reason}\n`)
await writeReport(results, {
  chart: file.replace(/json$/, 'svg'),
  isPublished: !quick && scale === 1 && out === ownFolder && compared === undefined,
})
log(`${file} and its chart are written`)
if (compared !== undefined) {
  const comparison = compareRuns(compared, { results: done }, tolerance)
  process.stdout.write(`${describeComparison(comparison, tolerance)}\n`)
  if (comparison.worse.length + comparison.missing.length > 0) process.exitCode = 1
}
