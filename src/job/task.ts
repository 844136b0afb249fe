// Tasks: one stored run of a job, as the API shows it.
import type { FailureCode } from '../errors.ts'
import type { AnyJob, ErrorOutput, IfKept, PayloadInput, ResultOutput } from './definition.ts'

/**
 * Where a task stands: `pending` (waiting), `running` (leased), `failing` (an attempt failed, more are left), and
 * three ends: `finished`, `failed`, `cancelled`.
 */
export type TaskStatus = 'pending' | 'running' | 'failing' | 'failed' | 'finished' | 'cancelled'

export const taskStatuses = ['pending', 'running', 'failing', 'failed', 'finished', 'cancelled'] as const

/** One entry of a task's error history. */
export interface TaskError<Declared = unknown> {
  readonly code: FailureCode
  /** The attempt that failed, from 1; 0 where no attempt was made. */
  readonly attempt: number
  readonly at: Date
  /** Name of the thrown error's class. */
  readonly class: string
  readonly message: string
  readonly stack?: string
  /** What the handler gave to `ctx.fail`, checked by the job's error schema. */
  readonly error?: Declared
}

interface TaskFacts<J extends AnyJob> {
  readonly id: string
  /** The job's id. */
  readonly job: string
  readonly queue: string
  readonly priority: number
  /** Runs that ended in success or failure. */
  readonly attempt: number
  readonly maxAttempts: number
  /** Runs whose process died. */
  readonly losses: number
  readonly key: string | undefined
  /** Id of the task whose handler enqueued this one. */
  readonly parent: string | undefined
  readonly schedule: string | undefined
  readonly slot: Date | undefined
  readonly enqueuedAt: Date
  readonly dueAt: Date
  /** One entry per failed attempt, oldest first; the last 25. */
  readonly errors: readonly TaskError<ErrorOutput<J>>[]
}

interface Payload<J extends AnyJob> {
  /** As it was enqueued: the schema's input. */
  readonly payload: PayloadInput<J>
}

interface Ended {
  readonly finishedAt: Date
  /** When the row goes. */
  readonly expiresAt: Date
}

interface Failure<J extends AnyJob> {
  /** Why the last attempt failed. */
  readonly code: FailureCode
  /** The declared error of the last attempt, undefined when it failed otherwise. */
  readonly error: ErrorOutput<J> | undefined
}

/** A task as it is read back; narrow on `status`. */
export type Task<J extends AnyJob = AnyJob> = TaskFacts<J> &
  (
    | ({ readonly status: 'pending' } & Payload<J>)
    | ({ readonly status: 'running'; readonly leaseExpiresAt: Date } & Payload<J>)
    | ({ readonly status: 'failing' } & Payload<J> & Failure<J>)
    | ({ readonly status: 'failed' } & Payload<J> & Failure<J> & Ended)
    | ({
        readonly status: 'finished'
        /** As it was enqueued; undefined where the job keeps nothing of finished tasks (`finishedDays: 'none'`). */
        readonly payload: IfKept<J, PayloadInput<J>>
        /** The output of the result schema; undefined where the job has none, or keeps nothing of finished tasks. */
        readonly result: IfKept<J, ResultOutput<J>>
      } & Ended)
    | ({ readonly status: 'cancelled' } & Payload<J> & Ended)
  )

/** A task that has ended. */
export type EndedTask<J extends AnyJob = AnyJob> = Extract<
  Task<J>,
  { readonly status: 'finished' | 'failed' | 'cancelled' }
>
