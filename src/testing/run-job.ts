// Runs one handler with every check and no database.
import { randomUUID } from 'node:crypto'
import { systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { DefinitionError, type FailureCode } from '../errors.ts'
import type { EnqueueArguments } from '../job/context.ts'
import { isImplemented, type AnyJob, type ErrorOutput, type ResultOutput } from '../job/job.ts'
import { decodePayload } from '../job/json.ts'
import { consoleLogger, type Logger } from '../observe/log.ts'
import { preparePayload } from '../job/prepare.ts'
import { execute } from '../runner/attempt.ts'
import { noTracing } from '../observe/tracing.ts'

/** What `runJob` takes beside the payload. */
export interface RunJobOptions {
  /** Number of the run, from 1. @default 1 */
  attempt?: number | undefined
  /** How often the task's process died before. @default 0 */
  losses?: number | undefined
  /** Cancels the task: aborts `ctx.signal`. */
  signal?: AbortSignal | undefined
  /** @default one JSON object a line on the console */
  log?: Logger | undefined
}

/** A child that the handler enqueued. */
export interface RunJobChild {
  /** The job's id. */
  readonly job: string
  readonly payload: unknown
  readonly queue: string
  readonly key: string | undefined
}

/** How a run ended. */
export type RunJobResult<J extends AnyJob> =
  | {
      readonly status: 'finished'
      readonly result: ResultOutput<J>
      readonly children: readonly RunJobChild[]
    }
  | {
      readonly status: 'failed'
      readonly code: FailureCode
      readonly message: string
      readonly error: ErrorOutput<J> | undefined
      /** Whether attempts are left. */
      readonly willRetry: boolean
    }
  | { readonly status: 'cancelled' }

/**
 * Runs a job's handler once as a runner would: payload checked at both ends, result and declared error checked,
 * children collected; nothing is stored.
 *
 * @throws {PayloadError} when the payload would be refused by enqueue.
 * @throws {DefinitionError} when the job has no handler.
 *
 * @example
 * ```ts
 * const run = await runJob(divide, { numerator: 1, denominator: 2 })
 * expect(run).toMatchObject({ status: 'finished', result: 0.5 })
 * ```
 */
export async function runJob<J extends AnyJob>(
  job: J,
  ...[payload, options = {}]: EnqueueArguments<J, RunJobOptions>
): Promise<RunJobResult<J>> {
  if (!isImplemented(job)) {
    throw new DefinitionError(`Job "${(job as AnyJob).id}" has no handler: pass what implementJob returns.`)
  }
  const { attempt = 1, losses = 0, signal, log = consoleLogger() } = options
  const config = {
    clock: systemClock,
    log,
    payloadLimitBytes: defaults.payloadLimitBytes,
    resultLimitBytes: defaults.resultLimitBytes,
    logMessages: true,
    tracing: noTracing,
  }
  const now = new Date()
  const task = {
    id: randomUUID(),
    queue: job.queue,
    job: job.id,
    key: undefined,
    payload: await preparePayload(job, payload, config),
    priority: job.priority,
    attempt: attempt - 1,
    maxAttempts: job.maxAttempts,
    losses,
    lost: losses > 0,
    claims: 1,
    cancel: false,
    skipOverlap: false,
    parent: undefined,
    schedule: undefined,
    slot: undefined,
    enqueuedAt: now,
    dueAt: now,
    waitedMs: 0,
    trace: undefined,
  }
  const execution = execute(task, job, { config, stopAtMs: Infinity, onTimeout() {} })
  const abort = () => execution.stop('cancelled')
  if (signal?.aborted === true) abort()
  signal?.addEventListener('abort', abort, { once: true })
  const { outcome, failure } = await execution.ended
  signal?.removeEventListener('abort', abort)
  if (outcome.kind === 'finish') {
    return {
      status: 'finished',
      result: (outcome.body === null ? undefined : JSON.parse(outcome.body)) as ResultOutput<J>,
      children: outcome.children.map((child) => ({
        job: child.job,
        payload: decodePayload(child.payload),
        queue: child.queue,
        key: child.key,
      })),
    }
  }
  if (failure === undefined) return { status: 'cancelled' }
  return {
    status: 'failed',
    code: failure.code,
    message: failure.message,
    error: (failure.declared === undefined ? undefined : JSON.parse(failure.declared)) as
      ErrorOutput<J> | undefined,
    willRetry: outcome.kind === 'retry',
  }
}
