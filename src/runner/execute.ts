// One task, from its row to its outcome: check the payload, run the handler, check what it made.
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { IztaError } from '../errors.ts'
import type { FailOptions, JobContext } from '../job/context.ts'
import type { AnyJob, Job } from '../job/job.ts'
import { decodePayload, encodeJson, readableMessage } from '../job/json.ts'
import { describeIssues, validate } from '../job/validate.ts'
import { withFacts } from '../log.ts'
import { checkOptions, numberFrom } from '../options.ts'
import { prepareTask, type Prepared } from '../prepare.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { noTracing } from '../tracing.ts'
import { describeThrown, dropped, failed, quoted, settle, type Ended, type Failure } from './outcome.ts'

/** Why a running handler is told to stop; the signal's reason carries it as its `code`. */
export type StopReason = 'timeout' | 'deadline' | 'cancelled' | 'stopping'

const stopMessages: Record<StopReason, string> = {
  timeout: 'The attempt has run longer than timeoutSeconds.',
  deadline: 'The invocation is about to end; the task is handed back.',
  cancelled: 'The task was cancelled.',
  stopping: 'The runner is stopping; the task is handed back.',
}

/** What a run that exceeded its time has failed with. */
export const timeoutFailure: Failure = {
  code: 'timeout',
  class: 'TimeoutError',
  message: stopMessages.timeout,
}

/** A handler at work. */
export interface Execution {
  readonly task: ClaimedTask
  readonly job: Job
  /** Never rejects. */
  readonly ended: Promise<Ended>
  /** Aborts the signal; only the first reason counts. */
  stop(reason: StopReason): void
}

export interface ExecuteOptions {
  readonly config: Pick<
    ResolvedConfig,
    'clock' | 'log' | 'logMessages' | 'payloadLimitBytes' | 'resultLimitBytes' | 'tracing'
  >
  /** On the clock's scale: when handlers are told to stop. */
  readonly stopAtMs: number
  /** The attempt has run for its whole time, and its signal has aborted. */
  readonly onTimeout: () => void
}

/** Starts the handler of a claimed task. */
export function execute(task: ClaimedTask, job: Job, options: ExecuteOptions): Execution {
  const { config, stopAtMs, onTimeout } = options
  const { clock, resultLimitBytes } = config
  const controller = new AbortController()
  const children: Prepared[] = []
  let stopped: StopReason | undefined
  let declared: Declared | undefined
  let isOver = false

  const stop = (reason: StopReason) => {
    if (stopped !== undefined) return
    stopped = reason
    controller.abort(new IztaError(reason, stopMessages[reason]))
  }
  const timeoutMs = job.timeoutSeconds * 1000
  const endsAtMs = Math.min(clock.now() + timeoutMs, stopAtMs)
  const cancelTimeout = clock.after(timeoutMs, () => {
    stop('timeout')
    onTimeout()
  })
  const { attempt: failedAttempts, losses } = task
  const attempt = failedAttempts + 1

  const ctx: JobContext<unknown> = {
    task: taskInfo(task),
    attempt,
    losses,
    signal: controller.signal,
    remainingMs: () => Math.max(0, endsAtMs - clock.now()),
    log: withFacts(config.log, { task: task.id, job: task.job, queue: task.queue, attempt }),
    fail(error: unknown, failOptions: FailOptions = {}): never {
      declared = new Declared(error, checkOptions('ctx.fail', failOptionsSchema, failOptions))
      throw declared
    },
    enqueue(child: AnyJob, payload?: unknown, childOptions?: object) {
      if (isOver) {
        throw new IztaError(
          'task-over',
          `Task ${task.id} has enqueued a child of job "${child.id}" after its handler had ended: await what enqueues.`,
        )
      }
      if (children.length >= defaults.childrenPerTask) {
        throw new IztaError(
          'too-many-children',
          `Task ${task.id} has enqueued ${children.length} children, the most one task may: fan out in two levels.`,
        )
      }
      const prepared = prepareTask(child, payload, childOptions, config)
      // Awaited when the handler has returned; until then nobody listens.
      if (prepared instanceof Promise) prepared.catch(() => {})
      children.push(prepared)
    },
  }

  // Waits only for what is not there yet: each wait costs as much as a short handler.
  async function run(trace: string | undefined): Promise<Ended> {
    try {
      const payload = job.payload === undefined ? undefined : decodePayload(task.payload)
      const validated = validate(job.payload, payload)
      const checked = 'then' in validated ? await validated : validated
      if (!checked.ok) {
        const message = `The stored payload does not fit today's schema of the job: ${describeIssues(checked.issues)}`
        return dropped(task, job, { code: 'payload-refused', class: 'PayloadError', message })
      }
      const returned: unknown = await job.run(checked.value, ctx)
      isOver = true
      if (declared !== undefined) throw declared
      if (stopped === 'timeout') throw controller.signal.reason
      const made = children.length === 0 ? [] : await Promise.all(children)
      const result = job.result === undefined ? noResult : await readResult(job, returned, resultLimitBytes)
      if (!result.ok) return failed(task, job, result.failure)
      return settle(task, job, 'finish', {
        body: result.text,
        children: trace === undefined ? made : made.map((child) => ({ ...child, trace })),
      })
    } catch (error) {
      return await judge(error)
    } finally {
      cancelTimeout()
    }
  }

  async function judge(thrown: unknown): Promise<Ended> {
    isOver = true
    if (stopped === 'cancelled') return settle(task, job, 'cancel')
    if (declared !== undefined)
      return failed(task, job, await describeDeclared(job, declared, resultLimitBytes))
    if (stopped === 'timeout') return failed(task, job, timeoutFailure)
    if (stopped !== undefined) return settle(task, job, 'release')
    return failed(task, job, describeThrown(thrown))
  }

  async function traced(): Promise<Ended> {
    const { id, queue, job: jobId, trace } = task
    const started = { id, queue, job: jobId, trace, attempt, losses }
    try {
      return await config.tracing.run(started, run, ({ outcome, failure }) => ({
        outcome: outcome.kind,
        failure: failure && quoted(failure, config.logMessages),
      }))
    } catch (error) {
      return await judge(error)
    } finally {
      // Whoever traces may fail before it has called `run`.
      cancelTimeout()
    }
  }
  return { task, job, ended: config.tracing === noTracing ? run(undefined) : traced(), stop }
}

const taskInfo = (task: ClaimedTask): JobContext['task'] => ({
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
})

const failOptionsSchema = z.strictObject({
  retry: z.optional(z.boolean()),
  retryAfterSeconds: z.optional(numberFrom(0, 2_592_000)),
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

async function describeDeclared(job: Job, declared: Declared, limitBytes: number): Promise<Failure> {
  const refuse = (message: string): Failure => ({
    ...describeThrown(declared),
    ...declared.options,
    code: 'result-refused',
    message,
  })
  if (job.error === undefined) {
    const thrown = declared.error instanceof Error ? declared.error : declared
    return { ...describeThrown(thrown), ...declared.options, code: 'declared' }
  }
  const checked = await validate(job.error, declared.error)
  if (!checked.ok) {
    return refuse(`The declared error does not fit the job's error schema: ${describeIssues(checked.issues)}`)
  }
  const encoded = encodeJson(checked.value, { limitBytes, undefinedProperties: 'omit' })
  if (!encoded.ok) return refuse(`The declared error cannot be stored: ${encoded.issue.message}`)
  return { ...describeThrown(declared), ...declared.options, code: 'declared', declared: encoded.text }
}

type Result =
  { readonly ok: true; readonly text: string | null } | { readonly ok: false; readonly failure: Failure }

const noResult: Result = { ok: true, text: null }

async function readResult(job: Job, returned: unknown, limitBytes: number): Promise<Result> {
  const refuse = (message: string): Result => ({
    ok: false,
    failure: { code: 'result-refused', class: 'ResultError', message },
  })
  const checked = await validate(job.result, returned)
  if (!checked.ok)
    return refuse(`The result does not fit the job's schema: ${describeIssues(checked.issues)}`)
  if (checked.value === undefined) return noResult
  const encoded = encodeJson(checked.value, { limitBytes, undefinedProperties: 'omit' })
  return encoded.ok
    ? { ok: true, text: encoded.text }
    : refuse(`The result cannot be stored: ${encoded.issue.message}`)
}
