// The table that turns what a handler threw into the outcome of its task.
import { defaults } from '../defaults.ts'
import type { FailOptions } from '../job/context.ts'
import type { Job } from '../job/job.ts'
import { encodeJson } from '../job/json.ts'
import { describeIssues, validateProduced } from '../job/validate.ts'
import { readableMessage } from '../errors.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { describeThrown, failed, settle, type Ended, type Failure } from './outcome.ts'
import { timeoutFailure, type StopReason } from './stop-reason.ts'

/** An attempt whose handler threw, or was told to stop. */
export interface Interruption {
  readonly task: ClaimedTask
  readonly job: Job
  readonly thrown: unknown
  /** The first reason for which the handler was told to stop. */
  readonly stopped: StopReason | undefined
  /** The error of `ctx.fail`, even if the handler caught it and threw another. */
  readonly declared: Declared | undefined
  readonly resultLimitBytes: number
}

interface Ending {
  readonly applies: (to: Interruption) => boolean
  readonly end: (of: Interruption) => Ended | Promise<Ended>
}

/** The first row that applies decides. */
const endings: readonly Ending[] = [
  {
    applies: ({ stopped }) => stopped === 'cancelled',
    end: ({ task, job }) => settle(task, job, 'cancel'),
  },
  {
    applies: ({ declared }) => declared !== undefined,
    end: async ({ task, job, declared, resultLimitBytes }) =>
      failed(task, job, await describeDeclared(job, declared as Declared, resultLimitBytes)),
  },
  {
    applies: ({ stopped }) => stopped === 'timeout',
    end: ({ task, job }) => failed(task, job, timeoutFailure),
  },
  {
    applies: ({ stopped }) => stopped !== undefined,
    end: ({ task, job }) => settle(task, job, 'release'),
  },
]

/** The outcome of an attempt that threw. */
export async function endOf(interruption: Interruption): Promise<Ended> {
  const ending = endings.find(({ applies }) => applies(interruption))
  const { task, job, thrown } = interruption
  return ending === undefined ? failed(task, job, describeThrown(thrown)) : ending.end(interruption)
}

/** The error that `ctx.fail` throws. */
export class Declared extends Error {
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
  const checked = await validateProduced(job.error, declared.error)
  if (!checked.ok) {
    return refuse(`The declared error does not fit the job's error schema: ${describeIssues(checked.issues)}`)
  }
  const failure: Failure = { ...describeThrown(declared), ...declared.options, code: 'declared' }
  if (checked.value === undefined) return failure
  const encoded = encodeJson(checked.value, Math.min(limitBytes, defaults.errorLimitBytes))
  if (!encoded.ok) return refuse(`The declared error cannot be stored: ${encoded.issue.message}`)
  return { ...failure, declared: encoded.text }
}
