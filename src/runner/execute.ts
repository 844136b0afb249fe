// One task, from its row to its outcome: check the payload, run the handler, check what it made.
import { z } from 'zod'
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { IztaError } from '../errors.ts'
import type { FailOptions, JobContext } from '../job/context.ts'
import type { AnyJob, Job } from '../job/job.ts'
import { encodeJson, readableMessage } from '../job/json.ts'
import { retryDelayMs } from '../job/retry.ts'
import type { FailureCode } from '../job/task.ts'
import { describeIssues, validate } from '../job/validate.ts'
import { withFacts, type Logger } from '../log.ts'
import { checkOptions } from '../options.ts'
import { prepareTask, type Prepared } from '../prepare.ts'
import type { NewTask } from '../store/enqueue.ts'
import type { ClaimedTask, Outcome } from '../store/turn.ts'

/** Why a running handler is told to stop; the signal's reason carries it as its `code`. */
export type StopReason = 'timeout' | 'deadline' | 'cancelled' | 'stopping'

const stopMessages: Record<StopReason, string> = {
  timeout: 'The attempt has run longer than timeoutSeconds.',
  deadline: 'The invocation is about to end; the task is handed back.',
  cancelled: 'The task was cancelled.',
  stopping: 'The runner is stopping; the task is handed back.',
}

/** What the runner needs to know of a failure. */
export interface Failure {
  readonly code: FailureCode
  readonly message: string
  readonly class: string
  readonly stack?: string | undefined
  /** JSON text of the declared error. */
  readonly declared?: string | undefined
  readonly retry?: boolean | undefined
  readonly retryAfterSeconds?: number | undefined
}

/** A task whose run is over here, and the outcome to be sent. */
export interface Ended {
  readonly task: ClaimedTask
  readonly outcome: Outcome
  readonly failure?: Failure | undefined
}

/** A handler at work. */
export interface Execution {
  readonly task: ClaimedTask
  readonly job: Job
  readonly startedAtMs: number
  /** Never rejects. */
  readonly ended: Promise<Ended>
  /** Aborts the signal; only the first reason counts. */
  stop(reason: StopReason): void
}

export interface ExecuteOptions {
  readonly clock: Clock
  readonly log: Logger
  /** On the clock's scale: when handlers are told to stop. */
  readonly stopAtMs: number
  readonly payloadLimitBytes: number
  readonly resultLimitBytes: number
}

/** Starts the handler of a claimed task. */
export function execute(task: ClaimedTask, job: Job, options: ExecuteOptions): Execution {
  const controller = new AbortController()
  const children: Prepared[] = []
  const startedAtMs = options.clock.now()
  let stopped: StopReason | undefined
  let declared: Declared | undefined

  const stop = (reason: StopReason) => {
    if (stopped !== undefined) return
    stopped = reason
    controller.abort(new IztaError(reason, stopMessages[reason]))
  }
  const endsAt = Math.min(startedAtMs + job.timeoutSeconds * 1000, options.stopAtMs)
  const cancelTimer = options.clock.after(job.timeoutSeconds * 1000, () => stop('timeout'))

  const ctx: JobContext<unknown> = {
    task: {
      id: task.id,
      job: task.job,
      queue: task.queue,
      priority: task.priority,
      key: task.key,
      parent: task.parent,
      schedule: task.schedule,
      slot: task.slot,
      enqueuedAt: task.enqueuedAt,
      dueAt: task.dueAt,
      maxAttempts: task.maxAttempts,
    },
    attempt: task.attempt + 1,
    losses: task.losses,
    signal: controller.signal,
    remainingMs: () => Math.max(0, endsAt - options.clock.now()),
    log: withFacts(options.log, { task: task.id, job: task.job, queue: task.queue, attempt: task.attempt + 1 }),
    fail(error: unknown, failOptions: FailOptions = {}): never {
      declared = new Declared(error, checkOptions('ctx.fail', failOptionsSchema, failOptions))
      throw declared
    },
    enqueue(child: AnyJob, payload?: unknown, childOptions?: object) {
      if (children.length >= defaults.childrenPerTask) {
        throw new IztaError(
          'too-many-children',
          `Task ${task.id} has enqueued ${children.length} children, the most one task may: fan out in two levels.`,
        )
      }
      const prepared = prepareTask(child, payload, childOptions, options)
      // Awaited when the handler has returned; until then nobody listens.
      if (prepared instanceof Promise) prepared.catch(() => {})
      children.push(prepared)
    },
  }

  async function run(): Promise<Ended> {
    try {
      const checked = await validate(job.payload, job.payload === undefined ? undefined : JSON.parse(task.payload))
      if (!checked.ok) {
        return dropped(task, job, {
          code: 'payload-refused',
          class: 'PayloadError',
          message: `The stored payload does not fit today's schema of the job: ${describeIssues(checked.issues)}`,
        })
      }
      const returned: unknown = await job.run(checked.value as never, ctx as never)
      if (declared !== undefined) throw declared
      if (stopped === 'timeout') throw controller.signal.reason
      const made = await Promise.all(children)
      const result = await readResult(job, returned, options.resultLimitBytes)
      if (result.ok) return settle(task, job, 'finish', { body: result.text, children: made })
      return failed(task, job, result.failure)
    } catch (thrown) {
      if (declared !== undefined) {
        return failed(task, job, await declaredFailure(job, declared, options.resultLimitBytes))
      }
      if (stopped === 'timeout') return failed(task, job, timeoutFailure)
      if (stopped === 'cancelled') return settle(task, job, 'cancel')
      if (stopped !== undefined) return settle(task, job, 'release')
      return failed(task, job, describeThrown(thrown))
    } finally {
      cancelTimer()
    }
  }

  return { task, job, startedAtMs, ended: run(), stop }
}

/** What a run that exceeded its time has failed with. */
export const timeoutFailure: Failure = { code: 'timeout', class: 'TimeoutError', message: stopMessages.timeout }

/** A failed attempt: another one after the backoff, or the end. */
export function failed(task: ClaimedTask, job: AnyJob, failure: Failure, leastDelayMs = 0): Ended {
  const attempt = task.attempt + 1
  const body = errorBody(failure, attempt)
  if (failure.retry === false || attempt >= task.maxAttempts) return settle(task, job, 'fail', { body, failure })
  const delayMs =
    failure.retryAfterSeconds === undefined
      ? retryDelayMs(job.backoff, attempt, Math.random)
      : failure.retryAfterSeconds * 1000
  return settle(task, job, 'retry', { body, failure, delayMs: Math.max(delayMs, leastDelayMs) })
}

/** A failed task whose handler was not to blame, or never ran: no attempt counts. */
export function dropped(task: ClaimedTask, job: AnyJob | undefined, failure: Failure): Ended {
  return settle(task, job, 'drop', { body: errorBody(failure, 0), failure })
}

/** The end of a run, with the job's retention; jobs that this runner does not know keep the defaults. */
export function settle(
  task: ClaimedTask,
  job: AnyJob | undefined,
  kind: Outcome['kind'],
  facts: {
    body?: string | null
    failure?: Failure
    delayMs?: number
    children?: readonly NewTask[]
  } = {},
): Ended {
  const failedSeconds = job?.retention.failedSeconds ?? defaults.retention.failedDays * 86_400
  const outcome: Outcome = {
    id: task.id,
    claims: task.claims,
    kind,
    body: facts.body ?? null,
    delayMs: facts.delayMs ?? 0,
    keepSeconds: kind === 'finish' ? (job?.retention.finishedSeconds ?? 0) : failedSeconds,
    children: facts.children ?? [],
  }
  return { task, outcome, failure: facts.failure }
}

const textLimit = 8192

/** The stored entry; the database adds the instant. */
export function errorBody(failure: Failure, attempt: number): string {
  const entry = JSON.stringify({
    code: failure.code,
    attempt,
    class: failure.class,
    message: shorten(failure.message),
    stack: failure.stack === undefined ? undefined : shorten(failure.stack),
  })
  return failure.declared === undefined ? entry : `${entry.slice(0, -1)},"error":${failure.declared}}`
}

const shorten = (text: string) => (text.length > textLimit ? `${text.slice(0, textLimit)}…` : text)

/** What can be said of anything that was thrown; never throws itself. */
export function describeThrown(thrown: unknown): Failure {
  const message = readableMessage(thrown)
  try {
    if (thrown instanceof Error) {
      return { code: 'thrown', class: String(thrown.name), message, stack: String(thrown.stack ?? message) }
    }
  } catch {
    // A getter of the error throws: the message must do.
  }
  return { code: 'thrown', class: thrown === null ? 'null' : typeof thrown, message }
}

const failOptionsSchema = z.strictObject({
  retry: z.boolean().optional(),
  retryAfterSeconds: z.number().min(0).max(2_592_000).optional(),
})

/** What `ctx.fail` throws. */
class Declared extends Error {
  override readonly name = 'DeclaredError'
  readonly error: unknown
  readonly options: FailOptions
  constructor(error: unknown, options: FailOptions) {
    super(readableMessage(error))
    this.error = error
    this.options = options
  }
}

async function declaredFailure(job: Job, declared: Declared, limitBytes: number): Promise<Failure> {
  const shared = { ...describeThrown(declared), ...declared.options, code: 'declared' as const }
  if (job.error === undefined) return { ...shared, ...(declared.error instanceof Error ? describeThrown(declared.error) : {}), code: 'declared' }
  const checked = await validate(job.error, declared.error)
  if (!checked.ok) {
    const message = `The declared error does not fit the job's error schema: ${describeIssues(checked.issues)}`
    return { ...shared, code: 'result-refused', message }
  }
  const encoded = encodeJson(checked.value, { limitBytes, undefinedProperties: 'omit' })
  if (!encoded.ok) {
    return { ...shared, code: 'result-refused', message: `The declared error cannot be stored: ${encoded.issue.message}` }
  }
  return { ...shared, declared: encoded.text }
}

async function readResult(
  job: Job,
  returned: unknown,
  limitBytes: number,
): Promise<{ ok: true; text: string | null } | { ok: false; failure: Failure }> {
  if (job.result === undefined) return { ok: true, text: null }
  const refuse = (message: string) => ({
    ok: false as const,
    failure: { code: 'result-refused' as const, class: 'ResultError', message },
  })
  const checked = await validate(job.result, returned)
  if (!checked.ok) return refuse(`The result does not fit the job's schema: ${describeIssues(checked.issues)}`)
  if (checked.value === undefined) return { ok: true, text: null }
  const encoded = encodeJson(checked.value, { limitBytes, undefinedProperties: 'omit' })
  return encoded.ok ? { ok: true, text: encoded.text } : refuse(`The result cannot be stored: ${encoded.issue.message}`)
}
