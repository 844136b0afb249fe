// What becomes of a claimed task: it runs, alone or beside others, or it is settled at once.
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { isImplemented, type Job } from '../job/job.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { dropped, settle, type Ended } from './outcome.ts'

export type Admission =
  | { readonly kind: 'run'; readonly job: Job }
  /** Its process died before: nothing else may run beside it, lest it takes neighbours with it again. */
  | { readonly kind: 'run-alone'; readonly job: Job }
  | { readonly kind: 'settle'; readonly ended: Ended }

/** `running`: tasks whose handlers work in this process, those of leases that are over included. */
export function admit(task: ClaimedTask, config: ResolvedConfig, running: ReadonlySet<string>): Admission {
  const job = config.jobs.get(task.job)
  if (task.cancel) return { kind: 'settle', ended: settle(task, job, 'cancel') }
  if (task.losses >= (job?.maxLosses ?? defaults.maxLosses)) {
    const message = `The process that ran the task died ${task.losses} times: it may run out of memory, end the process or block it past the deadline.`
    return { kind: 'settle', ended: dropped(task, job, { code: 'lost', class: 'LostError', message }) }
  }
  // Two copies of a handler at once would be worse than waiting for the one that ignores its signal.
  if (running.has(task.id) || job === undefined || !isImplemented(job)) {
    return { kind: 'settle', ended: settle(task, job, 'defer', { delayMs: deferMs(task) }) }
  }
  return { kind: task.losses > 0 ? 'run-alone' : 'run', job }
}

function deferMs(task: ClaimedTask): number {
  const { firstSeconds, maxSeconds } = defaults.unknownJob
  return Math.min(maxSeconds, firstSeconds * 2 ** Math.min(30, task.claims - 1)) * 1000
}
