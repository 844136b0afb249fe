// A request of the enqueue function: checks all of it, lists everything that is wrong, and enqueues all or nothing.
import * as z from 'zod/mini'
import en from 'zod/v4/locales/en.js'
import { insertTraced } from '../client/insert.ts'
import { repeatedIds, tooManyTasks } from '../client/items.ts'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { IztaError, type OptionError, type PayloadError } from '../errors.ts'
import type { EnqueueOptions } from '../job/context.ts'
import { checkOptions, showValue } from '../options.ts'
import {
  listed,
  listedIssues,
  refuse,
  shapeIssuesOf,
  type EnqueueAnswer,
  type EnqueueIssue,
  type Refused,
} from './enqueue-answer.ts'
import { enqueueOptionsSchema, preparePayload, prepareTask, type PreparedTask } from '../job/prepare.ts'

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

/** Gives each task of a request its id. */
export type TaskIds = (index: number) => string

/** zod/mini has no words of its own. */
const words = { error: en().localeError }

const shape = '{ tasks: [{ job, payload, options }] }'

const countTasks = (body: unknown): number =>
  typeof body === 'object' && body !== null && 'tasks' in body && Array.isArray(body.tasks)
    ? body.tasks.length
    : 0

/** Never throws. `ids` gives the tasks that bring no id theirs. */
export async function enqueueRequest(
  config: ResolvedConfig,
  body: unknown,
  ids?: TaskIds,
): Promise<EnqueueAnswer> {
  const prepared = await prepareRequest(config, body, ids)
  return 'error' in prepared ? prepared : insertRequest(config, prepared)
}

/** The tasks of a request, or the answer that lists everything that is wrong with it. Never throws. */
export function prepareRequest(
  config: ResolvedConfig,
  body: unknown,
  ids?: TaskIds,
): Promise<readonly PreparedTask[] | Refused> {
  return orInternal(config, async () => {
    // First of all: what a schema says of each of a million things takes longer than a function may.
    const excess = tooManyTasks(countTasks(body))
    if (excess !== undefined) return refuse(413, 'too-many-tasks', excess)
    const parsed = requestSchema.safeParse(body, words)
    if (!parsed.success) {
      const issues = shapeIssuesOf(parsed.error.issues)
      return refuse(400, 'invalid-request', `The request is not of the shape ${shape}.`, { issues })
    }
    return prepareAll(config, parsed.data.tasks, ids)
  })
}

/** Inserts what `prepareRequest` has prepared. Never throws. */
export function insertRequest(
  config: ResolvedConfig,
  prepared: readonly PreparedTask[],
): Promise<EnqueueAnswer> {
  return orInternal(config, () => insert(config, prepared))
}

async function orInternal<T>(config: ResolvedConfig, work: () => Promise<T>): Promise<T | Refused> {
  try {
    return await work()
  } catch (error) {
    config.log.error('the enqueue handler failed', { error })
    return refuse(500, 'internal', 'The request failed for a reason that the log of the function tells.')
  }
}

async function insert(config: ResolvedConfig, prepared: readonly PreparedTask[]): Promise<EnqueueAnswer> {
  try {
    const enqueued = await insertTraced(config, prepared)
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
  ids: TaskIds | undefined,
): Promise<readonly PreparedTask[] | Refused> {
  const found = idIssues(requested)
  const prepared = await Promise.all(
    requested.map(async (task, index) => {
      if (found.length >= listedIssues) return undefined
      return prepareOne(config, withId(task, ids, index), index, found)
    }),
  )
  if (found.length === 0) return prepared.flatMap((task) => task ?? [])
  const issues = listed(found.toSorted((one, other) => (one.index ?? 0) - (other.index ?? 0)))
  const first = issues.find(({ code }) => code !== 'payload-too-large')
  const number = found.length < listedIssues ? `${found.length}` : `${listedIssues} or more`
  const message = `${number} ${found.length === 1 ? 'thing is' : 'things are'} wrong with the tasks: nothing was stored.`
  if (first === undefined) return refuse(413, 'payload-too-large', message, { issues })
  return refuse(422, first.code, message, { issues })
}

const withId = (task: RequestedTask, ids: TaskIds | undefined, index: number): RequestedTask =>
  ids === undefined ? task : { ...task, options: { id: ids(index), ...task.options } }

/** The task; or nothing, with everything that is wrong with it added to what was found. */
async function prepareOne(
  config: ResolvedConfig,
  requested: RequestedTask,
  index: number,
  found: EnqueueIssue[],
): Promise<PreparedTask | undefined> {
  const job = config.jobs.get(requested.job)
  const { options, issues } = readOptions(requested.options ?? {}, index)
  if (job === undefined) {
    const message = `there is no job with the id ${showValue(requested.job)} here: "job" is the id of a definition, not its name.`
    found.push({ index, path: 'job', code: 'unknown-job', message })
  }
  found.push(...issues)
  if (job === undefined) return undefined
  try {
    if (issues.length === 0) return await prepareTask(job, requested.payload, options, config, index)
    await preparePayload(job, requested.payload, config, index)
  } catch (error) {
    found.push(...payloadIssues(error, index))
  }
  return undefined
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
  // More names than there are options and places for issues need not be looked at, and to read them takes long.
  const names = Object.keys(given).slice(0, 2 * listedIssues)
  const entries = names.map((name): [string, unknown] => {
    const value = given[name]
    if (name !== 'runAt' || !isoInstant.safeParse(value).success) return [name, value]
    return [name, new Date(value as string)]
  })
  for (const [name, value] of entries) {
    if (issues.length >= listedIssues) break
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
function idIssues(requested: readonly RequestedTask[]): EnqueueIssue[] {
  const ids = requested.map(({ options }) => {
    const id = options?.['id']
    return typeof id === 'string' ? id : undefined
  })
  return repeatedIds(ids).map(({ index, message }) => ({
    index,
    path: 'options.id',
    code: 'invalid-option',
    message,
  }))
}
