// Follows how many tasks of each job wait, run and have ended.
import { setTimeout as pause } from 'node:timers/promises'
import type { Izta, StatusCounts } from '../src/index.ts'
import { auditPackage, checkFiles, scan } from './jobs.ts'

/** Each job has a queue of its own, so the counts of queues are those of jobs. */
export interface JobCounts {
  readonly scans: StatusCounts
  readonly audits: StatusCounts
  readonly checks: StatusCounts
}

const nothing: StatusCounts = { pending: 0, running: 0, failing: 0, failed: 0, finished: 0, cancelled: 0 }
const patienceSeconds = 60

/**
 * The counts every 50 ms, until the caller has seen enough.
 *
 * @throws when nothing has changed for a minute, or the signal aborts.
 */
export async function* followCounts(izta: Izta, signal: AbortSignal): AsyncGenerator<JobCounts> {
  let last = ''
  let changedAtMs = performance.now()
  for (;;) {
    // oxlint-disable no-await-in-loop -- one look after the other
    const queues = await izta.counts({ since: new Date(0) })
    const now = JSON.stringify(queues)
    if (now !== last) changedAtMs = performance.now()
    else if (performance.now() - changedAtMs > patienceSeconds * 1000) {
      throw new Error(`No task has started or ended for ${patienceSeconds} s; the counts are ${now}.`)
    }
    last = now
    const [scans = nothing, audits = nothing, checks = nothing] = [scan, auditPackage, checkFiles].map(
      (job) => queues[job.queue],
    )
    yield { scans, audits, checks }
    await pause(50, undefined, { signal })
  }
}

export const endedOf = ({ finished, failed, cancelled }: StatusCounts): number =>
  finished + failed + cancelled

export const totalOf = (counts: StatusCounts): number =>
  endedOf(counts) + counts.pending + counts.running + counts.failing

export function sumOf(all: readonly StatusCounts[]): StatusCounts {
  const sum = { ...nothing }
  for (const counts of all) {
    for (const status of Object.keys(sum) as (keyof StatusCounts)[]) sum[status] += counts[status]
  }
  return sum
}
