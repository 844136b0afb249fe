// npm run bench: starts a PostgreSQL of its own, runs the measures, prints the table, writes bench/results/.
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { join } from 'node:path'
import { Command, InvalidArgumentError } from 'commander'
import { createBench } from './bench.ts'
import { drawChart } from './chart.ts'
import type { Measure, Row } from './measure.ts'
import { clientCpu } from './measures/client-cpu.ts'
import { coldStart } from './measures/cold-start.ts'
import { drainFinished } from './measures/drain.ts'
import { drainHttp } from './measures/drain-http.ts'
import { enqueueBulk } from './measures/enqueue-bulk.ts'
import { enqueueSingle } from './measures/enqueue-single.ts'
import { flatInSize } from './measures/flat-in-size.ts'
import { flatInTime } from './measures/flat-in-time.ts'
import { latencyMeasure } from './measures/latency.ts'
import { manyQueues } from './measures/many-queues.ts'
import { memoryMeasure } from './measures/memory.ts'
import { mixedMeasure } from './measures/mixed.ts'
import { rowsAndBytes } from './measures/rows-and-bytes.ts'
import { smallInvocations } from './measures/small-invocations.ts'
import { serverSettings, startServer } from './server.ts'
import { printTable } from './table.ts'

const measures: readonly Measure[] = [
  drainFinished,
  drainHttp,
  enqueueBulk,
  enqueueSingle,
  clientCpu,
  latencyMeasure,
  mixedMeasure,
  flatInSize,
  manyQueues,
  flatInTime,
  smallInvocations,
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
  rounds?: number
  scale: number
  largest?: number
  out: string
}

const options = new Command('npm run bench --')
  .description('Measures izta beside its peers on a PostgreSQL that it starts itself.')
  .option('--quick', 'small sizes and one round: shows that everything runs, its figures mean nothing', false)
  .option('--only <name>', 'this measure; may be repeated', measureName, [])
  .option('--rounds <count>', 'runs of each contender (default 5, quick: 1)', number)
  .option('--scale <factor>', 'multiplies the number of tasks', number, 1)
  .option(
    '--largest <rows>',
    'largest table of future tasks and history (default 10,000,000, quick: 20,000)',
    number,
  )
  .option('--out <folder>', 'where the JSON and the chart go', join(import.meta.dirname, 'results'))
  .addHelpText(
    'after',
    `\nMeasures:\n${measures.map(({ name, title }) => `  ${name.padEnd(18)} ${title}`).join('\n')}`,
  )
  .parse()
  .opts<Options>()

const { quick, only, scale, out } = options
const log = (line: string) => void process.stderr.write(`${line}\n`)
const startedAt = new Date()
const server = await startServer()
const results: { measure: string; title: string; rows: Row[] }[] = []
const failed: string[] = []
const bench = createBench({
  quick,
  rounds: options.rounds ?? (quick ? 1 : 5),
  largest: options.largest ?? (quick ? 20_000 : 10_000_000),
  scale,
  server,
  log,
})
try {
  for (const measure of measures) {
    if (only.length > 0 && !only.includes(measure.name)) continue
    log(`${measure.name}: ${measure.title}`)
    const { name, title } = measure
    try {
      // oxlint-disable-next-line no-await-in-loop -- measures side by side would measure each other
      results.push({ measure: name, title, rows: await measure.run(bench) })
    } catch (error) {
      // What the others have measured in an hour is not thrown away for it.
      log(`${name} failed: ${error instanceof Error ? error.stack : String(error)}`)
      failed.push(name)
      process.exitCode = 1
    }
  }
} finally {
  await server.stop()
}

const [cpu] = cpus()
const machine = { cpu: cpu?.model, cores: cpus().length, memoryBytes: totalmem(), node: process.version }
const facts = {
  startedAt: startedAt.toISOString(),
  minutes: Math.round((Date.now() - startedAt.getTime()) / 6000) / 10,
  quick,
  rounds: bench.rounds,
  scale,
  machine,
  postgres: { version: server.version, settings: serverSettings },
  failed,
  skipped: Object.fromEntries(bench.skipped),
}
await mkdir(out, { recursive: true })
const stem = join(out, quick ? 'quick' : 'results')
await writeFile(`${stem}.json`, `${JSON.stringify({ ...facts, results }, undefined, 2)}\n`)
await writeFile(`${stem}.svg`, drawChart(results))
printTable(results, (line) => process.stdout.write(`${line}\n`))
for (const name of failed) process.stdout.write(`failed: ${name}\n`)
for (const [label, reason] of bench.skipped) process.stdout.write(`skipped ${label}: ${reason}\n`)
process.stdout.write(`${stem}.json, ${stem}.svg (${facts.minutes} minutes)\n`)
