// What a measure works with: sizes, rounds, fresh databases, and runs of queues in processes of their own.
import { execFile, spawn } from 'node:child_process'
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { unpackBefore } from './before.ts'
import type { OptionsOf, ResultOf, WorkName } from './child.ts'
import { before, type Contender } from './contenders.ts'
import { administer, type Server } from './server.ts'
import type { WorkOptions } from './works.ts'

const folder = import.meta.dirname
const run = promisify(execFile)

export type WorkResult<Name extends WorkName> = ResultOf<Name> & {
  /** Rows updated or deleted, per task: what vacuum has to clear away; where the work counts tasks. */
  readonly deadRowsPerTask?: number
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
    options: OptionsOf<Name>,
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
      const { tasks, sized } = options as Partial<WorkOptions>
      const counted = tasks === undefined ? undefined : tasksOf(contender, tasks)
      const given = {
        ...options,
        ...contender.options,
        ...(counted && { tasks: counted }),
        url: database.url,
      }
      const line = await lastLine([...command, work, JSON.stringify(given)])
      const result = JSON.parse(line) as WorkResult<typeof work>
      if (counted === undefined) return result
      const deadRowsPerTask = (await deadRows(database.url)) / counted
      const sizes = sized ? { storedBytesPerTask: (await storedBytes(database.url)) / counted } : {}
      return { ...result, deadRowsPerTask, ...sizes }
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

const tasksOf = ({ share = 1 }: Contender, tasks: number) =>
  Math.min(tasks, Math.max(100, Math.round(tasks * share)))

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
  if (queue === before.queue) {
    const error = await unpackBefore().then(
      () => undefined,
      (reason: unknown) => (reason instanceof Error ? reason.message : String(reason)),
    )
    if (error !== undefined) return { reason: error }
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
