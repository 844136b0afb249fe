// A request of the enqueue function: checks all of it, lists everything that is wrong, and enqueues all or nothing.
import * as z from 'zod/mini'
import en from 'zod/v4/locales/en.js'
import { insertTasks } from '../client/enqueue.ts'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import { IztaError, type OptionError, type PayloadError } from '../errors.ts'
import type { EnqueueOptions } from '../job/context.ts'
import { checkOptions, showValue } from '../options.ts'
import { enqueueOptionsSchema, preparePayload, prepareTask, type PreparedTask } from '../prepare.ts'

/** One thing that is wrong with a request. */
export interface EnqueueIssue {
  /** Position in `tasks`, from 0; absent when the request as a whole is meant. */
  readonly index?: number
  /** Dotted path inside the task, for example `payload.numerator` or `options.priority`; `''` for all of it. */
  readonly path: string
  readonly code: string
  readonly message: string
}

/** What became of a request. Messages name no host, statement or stack. */
export type EnqueueAnswer =
  | {
      readonly statusCode: 202
      readonly tasks: readonly { readonly id: string; readonly created: boolean }[]
    }
  | {
      readonly statusCode: 400 | 404 | 405 | 413 | 422 | 500 | 503
      readonly error: {
        readonly code: string
        readonly message: string
        /** Whether the same request, with the same ids, can succeed later. */
        readonly retryable: boolean
        readonly issues: readonly EnqueueIssue[]
      }
    }

type Refused = Exclude<EnqueueAnswer, { statusCode: 202 }>

export function refuse(
  statusCode: Refused['statusCode'],
  code: string,
  message: string,
  { issues = [], retryable = false }: { issues?: readonly EnqueueIssue[]; retryable?: boolean } = {},
): Refused {
  return { statusCode, error: { code, message, retryable, issues } }
}

const plainObject = z.custom<Record<string, unknown>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
)

const requestSchema = z.strictObject({
  tasks: z.array(
    z.strictObject({ job: z.string(), payload: z.optional(z.unknown()), options: z.optional(plainObject) }),
  ),
})

type RequestedTask = z.output<typeof requestSchema>['tasks'][number]

/** zod/mini has no words of its own. */
const words = { error: en().localeError }

const shape = '{ tasks: [{ job, payload, options }] }'

/** Never throws. */
export async function enqueueRequest(config: ResolvedConfig, body: unknown): Promise<EnqueueAnswer> {
  try {
    const parsed = requestSchema.safeParse(body, words)
    if (!parsed.success) {
      const issues = parsed.error.issues.flatMap(shapeIssues)
      return refuse(400, 'invalid-request', `The request is not of the shape ${shape}.`, { issues })
    }
    const { tasks } = parsed.data
    if (tasks.length > defaults.tasksPerCall) {
      const message = `${tasks.length} tasks are above the limit of ${defaults.tasksPerCall} a request: split them.`
      return refuse(413, 'too-many-tasks', message)
    }
    const prepared = await prepareAll(config, tasks)
    if ('error' in prepared) return prepared
    return await insert(config, prepared)
  } catch (error) {
    config.log.error('the enqueue handler failed', { error })
    return refuse(500, 'internal', 'The request failed for a reason that the log of the function tells.')
  }
}

async function insert(config: ResolvedConfig, prepared: readonly PreparedTask[]): Promise<EnqueueAnswer> {
  try {
    const enqueued = await insertTasks(config, prepared)
    return { statusCode: 202, tasks: enqueued.map(({ id, created }) => ({ id, created })) }
  } catch (error) {
    if (!IztaError.is(error)) throw error
    config.log.error('an enqueue request failed', { code: error.code, error: error.message })
    if (error.code === 'data-refused') {
      return refuse(422, error.code, 'The database refused a value of the request: nothing was stored.')
    }
    const happened =
      isDatabaseError(error) && error.outcome === 'unknown'
        ? 'the tasks may have been stored or not'
        : 'nothing was stored'
    const advice = error.retryable
      ? 'Repeat the request later; with an id for each task none is made twice.'
      : 'Whoever operates this function must mend it: its log tells more.'
    const message = `The database cannot be used (${error.code}): ${happened}. ${advice}`
    return refuse(503, error.code, message, { retryable: error.retryable })
  }
}

/** The tasks to insert, or the answer that lists everything that is wrong with them. */
async function prepareAll(
  config: ResolvedConfig,
  requested: readonly RequestedTask[],
): Promise<readonly PreparedTask[] | Refused> {
  const prepared = await Promise.all(requested.map((task, index) => prepareOne(config, task, index)))
  const tasks = prepared.flatMap(({ task }) => task ?? [])
  const issues = [...prepared.flatMap((outcome) => outcome.issues), ...repeatedIds(requested)].toSorted(
    (one, other) => (one.index ?? 0) - (other.index ?? 0),
  )
  if (issues.length === 0) return tasks
  const first = issues.find(({ code }) => code !== 'payload-too-large')
  const message = `${issues.length} ${issues.length === 1 ? 'thing is' : 'things are'} wrong with the tasks: nothing was stored.`
  if (first === undefined) return refuse(413, 'payload-too-large', message, { issues })
  return refuse(422, first.code, message, { issues })
}

interface PreparedOne {
  readonly task?: PreparedTask
  readonly issues: readonly EnqueueIssue[]
}

/** The task, or everything that is wrong with it. */
async function prepareOne(
  config: ResolvedConfig,
  requested: RequestedTask,
  index: number,
): Promise<PreparedOne> {
  const job = config.jobs.get(requested.job)
  const { options, issues } = readOptions(requested.options ?? {}, index)
  if (job === undefined) {
    const message = `there is no job with the id ${showValue(requested.job)} here: "job" is the id of a definition, not its name.`
    return { issues: [{ index, path: 'job', code: 'unknown-job', message }, ...issues] }
  }
  try {
    if (issues.length === 0)
      return { task: await prepareTask(job, requested.payload, options, config, index), issues }
    await preparePayload(job, requested.payload, config, index)
    return { issues }
  } catch (error) {
    return { issues: [...issues, ...payloadIssues(error, index)] }
  }
}

function payloadIssues(error: unknown, index: number): EnqueueIssue[] {
  if (!isPayloadError(error)) throw error
  return error.issues.map(({ path, message }) => ({
    index,
    path: path === '' ? 'payload' : `payload.${path}`,
    code: error.code,
    message,
  }))
}

const isPayloadError = (error: unknown): error is PayloadError => IztaError.is(error) && 'issues' in error
const isOptionError = (error: unknown): error is OptionError => IztaError.is(error) && 'option' in error

const isoInstant = z.iso.datetime({ offset: true })

/** Options as JSON carries them: `runAt` as ISO 8601 text. Each is checked by itself, then all of them together. */
function readOptions(
  given: Record<string, unknown>,
  index: number,
): { options: EnqueueOptions; issues: readonly EnqueueIssue[] } {
  const issues: EnqueueIssue[] = []
  const check = (options: Record<string, unknown>): EnqueueOptions => {
    try {
      return checkOptions(`tasks[${index}]`, enqueueOptionsSchema, options)
    } catch (error) {
      if (!isOptionError(error)) throw error
      issues.push({ index, path: `options.${error.option}`, code: error.code, message: error.message })
      return {}
    }
  }
  const entries = Object.entries(given).map(([name, value]): [string, unknown] => {
    if (name !== 'runAt' || !isoInstant.safeParse(value).success) return [name, value]
    return [name, new Date(value as string)]
  })
  for (const [name, value] of entries) {
    if (name === 'runAt' && !(value instanceof Date)) {
      const message = `tasks[${index}]: option "runAt": expected an ISO 8601 instant such as 2026-11-24T10:00:00Z; got ${showValue(value)}.`
      issues.push({ index, path: 'options.runAt', code: 'invalid-option', message })
    } else {
      check(name === 'keyUntil' && 'key' in given ? { key: '-', [name]: value } : { [name]: value })
    }
  }
  return { options: issues.length === 0 ? check(Object.fromEntries(entries)) : {}, issues }
}

/** A repeated id would make the outcome of its tasks ambiguous. */
function repeatedIds(requested: readonly RequestedTask[]): EnqueueIssue[] {
  const seen = new Map<string, number>()
  return requested.flatMap(({ options }, index) => {
    const id = options?.['id']
    if (typeof id !== 'string') return []
    const first = seen.get(id.toLowerCase())
    if (first === undefined) seen.set(id.toLowerCase(), index)
    if (first === undefined) return []
    const message = `tasks[${index}]: option "id": ${showValue(id)} stands at index ${first} already: give each task its own id.`
    return [{ index, path: 'options.id', code: 'invalid-option', message }]
  })
}

/** zod's words for a request of the wrong shape. */
function shapeIssues(issue: z.core.$ZodIssue): EnqueueIssue[] {
  const [list, index, ...rest] = issue.path
  const inTask = list === 'tasks' && typeof index === 'number'
  const path = (inTask ? rest : issue.path).map(String)
  const position = inTask ? { index } : {}
  if (issue.code !== 'unrecognized_keys') {
    return [{ ...position, path: path.join('.'), code: 'invalid-shape', message: issue.message }]
  }
  return issue.keys.map((key) => ({
    ...position,
    path: [...path, key].join('.'),
    code: 'unknown-property',
    message: `unknown property ${showValue(key)}`,
  }))
}
