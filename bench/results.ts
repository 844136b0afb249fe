// What a run leaves behind: one entry a measure, written as soon as it has ended, so that nothing is lost when a long
// run is interrupted, and a single measure can be taken again.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { cpus, totalmem } from 'node:os'
import { dirname } from 'node:path'
import type { Row } from './row.ts'

export interface MeasureResult {
  readonly measure: string
  readonly title: string
  readonly measuredAt: string
  readonly minutes: number
  readonly rounds: number
  readonly scale: number
  readonly rows: readonly Row[]
}

export interface Results {
  /** Of the last run of all measures, which `--resume` goes on with. */
  readonly startedAt: string
  readonly quick: boolean
  readonly machine: Machine
  readonly postgres: { readonly version: string; readonly settings: Readonly<Record<string, string>> }
  /** Whether every measure has a result. */
  complete: boolean
  skipped: Readonly<Record<string, string>>
  results: readonly MeasureResult[]
}

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryBytes: number
  readonly node: string
}

export const thisMachine = (): Machine => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryBytes: totalmem(),
  node: process.version,
})

export async function readResults(file: string): Promise<Results | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Results
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

export async function writeResults(file: string, results: Results): Promise<void> {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, `${JSON.stringify(results, undefined, 2)}\n`)
}

/** Figures of another machine or server stand for themselves and are not continued. */
export const areComparable = (one: Omit<Results, 'results'>, other: Omit<Results, 'results'>): boolean =>
  JSON.stringify([one.machine, one.postgres, one.quick]) ===
  JSON.stringify([other.machine, other.postgres, other.quick])

/** With one entry replaced or added, in the order of the names. */
export function withResult(
  results: readonly MeasureResult[],
  result: MeasureResult,
  names: readonly string[],
): MeasureResult[] {
  return [...results.filter(({ measure }) => measure !== result.measure), result].toSorted(
    (a, b) => names.indexOf(a.measure) - names.indexOf(b.measure),
  )
}
