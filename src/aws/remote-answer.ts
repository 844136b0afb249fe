// Reads what the enqueue function answers to `izta/remote`: tasks, or an error of the class it has beside the database.
import * as z from 'zod/mini'
import {
  DatabaseAccessError,
  DatabaseError,
  DatabaseUnreachableError,
  IztaError,
  NotMigratedError,
  OptionError,
  PayloadError,
  SchemaTooNewError,
  UnknownJobError,
  type InputIssue,
} from '../errors.ts'
import type { AwsAnswer } from './api.ts'

/** What became of an enqueue through the function. */
export interface RemotelyEnqueued {
  /** The task's id; of the unfinished task that holds the key, when `created` is false. */
  readonly id: string
  /** False when a task with this id exists or existed, or its key is held: then nothing was stored. */
  readonly created: boolean
}

const answerSchema = z.object({ tasks: z.array(z.object({ id: z.string(), created: z.boolean() })) })
const refusalSchema = z.object({
  error: z.object({
    code: z.string(),
    message: z.string(),
    retryable: z._default(z.boolean(), false),
    issues: z._default(
      z.array(
        z.object({ index: z.optional(z.int()), path: z.string(), code: z.string(), message: z.string() }),
      ),
      [],
    ),
  }),
})
type Refusal = z.output<typeof refusalSchema>['error']

/**
 * What became of the tasks with these ids, in their order.
 *
 * @throws {IztaError} the refusal, or `unexpected-answer`.
 */
export function readAnswer({ status, body }: AwsAnswer, ids: readonly string[]): readonly RemotelyEnqueued[] {
  const refusal = refusalSchema.safeParse(body)
  if (refusal.success) throw errorOf(refusal.data.error)
  const answer = answerSchema.safeParse(body)
  if (!answer.success) {
    throw unexpected(`The response (status ${status}) is not that of an enqueue function of izta.`)
  }
  const { tasks } = answer.data
  if (tasks.length !== ids.length) {
    throw unexpected(`The response is about ${tasks.length} tasks, and ${ids.length} were sent.`)
  }
  const stray = tasks.findIndex(({ id, created }, index) => created && id !== ids[index])
  if (stray >= 0) {
    throw unexpected(`The response has ${tasks[stray]?.id} as task ${stray}, and ${ids[stray]} was sent.`)
  }
  return tasks
}

const unexpected = (happened: string) =>
  new IztaError(
    'unexpected-answer',
    `${happened} It is not known whether the tasks were stored. Check functionName or url, and what is between.`,
  )

/** The class that the same mistake has when the database is used directly. */
function errorOf({ code, message, retryable, issues }: Refusal): IztaError {
  const issue = issues.find((candidate) => candidate.code === code)
  const details = issues.map(({ index, path, message: text }) => `${index ?? ''} ${path}: ${text}`.trim())
  const full = [message, ...details.slice(0, 5)].join('\n')
  switch (code) {
    case 'payload-refused':
    case 'payload-not-json':
    case 'payload-too-large':
      return new PayloadError(code, full, issues.map(payloadIssue), { index: issue?.index })
    case 'invalid-option':
      return new OptionError(issue?.path.replace(/^options\./, '') ?? '', full, issue?.index)
    case 'unknown-job':
      return new UnknownJobError(/"([^"]+)"/.exec(issue?.message ?? '')?.[1] ?? '', full)
    case 'database-unreachable':
      return new DatabaseUnreachableError(code, full, { retryable, outcome: 'unknown' })
    case 'database-secret':
      // What keeps the secret gave no answer.
      if (retryable) return new DatabaseUnreachableError(code, full, { retryable })
      return new DatabaseAccessError(code, full, { retryable })
    case 'database-access':
    case 'database-disabled':
    case 'database-tls':
    case 'database-token':
      return new DatabaseAccessError(code, full, { retryable })
    case 'not-migrated':
      return new NotMigratedError(code, full, { retryable })
    case 'schema-too-new':
      return new SchemaTooNewError(code, full, { retryable })
    case 'busy':
    case 'data-refused':
    case 'database-closed':
    case 'database-error':
    case 'deadlock':
    case 'lock-timeout':
    case 'read-only':
    case 'reply-too-large':
    case 'serialization':
    case 'stale-session':
    case 'statement-timeout':
    case 'system-error':
      return new DatabaseError(code, full, { retryable })
    default:
      return new IztaError(code, full, { retryable })
  }
}

/** The function tells paths from the task, errors tell them from the payload. */
function payloadIssue({ index, path, code, message }: Refusal['issues'][number]): InputIssue {
  const inPayload = path.replace(/^payload\.?/, '')
  return { ...(index === undefined ? {} : { index }), path: inPayload, code, message }
}
