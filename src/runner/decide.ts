// Decides about a claimed task: it runs, with others or not, or is settled without a run.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../errors.ts'
import { type AnyJob, type Job, isImplemented } from '../job/job.ts'
import { earlierSlotStatement } from '../store/inspect.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { isOf } from './deadline.ts'
import { logFacts } from './facts.ts'
import { dropped, errorBody, settle, type Ended } from './outcome.ts'

/** A task whose process died this often runs alone. */
const lossesToRunAlone = 2

export type Decision =
  | { readonly kind: 'run'; readonly job: Job }
  /** Its process died once: only others that were lost once may run next to it, or would be lost with it. */
  | { readonly kind: 'run-with-lost'; readonly job: Job }
  /** Its process died more often, or one more loss would fail it: no other task may run next to it. */
  | { readonly kind: 'run-alone'; readonly job: Job }
  | { readonly kind: 'settle'; readonly ended: Ended }

/** The state of the run that has claimed the task. */
export interface Circumstances {
  readonly config: Pick<ResolvedConfig, 'jobs'>
  /** Empty for all queues. */
  readonly queues: readonly string[]
  /** Ids of the tasks whose handlers run in this process, those of leases that are over included. */
  readonly running: ReadonlySet<string>
  /** Until handlers are told to stop. */
  readonly leftMs: number
}

export function decide(task: ClaimedTask, circumstances: Circumstances): Decision {
  const job = circumstances.config.jobs.get(task.job)
  if (task.cancel) return { kind: 'settle', ended: settle(task, job, 'cancel') }
  const { losses } = task
  const maxLosses = job?.maxLosses ?? defaults.maxLosses
  if (losses >= maxLosses) {
    const message = `The process that ran the task died ${losses} times: it may run out of memory, end the process or block it past the deadline.`
    return { kind: 'settle', ended: dropped(task, job, { code: 'lost', class: 'LostError', message }) }
  }
  if (job === undefined || !isImplemented(job)) {
    return deferred(task, job, 'no handler for this job here: the task waits')
  }
  const reason = whyNotNow(task, job, circumstances)
  if (reason !== undefined) return deferred(task, job, reason)
  if (losses === 0) return { kind: 'run', job }
  const isAlone = losses >= lossesToRunAlone || losses === maxLosses - 1
  return { kind: isAlone ? 'run-alone' : 'run-with-lost', job }
}

function whyNotNow(
  task: ClaimedTask,
  job: Job,
  { queues, running, leftMs }: Circumstances,
): string | undefined {
  // Two copies of a handler at once would be worse than a wait for the one that ignores its signal.
  if (running.has(task.id)) {
    return 'a handler of this task still runs here although its lease is over: the task waits'
  }
  // Jobs of the runner's own queues fit: it claims while the longest of them does.
  if (!isOf(job, queues) && job.timeoutSeconds * 1000 > leftMs) {
    return "the job is of another queue, and its timeout does not fit into this runner's time: the task waits"
  }
  return undefined
}

function deferred(task: ClaimedTask, job: AnyJob | undefined, reason: string): Decision {
  return { kind: 'settle', ended: { ...settle(task, job, 'defer', { delayMs: deferMs(task) }), reason } }
}

function deferMs(task: ClaimedTask): number {
  const { firstSeconds, maxSeconds } = defaults.unknownJob
  return Math.min(maxSeconds, firstSeconds * 2 ** Math.min(30, task.claims - 1)) * 1000
}

/** How a slot's task ends without a run; undefined when it may start. Never rejects. */
export async function skipOverlap(
  task: ClaimedTask,
  job: Job,
  config: ResolvedConfig,
): Promise<Ended | undefined> {
  if (task.schedule === undefined || task.slot === undefined) return undefined
  const statement = earlierSlotStatement(task.schedule, task.slot, task.id)
  try {
    const [earlier] = await runStatement(config, statement)
    if (earlier === undefined) return undefined
    const message = `The task of an earlier slot (${earlier['id']}) had not ended when this one was due.`
    const body = errorBody({ code: 'skipped', class: 'OverlapSkipped', message }, 0)
    return settle(task, job, 'cancel', { body })
  } catch (error) {
    config.log.error('could not see whether an earlier slot still runs', {
      ...logFacts(task),
      error: readableMessage(error),
    })
    return settle(task, job, 'release')
  }
}
