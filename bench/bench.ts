// What a measure works with: sizes, rounds, fresh databases, and runs of queues in processes of their own.
import { execFile, spawn } from 'node:child_process'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import type { WorkName, Works } from './child.ts'
import type { QueueOptions } from './queue.ts'
import { administer, type Server } from './server.ts'
import type { WorkOptions } from './works.ts'

const folder = import.meta.dirname
const run = promisify(execFile)

/** A queue with its settings, as it stands in the table. */
export interface Contender {
  readonly label: string
  readonly queue: string
  readonly options?: Omit<QueueOptions, 'url'> & Partial<WorkOptions>
  /** Share of the tasks that a slow one is given. @default 1 */
  readonly share?: number
  /** A slow one whose ratio has no target is run less often. @default every round */
  readonly rounds?: number
}

export const graphileWorker: Contender = { label: 'graphile-worker', queue: 'graphile-worker' }
export const pgBoss: Contender = { label: 'pg-boss', queue: 'pg-boss' }
export const river: Contender = { label: 'River', queue: 'river' }
export const bullmq: Contender = { label: 'BullMQ', queue: 'bullmq', share: 0.05, rounds: 2 }
export const iztaCrate: Contender = {
  label: 'izta crate (Rust)',
  queue: 'izta-crate',
  share: 0.01,
  rounds: 2,
}
export const izta: Contender = { label: 'izta', queue: 'izta' }
export const iztaKept: Contender = { label: 'izta, results kept', queue: 'izta', options: { kept: true } }
export const iztaUnchecked: Contender = {
  label: 'izta, no schema check',
  queue: 'izta',
  options: { checked: false },
}

export const iztaAlone: Contender = {
  label: 'izta, each call alone',
  queue: 'izta',
  options: { alone: true },
}

export type WorkResult<Name extends WorkName> = Awaited<ReturnType<Works[Name]>> & {
  /** Rows updated or deleted, per task: what vacuum has to clear away. */
  readonly deadRowsPerTask: number
  /** What tables and indexes take after the work and a vacuum, per task; where the work asks for it. */
  readonly storedBytesPerTask?: number
}

export interface Bench {
  readonly quick: boolean
  /** How often each contender runs. */
  readonly rounds: number
  /** The largest table of future tasks and of history, in rows. */
  readonly largest: number
  readonly server: Server
  size(full: number, quick: number): number
  /** Installs the queue in a fresh database, does the work and drops the database. */
  run<Name extends WorkName>(
    contender: Contender,
    work: Name,
    options: WorkOptions,
  ): Promise<WorkResult<Name>>
  /** Those that can run here; the others are named once as skipped. */
  present(contenders: readonly Contender[]): Promise<Contender[]>
  readonly skipped: ReadonlyMap<string, string>
  log(line: string): void
}

export interface BenchOptions {
  readonly quick: boolean
  readonly rounds: number
  readonly largest: number
  readonly scale: number
  readonly server: Server
  readonly log: (line: string) => void
}

export function createBench({ quick, rounds, largest, scale, server, log }: BenchOptions): Bench {
  const skipped = new Map<string, string>()
  const commands = new Map<string, Promise<string[] | Missing>>()
  const commandOf = (queue: string) => {
    const command = commands.get(queue) ?? prepare(queue)
    commands.set(queue, command)
    return command
  }
  return {
    quick,
    rounds,
    largest,
    server,
    skipped,
    log,
    size: (full, small) => Math.max(1, Math.round((quick ? small : full) * scale)),
    async run(contender, work, options) {
      const command = await commandOf(contender.queue)
      if ('reason' in command) throw new Error(`${contender.label} cannot run: ${command.reason}`)
      await using database = await server.database()
      const tasks = Math.min(options.tasks, Math.max(100, Math.round(options.tasks * (contender.share ?? 1))))
      const given = { ...options, ...contender.options, tasks, url: database.url }
      const result = await lastLine([...command, work, JSON.stringify(given)])
      const deadRowsPerTask = (await deadRows(database.url)) / tasks
      const sizes = options.sized ? { storedBytesPerTask: (await storedBytes(database.url)) / tasks } : {}
      return { ...(JSON.parse(result) as Awaited<ReturnType<Works[typeof work]>>), deadRowsPerTask, ...sizes }
    },
    async present(contenders) {
      const present: Contender[] = []
      for (const contender of contenders) {
        // oxlint-disable-next-line no-await-in-loop -- compilers would fight for the cores
        const command = await commandOf(contender.queue)
        if (!('reason' in command)) present.push(contender)
        else if (!skipped.has(contender.label)) {
          skipped.set(contender.label, command.reason)
          log(`skipped ${contender.label}: ${command.reason}`)
        }
      }
      return present
    },
  }
}

interface Missing {
  readonly reason: string
}

/** The command of a queue's program, built first where it is not TypeScript. */
async function prepare(queue: string): Promise<string[] | Missing> {
  const source = join(folder, 'peers', queue)
  const built = join(folder, 'dist', queue)
  if (queue === 'river') {
    const error = await failureOf('go', ['build', '-o', built, '.'], source)
    return error === undefined ? [built] : { reason: `go build: ${error}` }
  }
  if (queue === 'izta-crate') {
    const target = join(folder, 'dist', 'izta-crate-target')
    const error = await failureOf('cargo', ['build', '--release', '--locked', '--target-dir', target], source)
    return error === undefined
      ? [join(target, 'release', 'izta-crate-bench')]
      : { reason: `cargo build: ${error}` }
  }
  const installed = await access(`${source}.ts`).then(() =>
    failureOf(process.execPath, ['--eval', `import(${JSON.stringify(`${source}.ts`)})`], folder),
  )
  return installed === undefined ? [process.execPath, join(folder, 'child.ts'), queue] : { reason: installed }
}

async function failureOf(command: string, words: string[], cwd: string): Promise<string | undefined> {
  try {
    await run(command, words, { cwd })
    return undefined
  } catch (error) {
    const text =
      error instanceof Error && 'stderr' in error ? String(error.stderr) || error.message : String(error)
    return text.trim().split('\n').at(-1)
  }
}

/** Runs a program to its end and gives the last line it printed. */
export async function lastLine([command = '', ...words]: readonly string[]): Promise<string> {
  const child = spawn(command, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  let last = ''
  for await (const line of createInterface(child.stdout)) last = line
  const code = child.exitCode ?? (await new Promise<number | null>((end) => child.once('exit', end)))
  if (code !== 0) throw new Error(`${words.at(-2)} ended with code ${code}`)
  return last
}

async function deadRows(url: string): Promise<number> {
  const [row] = await administer(
    url,
    `select coalesce(sum(n_tup_upd + n_tup_del), 0)::float8 as dead from pg_stat_user_tables`,
  )
  return Number(row?.['dead'])
}

async function storedBytes(url: string): Promise<number> {
  await administer(url, 'vacuum')
  const [row] = await administer(
    url,
    `select sum(pg_total_relation_size(relid))::float8 as bytes from pg_stat_user_tables`,
  )
  return Number(row?.['bytes'])
}

/** The runs of one contender, each with the baseline's runs before and after it. */
export interface Interleaved<Result> {
  readonly contender: Contender
  readonly runs: { readonly result: Result; readonly beside?: readonly [Result, Result] }[]
}

/**
 * Runs every contender in every round, each between two runs of the baseline: what disturbs the machine for a
 * while disturbs both. The baseline itself comes first in the answer.
 */
export async function interleave<Name extends WorkName>(
  bench: Bench,
  work: Name,
  options: WorkOptions,
  baseline: Contender,
  contenders: readonly Contender[],
): Promise<Interleaved<WorkResult<Name>>[]> {
  const measure = async (contender: Contender) => {
    const result = await bench.run(contender, work, options)
    const perSecond = 'perSecond' in result ? `: ${Math.round(result.perSecond).toLocaleString('en')}/s` : ''
    bench.log(`  ${contender.label}${perSecond}`)
    return result
  }
  const base: Interleaved<WorkResult<Name>> = { contender: baseline, runs: [] }
  const all = contenders.map((contender): typeof base => ({ contender, runs: [] }))
  // oxlint-disable no-await-in-loop -- runs side by side would measure each other
  if (!bench.quick) await measure(baseline)
  let before = await measure(baseline)
  base.runs.push({ result: before })
  for (let round = 1; round <= bench.rounds; round++) {
    for (const { contender, runs } of all) {
      if (round > (contender.rounds ?? Infinity)) continue
      const result = await measure(contender)
      const after = await measure(baseline)
      runs.push({ result, beside: [before, after] })
      base.runs.push({ result: after })
      before = after
    }
  }
  return [base, ...all]
}

/** The values of one contender, one a round, and their ratios to the baseline's runs before and after each. */
export interface Compared {
  readonly contender: Contender
  readonly values: readonly number[]
  readonly ratios: readonly number[]
}

export function compare<Result>(
  interleaved: readonly Interleaved<Result>[],
  valueOf: (result: Result) => number,
): Compared[] {
  return interleaved.map(({ contender, runs }) => ({
    contender,
    values: runs.map(({ result }) => valueOf(result)),
    ratios: runs.flatMap(({ result, beside }) =>
      beside === undefined ? [] : [valueOf(result) / ((valueOf(beside[0]) + valueOf(beside[1])) / 2)],
    ),
  }))
}

/** The drains that several measures look at: run once, by the first that asks. */
export function drains(bench: Bench): Promise<Interleaved<WorkResult<'drain'>>[]> {
  const begun = drainsOf.get(bench)
  if (begun !== undefined) return begun
  const begin = async () => {
    const contenders = await bench.present([izta, iztaKept, iztaUnchecked, pgBoss, river, bullmq, iztaCrate])
    return interleave(bench, 'drain', { tasks: bench.size(300_000, 5000) }, graphileWorker, contenders)
  }
  const drained = begin()
  drainsOf.set(bench, drained)
  return drained
}

const drainsOf = new WeakMap<Bench, Promise<Interleaved<WorkResult<'drain'>>[]>>()
