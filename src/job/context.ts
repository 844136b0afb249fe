// What a handler is given beside its payload.
import type { AnyJob, PayloadInput, Schema, SchemaInput, SchemaOutput } from './definition.ts'
import type { ProducedFor } from './json-types.ts'
import type { Logger } from '../observe/log.ts'

/** Facts about the task that runs. */
export interface TaskInfo {
  readonly id: string
  /** The job's id. */
  readonly job: string
  readonly queue: string
  readonly priority: number
  readonly key: string | undefined
  /** Id of the task whose handler enqueued this one. */
  readonly parent: string | undefined
  /** Name of the schedule that made the task. */
  readonly schedule: string | undefined
  /** The due instant of the schedule that this task stands for. */
  readonly slot: Date | undefined
  readonly enqueuedAt: Date
  readonly dueAt: Date
  readonly maxAttempts: number
}

/** How a declared failure is followed up. */
export interface FailOptions {
  /** `false` ends the task at once, whatever attempts are left. @default true */
  retry?: boolean | undefined
  /** Instead of the job's backoff, in seconds from 0 to 2,592,000 (30 days). */
  retryAfterSeconds?: number | undefined
}

/** Options of one enqueued task. */
export interface EnqueueOptions {
  /** Instant before which the task does not start. Excludes `delaySeconds`. @default at once */
  runAt?: Date | undefined
  /** Seconds before the task may start, in the database's clock. 0 to 315,360,000 (10 years). @default 0 */
  delaySeconds?: number | undefined
  /** @default the job's queue */
  queue?: string | undefined
  /** 0 (first) to 9 (last). @default the job's priority */
  priority?: number | undefined
  /** From 1 to 32,767. @default the job's maxAttempts */
  maxAttempts?: number | undefined
  /** At most one unfinished task per job has this key. 1 to 512 bytes. */
  key?: string | undefined
  /** Whether the key frees when the task starts or when it ends. @default 'finished' */
  keyUntil?: 'finished' | 'started' | undefined
  /** The task's id, a UUID: a repeated call with the same id makes nothing. @default a new UUIDv7 */
  id?: string | undefined
}

/** The arguments after the job: the payload may be left out where its schema allows `undefined`. */
export type EnqueueArguments<J extends AnyJob, O = EnqueueOptions> =
  undefined extends PayloadInput<J>
    ? [payload?: PayloadInput<J>, options?: O]
    : [payload: PayloadInput<J>, options?: O]

/** What `ctx.fail` takes: the declared error's input, or a reason in words where the job declares none. */
export type FailArgument<E> = E extends Schema ? ProducedFor<SchemaInput<E>, SchemaOutput<E>> : string | Error

/** What a handler is given beside its payload. */
export interface JobContext<E = undefined> {
  readonly task: TaskInfo
  /** Number of this run, from 1; runs that died do not count. */
  readonly attempt: number
  /** How often the task's process died before: above 0, some of the work may have happened already. */
  readonly losses: number
  /** Aborts on timeout, on cancellation and shortly before the invocation's deadline. */
  readonly signal: AbortSignal
  /** Milliseconds until the attempt's timeout or the invocation's deadline, whichever comes first. */
  remainingMs(): number
  /** Logs with the task's id, job, queue and attempt. */
  readonly log: Logger
  /**
   * Fails the attempt with the job's declared error. Never returns; write `return ctx.fail(…)`, since TypeScript
   * narrows only then. The attempt has failed even if the handler catches what is thrown.
   */
  fail(error: FailArgument<E>, options?: FailOptions): never
  /**
   * Enqueues a child with the very call that settles this task as finished: a task that fails, dies or is retried
   * leaves none, a finished one leaves all. A child whose key is taken is skipped and logged. At most
   * 1,000 per task, with payloads of 16 MiB together.
   */
  enqueue<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J>): void
}
