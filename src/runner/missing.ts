// Says which jobs a runner cannot run. Apart from `startRunner`, which ticks schedules too: no Lambda runner carries that.
import type { ResolvedConfig } from '../config.ts'
import { isImplemented } from '../job/job.ts'

/** Fine for jobs of other runners; a surprise otherwise. */
export function warnOfMissingHandlers(config: ResolvedConfig): void {
  const missing = [...config.jobs.values()].filter((job) => !isImplemented(job)).map((job) => job.id)
  if (missing.length === 0) return
  config.log.warn('this runner has no handler for some jobs: their tasks wait for one that has', {
    jobs: missing,
  })
}
