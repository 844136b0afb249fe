// Reads tasks back: one, many, counts, and waiting for an end.
import * as z from 'zod/mini'
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { JobMismatchError, OptionError, WaitTimeoutError, StateError } from '../errors.ts'
import { isJob, type AnyJob } from '../job/job.ts'
import { taskStatuses, type EndedTask, type Task, type TaskStatus } from '../job/task.ts'
import {
  checkOptions,
  intFrom,
  namePattern,
  nameSchema,
  numberFrom,
  showImported,
  showValue,
  signalSchema,
} from '../options.ts'
import { uuidPattern } from '../job/prepare.ts'
import {
  countsStatement,
  getStatement,
  listStatement,
  readCounts,
  readMore,
  readTask,
  readStatus,
  statusStatement,
} from '../store/inspect.ts'
import type { CallOptions } from '../db/call-end.ts'
import { runStatement } from '../db/run.ts'

/** Which tasks to list; all conditions hold together. */
export interface ListOptions<J extends AnyJob = AnyJob> extends CallOptions {
  status?: TaskStatus | undefined
  queue?: string | undefined
  /** A definition, or a job's id. */
  job?: J | string | undefined
  /** Tasks a page at the most, 1 to 1,000; fewer when they are too large for one answer. @default 100 */
  pageSize?: number | undefined
  /** Id of the last task of the page before. */
  cursor?: string | undefined
}

/** One page of a list, newest id first. */
export interface TaskPage<J extends AnyJob = AnyJob> {
  readonly tasks: readonly Task<J>[]
  /** Where the next page begins; undefined on the last. */
  readonly cursor: string | undefined
}

/** Numbers of tasks by status. */
export type StatusCounts = Record<TaskStatus, number>

export interface Reading {
  /**
   * A task of this job, wherever it is; undefined when there is none (any more).
   * @throws {JobMismatchError} when the task belongs to another job.
   * @throws {OptionError} when the id is no UUID.
   *
   * @example
   * ```ts
   * const task = await izta.get(divide, id)
   * if (task?.status === 'finished') console.log(task.result.toFixed(2))
   * if (task?.status === 'failed') console.log(task.code, task.error?.code)
   * ```
   */
  get<J extends AnyJob>(job: J, id: string): Promise<Task<J> | undefined>
  /**
   * Every task that fits, newest id first, read in pages. One that moves meanwhile may be missed or seen twice.
   *
   * @throws {OptionError} when an option is unknown or out of its range.
   *
   * @example
   * ```ts
   * for await (const task of izta.list({ status: 'failed', job: divide })) console.log(task.id, task.errors.at(-1)?.message)
   * ```
   */
  list<J extends AnyJob = AnyJob>(options?: ListOptions<J>): AsyncIterableIterator<Task<J>>
  /**
   * One page of the list.
   *
   * @throws {OptionError} when an option is unknown or out of its range.
   */
  listPage<J extends AnyJob = AnyJob>(options?: ListOptions<J>): Promise<TaskPage<J>>
  /**
   * Tasks by queue and status: unfinished ones exactly, ended ones only those since `since`. Every status is there,
   * with 0 where nothing counts.
   *
   * @throws {OptionError} when `since` is no valid Date.
   *
   * @example
   * ```ts
   * const counts = await izta.counts({ since: new Date(Date.now() - 86_400_000) })
   * console.log(counts['default']?.failed)
   * ```
   */
  counts(options?: CallOptions & { since?: Date | undefined }): Promise<Record<string, StatusCounts>>
  /**
   * The task when it has ended, however it ended.
   * @throws {WaitTimeoutError} after `timeoutSeconds` (default 60); the task itself goes on.
   * @throws {StateError} `task-not-found` when there is no such task.
   * @throws {JobMismatchError} when the task belongs to another job.
   * @throws {OptionError} when the id is no UUID, or `timeoutSeconds` is not from 0 to 86,400.
   *
   * @example
   * ```ts
   * const task = await izta.wait(divide, id, { timeoutSeconds: 10 })
   * if (task.status === 'finished') console.log(task.result)
   * ```
   */
  wait<J extends AnyJob>(
    job: J,
    id: string,
    options?: CallOptions & { timeoutSeconds?: number | undefined },
  ): Promise<EndedTask<J>>
}

/** What one page may bring at the most, whatever the driver could carry. */
const longestPageBytes = 32 * 1024 * 1024

const listOptions = z.strictObject({
  status: z.optional(z.enum(taskStatuses)),
  queue: z.optional(nameSchema),
  job: z.optional(
    z
      .custom<AnyJob | string>(
        (value) => isJob(value) || (typeof value === 'string' && namePattern.test(value)),
      )
      .check(z.describe('a job, or the id of one')),
  ),
  pageSize: z._default(intFrom(1, 1000), defaults.list.pageSize),
  cursor: z.optional(z.string().check(z.regex(uuidPattern), z.describe('the id of a task, a UUID'))),
  signal: signalSchema,
})
const countsOptions = z.strictObject({ since: z.optional(z.date()), signal: signalSchema })
const waitOptions = z.strictObject({
  timeoutSeconds: z._default(numberFrom(0, 86_400), defaults.wait.timeoutSeconds),
  signal: signalSchema,
})

export function createReading(config: ResolvedConfig): Reading {
  // Text that travels inside JSON grows by its escapes, to twice its size at the most for JSON text.
  const replyBytes = Math.min(longestPageBytes, (config.database.replyLimitBytes ?? Infinity) / 2)

  async function get<J extends AnyJob>(job: J, id: string): Promise<Task<J> | undefined> {
    checkJob('get', job)
    const [row] = await runStatement(config, getStatement(checkTaskId('get', id)))
    if (row === undefined) return undefined
    const task = readTask<J>(row)
    if (task.job !== job.id) throw new JobMismatchError(id, job.id, task.job)
    return task
  }

  async function listPage<J extends AnyJob>(options: ListOptions<J> = {}): Promise<TaskPage<J>> {
    const { status, queue, job, pageSize, cursor, signal } = checkOptions('list', listOptions, options)
    const jobId = typeof job === 'object' ? job.id : job
    const statement = listStatement({ status, queue, cursor, limit: pageSize, job: jobId, replyBytes })
    const rows = await runStatement(config, statement, { signal })
    const tasks = rows.map(readTask<J>)
    return { tasks, cursor: readMore(rows) ? tasks.at(-1)?.id : undefined }
  }

  return {
    get,
    listPage,
    async *list(options = {}) {
      let page = await listPage(options)
      yield* page.tasks
      while (page.cursor !== undefined) {
        page = await listPage({ ...options, cursor: page.cursor })
        yield* page.tasks
      }
    },
    async counts(options = {}) {
      const { since, signal } = checkOptions('counts', countsOptions, options)
      const rows = await runStatement(config, countsStatement(since), { signal })
      // A queue may be called __proto__.
      const counts = new Map<string, StatusCounts>()
      for (const { queue, status, count } of readCounts(rows)) {
        const none = { pending: 0, running: 0, failing: 0, failed: 0, finished: 0, cancelled: 0 }
        counts.set(queue, { ...(counts.get(queue) ?? none), [status]: count })
      }
      return Object.fromEntries(counts)
    },
    async wait(job, id, options = {}) {
      checkJob('wait', job)
      checkTaskId('wait', id)
      const { timeoutSeconds, signal } = checkOptions('wait', waitOptions, options)
      const endsAtMs = config.clock.now() + timeoutSeconds * 1000
      let pollMs: number = defaults.wait.firstPollMs
      for (;;) {
        const found = readStatus(await runStatement(config, statusStatement(id), { signal }))
        if (found === undefined) {
          throw new StateError(
            'task-not-found',
            `wait: there is no task ${id}: it was never committed, or its retention has ended.`,
          )
        }
        if (found.job !== job.id) throw new JobMismatchError(id, job.id, found.job)
        if (endedStatuses.has(found.status)) {
          const task = await get(job, id)
          if (task !== undefined && hasEnded(task)) return task
        }
        const leftMs = endsAtMs - config.clock.now()
        if (leftMs <= 0) throw new WaitTimeoutError(id, timeoutSeconds, found.status)
        await pause(config.clock, Math.min(pollMs, leftMs), signal)
        pollMs = Math.min(pollMs * 2, defaults.wait.maxPollMs)
      }
    },
  }
}

const endedStatuses: ReadonlySet<TaskStatus> = new Set(['finished', 'failed', 'cancelled'])

function hasEnded<J extends AnyJob>(task: Task<J>): task is EndedTask<J> {
  return endedStatuses.has(task.status)
}

function checkJob(what: string, job: unknown): void {
  if (!isJob(job))
    throw new OptionError('job', `${what}: expected what defineJob returns; got ${showImported(job)}.`)
}

/** Refuses what is no UUID before the database does. */
export function checkTaskId(what: string, id: unknown): string {
  if (typeof id === 'string' && uuidPattern.test(id)) return id
  throw new OptionError('id', `${what}: expected the id of a task, a UUID; got ${showValue(id)}.`)
}
