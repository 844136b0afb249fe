// Reads tasks back: one, many, counts, and waiting for an end.
import { z } from 'zod'
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { JobMismatchError, OptionError, WaitTimeoutError, StateError } from '../errors.ts'
import type { AnyJob } from '../job/job.ts'
import { taskStatuses, type EndedTask, type Task, type TaskStatus } from '../job/task.ts'
import { checkOptions, namePattern, nameRule, showValue } from '../options.ts'
import { uuidPattern } from '../prepare.ts'
import { countsStatement, getStatement, listStatement, readCounts, readTask } from '../store/inspect.ts'
import { runStatement } from './statement.ts'

/** Which tasks to list; all conditions hold together. */
export interface ListOptions<J extends AnyJob = AnyJob> {
  status?: TaskStatus
  queue?: string
  /** A definition, or a job's id. */
  job?: J | string
  /** Tasks a page, 1 to 1,000. @default 100 */
  pageSize?: number
  /** Id of the last task of the page before. */
  cursor?: string
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
   */
  get<J extends AnyJob>(job: J, id: string): Promise<Task<J> | undefined>
  /** Every task that fits, newest id first, read in pages. One that moves meanwhile may be missed or seen twice. */
  list<J extends AnyJob = AnyJob>(options?: ListOptions<J>): AsyncIterableIterator<Task<J>>
  /** One page of the list. */
  listPage<J extends AnyJob = AnyJob>(options?: ListOptions<J>): Promise<TaskPage<J>>
  /**
   * Tasks by queue and status: unfinished ones exactly, ended ones only those since `since`. Every status is there,
   * with 0 where nothing counts.
   */
  counts(options?: { since?: Date }): Promise<Record<string, StatusCounts>>
  /**
   * The task when it has ended, however it ended.
   * @throws {WaitTimeoutError} after `timeoutSeconds` (default 60); the task itself goes on.
   * @throws {StateError} `task-not-found` when there is no such task.
   */
  wait<J extends AnyJob>(job: J, id: string, options?: { timeoutSeconds?: number }): Promise<EndedTask<J>>
}

const name = z.string().regex(namePattern, `expected ${nameRule}`)
const listOptions = z.strictObject({
  status: z.enum(taskStatuses).optional(),
  queue: name.optional(),
  job: z
    .custom<AnyJob | string>((value) => typeof value === 'string' || (typeof value === 'object' && value !== null && 'id' in value), 'expected a job or its id')
    .optional(),
  pageSize: z.int().min(1).max(1000).default(defaults.list.pageSize),
  cursor: z.string().regex(uuidPattern, 'expected the id of a task').optional(),
})
const countsOptions = z.strictObject({ since: z.date('expected a valid Date').optional() })
const waitOptions = z.strictObject({ timeoutSeconds: z.number().min(0).max(86_400).default(defaults.wait.timeoutSeconds) })

export function createReading(config: ResolvedConfig): Reading {
  async function get<J extends AnyJob>(job: J, id: string): Promise<Task<J> | undefined> {
    const [row] = await runStatement(config, getStatement(checkTaskId('get', id)))
    if (row === undefined) return undefined
    const task = readTask<J>(row)
    if (task.job !== job.id) throw new JobMismatchError(id, job.id, task.job)
    return task
  }

  async function listPage<J extends AnyJob>(options: ListOptions<J> = {}): Promise<TaskPage<J>> {
    const { status, queue, job, pageSize, cursor } = checkOptions('list', listOptions, options)
    const filter = { status, queue, cursor, limit: pageSize, job: typeof job === 'object' ? job.id : job }
    const tasks = (await runStatement(config, listStatement(filter))).map(readTask<J>)
    return { tasks, cursor: tasks.length < pageSize ? undefined : tasks.at(-1)?.id }
  }

  return {
    get,
    listPage,
    async *list(options = {}) {
      let cursor = options.cursor
      do {
        // oxlint-disable-next-line no-await-in-loop -- page by page
        const page = await listPage(cursor === undefined ? options : { ...options, cursor })
        yield* page.tasks
        cursor = page.cursor
      } while (cursor !== undefined)
    },
    async counts(options = {}) {
      const { since } = checkOptions('counts', countsOptions, options)
      const counts: Record<string, StatusCounts> = {}
      for (const { queue, status, count } of readCounts(await runStatement(config, countsStatement(since)))) {
        counts[queue] ??= { pending: 0, running: 0, failing: 0, failed: 0, finished: 0, cancelled: 0 }
        counts[queue][status] = count
      }
      return counts
    },
    async wait(job, id, options = {}) {
      const { timeoutSeconds } = checkOptions('wait', waitOptions, options)
      const endsAtMs = config.clock.now() + timeoutSeconds * 1000
      let pollMs: number = defaults.wait.firstPollMs
      for (;;) {
        // oxlint-disable-next-line no-await-in-loop -- until it has ended
        const task = await get(job, id)
        if (task === undefined) {
          throw new StateError('task-not-found', `There is no task ${id} (any more): its history may have been pruned.`)
        }
        if (hasEnded(task)) return task
        const leftMs = endsAtMs - config.clock.now()
        if (leftMs <= 0) throw new WaitTimeoutError(id, timeoutSeconds, task.status)
        // oxlint-disable-next-line no-await-in-loop -- until it has ended
        await pause(config.clock, Math.min(pollMs, leftMs))
        pollMs = Math.min(pollMs * 2, defaults.wait.maxPollMs)
      }
    },
  }
}

function hasEnded<J extends AnyJob>(task: Task<J>): task is EndedTask<J> {
  return task.status === 'finished' || task.status === 'failed' || task.status === 'cancelled'
}

/** Refuses what is no UUID before the database does. */
export function checkTaskId(what: string, id: unknown): string {
  if (typeof id === 'string' && uuidPattern.test(id)) return id
  throw new OptionError('id', `${what}: expected the id of a task, a UUID; got ${showValue(id)}.`)
}
