// The instants of an invocation: until when it claims, runs handlers and settles.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { DefinitionError } from '../errors.ts'
import { isImplemented, type AnyJob } from '../job/job.ts'

const { leaseMarginSeconds, stopSeconds, settleSeconds } = defaults.runner

/** https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html */
const lambdaSeconds = 900

/** The instants of one invocation, on the clock's scale in milliseconds. */
export interface Deadline {
  /** Nothing is claimed after this: what is claimed can use its whole timeout. */
  readonly claimUntilMs: number
  /** Handlers are told to stop. */
  readonly stopAtMs: number
  /** Handlers that have not stopped by now keep their leases; the last outcomes are settled. */
  readonly leaveAtMs: number
  /** The invocation is killed. */
  readonly endsAtMs: number
}

/**
 * The deadline of an invocation that is killed in `remainingMs`.
 *
 * @throws {DefinitionError} when a job's timeout does not fit into it.
 */
export function deadlineAfter(clock: Clock, remainingMs: number, jobs: Iterable<AnyJob>): Deadline {
  const endsAtMs = clock.now() + remainingMs
  const longest = longestTimeout(jobs)
  const neededSeconds = (longest?.timeoutSeconds ?? 0) + stopSeconds
  if (neededSeconds * 1000 > remainingMs) {
    throw new DefinitionError(
      longest === undefined
        ? `The invocation has ${seconds(remainingMs)} s left, less than the ${stopSeconds} s it needs to stop in order: raise the function's timeout.`
        : `Job "${longest.name}" may run ${longest.timeoutSeconds} s, with ${stopSeconds} s to stop in order, but the invocation has only ${seconds(remainingMs)} s left: ${adviceFor(neededSeconds)}`,
    )
  }
  return {
    claimUntilMs: endsAtMs - neededSeconds * 1000,
    stopAtMs: endsAtMs - stopSeconds * 1000,
    leaveAtMs: endsAtMs - settleSeconds * 1000,
    endsAtMs,
  }
}

function adviceFor(neededSeconds: number): string {
  return neededSeconds < lambdaSeconds
    ? `raise the function's timeout above ${neededSeconds} s or lower the job's timeoutSeconds.`
    : `Lambda allows ${lambdaSeconds} s at most: split the job with ctx.enqueue and lower its timeoutSeconds, or run it with startRunner in a process that stays.`
}

/**
 * The jobs that bound the time of a runner: those whose tasks its queues are for. A task of another job, enqueued into one
 * of these queues, is deferred when it does not fit.
 *
 * @param queues empty for all
 */
export function jobsOf(jobs: Iterable<AnyJob>, queues: readonly string[]): AnyJob[] {
  return [...jobs].filter((job) => isOf(job, queues))
}

/** Whether the job's own queue is one of these; empty for all. */
export const isOf = ({ queue }: AnyJob, queues: readonly string[]) =>
  queues.length === 0 || queues.includes(queue)

/** How long a lease must last from now, so that it outlives the invocation. */
export function leaseMs(clock: Clock, deadline: Deadline): number {
  return Math.max(0, deadline.endsAtMs - clock.now()) + leaseMarginSeconds * 1000
}

/** The job that may run longest here; definitions without a handler run elsewhere. */
export function longestTimeout(jobs: Iterable<AnyJob>): AnyJob | undefined {
  let longest: AnyJob | undefined
  for (const job of jobs) {
    if (isImplemented(job) && job.timeoutSeconds > (longest?.timeoutSeconds ?? 0)) longest = job
  }
  return longest
}

const seconds = (ms: number) => Math.round(ms / 100) / 10
