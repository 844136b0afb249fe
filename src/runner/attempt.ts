// One task, from its row to its outcome: check the payload, run the handler, check what it made.
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { IztaError } from '../errors.ts'
import type { FailOptions } from '../job/context.ts'
import type { AnyJob, Job } from '../job/job.ts'
import { decodePayload, encodeJson } from '../job/json.ts'
import { describeIssues, validate, validateProduced } from '../job/validate.ts'
import { withFacts, type Logger } from '../observe/log.ts'
import { checkOptions, numberFrom } from '../options.ts'
import { sumUpTo } from '../job/payload-sum.ts'
import { prepareTask, type Prepared, type PrepareLimits } from '../job/prepare.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { noTracing, type Tracing } from '../observe/tracing.ts'
import { createContext } from './context.ts'
import { Declared, endOf } from './ending.ts'
import { logFacts } from './facts.ts'
import { dropped, failed, quoted, settle, type Ended, type Failure } from './outcome.ts'
import { stopError, type StopReason } from './stop-reason.ts'

/** A handler at work. */
export interface Execution {
  readonly task: ClaimedTask
  readonly job: Job
  /** On the clock's scale. */
  readonly startedAtMs: number
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
  readonly onTimeout: (execution: Execution) => void
}

/** Starts the handler of a claimed task. */
export function execute(task: ClaimedTask, job: Job, options: ExecuteOptions): Execution {
  return new Attempt(task, job, options)
}

/** Holds little: the objects around a short handler cost more than the handler. */
class Attempt implements Execution {
  readonly task: ClaimedTask
  readonly job: Job
  readonly startedAtMs: number
  readonly ended: Promise<Ended>
  readonly #options: ExecuteOptions
  readonly #cancelTimeout: () => void
  #controller: AbortController | undefined
  /** The first reason for which the handler was told to stop. */
  #stopped: StopReason | undefined
  /** Set by `ctx.fail`. */
  #declared: Declared | undefined
  #children: Prepared[] | undefined
  #childLimits: PrepareLimits | undefined
  /** The handler has ended: it may enqueue nothing more. */
  #isOver = false

  constructor(task: ClaimedTask, job: Job, options: ExecuteOptions) {
    this.task = task
    this.job = job
    this.#options = options
    const { clock, tracing } = options.config
    this.startedAtMs = clock.now()
    this.#cancelTimeout = clock.after(job.timeoutSeconds * 1000, () => {
      this.stop('timeout')
      options.onTimeout(this)
    })
    this.ended = tracing === noTracing ? this.#run(undefined) : this.#runTraced(tracing)
  }

  stop(reason: StopReason): void {
    if (this.#stopped !== undefined) return
    this.#stopped = reason
    this.#controller?.abort(stopError(reason))
  }

  /** Made when a handler asks for it. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#stopped !== undefined) this.#controller.abort(stopError(this.#stopped))
    }
    return this.#controller.signal
  }

  get log(): Logger {
    return withFacts(this.#options.config.log, logFacts(this.task))
  }

  remainingMs(): number {
    const { config, stopAtMs } = this.#options
    const endsAtMs = Math.min(this.startedAtMs + this.job.timeoutSeconds * 1000, stopAtMs)
    return Math.max(0, endsAtMs - config.clock.now())
  }

  fail(error: unknown, options: FailOptions = {}): never {
    this.#declared = new Declared(error, checkOptions('ctx.fail', failOptionsSchema, options))
    throw this.#declared
  }

  enqueue(child: AnyJob, payload?: unknown, options?: object): void {
    if (this.#isOver) {
      throw new IztaError(
        'task-over',
        `Task ${this.task.id} has enqueued a child of job "${child.id}" after its handler had ended: await what enqueues.`,
      )
    }
    const children = (this.#children ??= [])
    if (children.length >= defaults.childrenPerTask) {
      throw new IztaError(
        'too-many-children',
        `Task ${this.task.id} has enqueued ${children.length} children, the most one task may: fan out in two levels.`,
      )
    }
    const prepared = prepareTask(child, payload, options, this.#limits)
    // Awaited when the handler has returned; until then nothing listens.
    if (prepared instanceof Promise) prepared.catch(() => {})
    children.push(prepared)
  }

  /** Of the children, made when the first one is enqueued. */
  get #limits(): PrepareLimits {
    const { payloadLimitBytes } = this.#options.config
    const { childrenLimitBytes } = defaults
    return (this.#childLimits ??= {
      payloadLimitBytes,
      add: sumUpTo(childrenLimitBytes, (bytes) => {
        const message = `The children of task ${this.task.id} have payloads of ${bytes} bytes together, above the limit of ${childrenLimitBytes} bytes: fan out in two levels, or pass references.`
        return new IztaError('children-too-large', message)
      }),
    })
  }

  // Awaits only what is not there yet: each wait costs as much as a short handler.
  async #run(trace: string | undefined): Promise<Ended> {
    const { task, job } = this
    const { resultLimitBytes } = this.#options.config
    try {
      const payload = job.payload === undefined ? undefined : decodePayload(task.payload)
      const validated = validate(job.payload, payload)
      const checked = 'then' in validated ? await validated : validated
      if (!checked.ok) {
        const message = `The stored payload does not fit today's schema of the job: ${describeIssues(checked.issues)}`
        return dropped(task, job, { code: 'payload-refused', class: 'PayloadError', message })
      }
      const returned: unknown = await job.run(checked.value, createContext(this))
      this.#isOver = true
      if (this.#declared !== undefined) throw this.#declared
      if (this.#stopped === 'timeout') throw stopError('timeout')
      const children = this.#children === undefined ? [] : await Promise.all(this.#children)
      const result = job.result === undefined ? noResult : await readResult(job, returned, resultLimitBytes)
      if (!result.ok) return failed(task, job, result.failure)
      return settle(task, job, 'finish', {
        body: result.text,
        children: trace === undefined ? children : children.map((child) => ({ ...child, trace })),
      })
    } catch (error) {
      return await this.#endOf(error)
    } finally {
      this.#cancelTimeout()
    }
  }

  async #endOf(thrown: unknown): Promise<Ended> {
    this.#isOver = true
    const { task, job } = this
    const { resultLimitBytes } = this.#options.config
    return endOf({ task, job, thrown, stopped: this.#stopped, declared: this.#declared, resultLimitBytes })
  }

  async #runTraced(tracing: Tracing): Promise<Ended> {
    const { id, queue, job, trace, attempt, losses } = this.task
    const started = { id, queue, job, trace, attempt: attempt + 1, losses }
    const { logMessages } = this.#options.config
    try {
      return await tracing.run(
        started,
        (text) => this.#run(text),
        ({ outcome, failure }) => ({
          outcome: outcome.kind,
          failure: failure && quoted(failure, logMessages),
        }),
      )
    } catch (error) {
      return await this.#endOf(error)
    } finally {
      // The tracing may fail before it has called `run`.
      this.#cancelTimeout()
    }
  }
}

const failOptionsSchema = z.strictObject({
  retry: z.optional(z.boolean()),
  retryAfterSeconds: z.optional(numberFrom(0, 2_592_000)),
})

type Result =
  { readonly ok: true; readonly text: string | null } | { readonly ok: false; readonly failure: Failure }

const noResult: Result = { ok: true, text: null }

async function readResult(job: Job, returned: unknown, limitBytes: number): Promise<Result> {
  const refuse = (message: string): Result => ({
    ok: false,
    failure: { code: 'result-refused', class: 'ResultError', message },
  })
  const checked = await validateProduced(job.result, returned)
  if (!checked.ok)
    return refuse(`The result does not fit the job's schema: ${describeIssues(checked.issues)}`)
  if (checked.value === undefined) return noResult
  const encoded = encodeJson(checked.value, limitBytes)
  return encoded.ok
    ? { ok: true, text: encoded.text }
    : refuse(`The result cannot be stored: ${encoded.issue.message}`)
}
