// Reads the audit back from the database, where it is all there is to know of it.
import { hash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import type { Izta, Task } from '../src/index.ts'
import { auditPackage, checkFiles } from './jobs.ts'
import type { Totals } from './recount.ts'

export interface LicenceTotals {
  readonly licence: string
  packages: number
  files: number
  bytes: number
}

export interface Finding {
  readonly path: string
  readonly code: string
  readonly detail: string
}

export interface Findings {
  readonly totals: Totals
  /** The one with the most bytes. */
  readonly heaviest: { readonly path: string; readonly sha256: string } | undefined
  /** The most frequent licence first. */
  readonly licences: readonly LicenceTotals[]
  /** What the audit has found wrong with packages: tasks that failed with a declared error. */
  readonly failures: readonly Finding[]
  /** Tasks that went wrong themselves: threw, timed out, were lost too often, have not ended. */
  readonly broken: readonly Finding[]
  /** Whether there is one check for each audit that finished, and none for another. */
  readonly isFollowedUp: boolean
  /** How many tasks were run again because their process had died. */
  readonly lost: number
  /** Of every task that has ended: milliseconds from due to ended. */
  readonly endedAfterMs: readonly number[]
}

export async function readFindings(izta: Izta): Promise<Findings> {
  const [audits, checks] = await Promise.all([
    collect(izta.list({ job: auditPackage, pageSize: 1000 })),
    collect(izta.list({ job: checkFiles, pageSize: 1000 })),
  ])
  const audited = audits.toSorted(byPath).flatMap((task) => contentsOf(task) ?? [])
  const all: readonly PackageTask[] = [...audits, ...checks]
  const finished = audits.filter((task) => task.status === 'finished')
  const notFinished = all.filter((task) => task.status !== 'finished').toSorted(byPath)
  return {
    totals: {
      packages: audited.length,
      files: audited.reduce((sum, { files }) => sum + files, 0),
      bytes: audited.reduce((sum, { bytes }) => sum + bytes, 0),
      sha256: hash('sha256', audited.map(({ sha256, path }) => `${sha256} ${path}\n`).join('')),
    },
    heaviest: audited.toSorted((a, b) => b.bytes - a.bytes)[0],
    licences: addUpByLicence(audited),
    failures: notFinished.flatMap((task) => declaredIn(task) ?? []),
    broken: notFinished.filter((task) => declaredIn(task) === undefined).map(describeBroken),
    isFollowedUp: isDeepStrictEqual(pathsOf(finished), pathsOf(checks)),
    lost: all.filter(({ losses }) => losses > 0).length,
    endedAfterMs: all.flatMap((task) =>
      'finishedAt' in task ? task.finishedAt.getTime() - task.dueAt.getTime() : [],
    ),
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

type PackageTask = Task<typeof auditPackage> | Task<typeof checkFiles>

function byPath({ payload: a }: PackageTask, { payload: b }: PackageTask): number {
  return a.path < b.path ? -1 : 1
}

const pathsOf = (tasks: readonly PackageTask[]) => tasks.map(({ payload }) => payload.path).toSorted()

/** A package that failed for want of a licence was weighed all the same: its error carries what it weighs. */
function contentsOf(task: Task<typeof auditPackage>) {
  const { path } = task.payload
  if (task.status === 'finished') return { path, ...task.result }
  return task.status === 'failed' && task.error
    ? { path, licence: task.error.code, ...task.error }
    : undefined
}

function addUpByLicence(audited: readonly Omit<LicenceTotals, 'packages'>[]): LicenceTotals[] {
  const byLicence = new Map<string, LicenceTotals>()
  for (const { licence, files, bytes } of audited) {
    const totals = byLicence.get(licence) ?? { licence, packages: 0, files: 0, bytes: 0 }
    byLicence.set(licence, totals)
    totals.packages++
    totals.files += files
    totals.bytes += bytes
  }
  return [...byLicence.values()].toSorted((a, b) => b.packages - a.packages || b.files - a.files)
}

function declaredIn(task: PackageTask): Finding | undefined {
  if (task.status !== 'failed' || task.error === undefined) return undefined
  const { code } = task.error
  const detail = 'missing' in task.error ? task.error.missing.join(', ') : ''
  return { path: task.payload.path, code, detail }
}

function describeBroken(task: PackageTask): Finding {
  const code = 'code' in task ? task.code : task.status
  return { path: task.payload.path, code, detail: task.errors.at(-1)?.message ?? 'has not ended' }
}
