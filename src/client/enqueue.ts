// Enqueues tasks: directly, in bulk, and as a statement for the application's own transaction.
import type { ResolvedConfig } from '../config.ts'
import { bindSchema } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { IztaError, OptionError, UnknownJobError } from '../errors.ts'
import type { EnqueueArguments, EnqueueOptions } from '../job/context.ts'
import { isJob, type AnyJob, type PayloadInput } from '../job/job.ts'
import { showValue, valueAt } from '../options.ts'
import { type NewTask, type Prepared, type PreparedTask, prepareTask } from '../job/prepare.ts'
import { enqueueOnlyStatement, readEnqueueReply } from '../store/enqueue.ts'
import { bulkItems, refuseRepeatedIds } from './items.ts'
import { contended, insertTasks, insertTraced, outcomeOf, type Enqueued } from './insert.ts'
import { createJoining } from './group-commit.ts'

export type { Enqueued }

/** One item of a mixed bulk enqueue: job, payload, options. */
export type EnqueueItem<J extends AnyJob = AnyJob> = readonly [job: J, ...rest: EnqueueArguments<J>]

/** Options that all tasks of one call can share. */
export type SharedEnqueueOptions = Omit<EnqueueOptions, 'id' | 'key' | 'keyUntil'>

/** A statement to run in the application's own transaction, with whatever driver that has. */
export interface EnqueueStatement {
  /** The task's id, also before the statement has run. */
  readonly id: string
  readonly text: string
  /** One per `$n`; each is text or null. */
  readonly values: (string | null)[]
  /**
   * What the statement did, from what it returned: rows as objects, or a result with `rows`.
   *
   * @throws {OptionError} when that is not what the statement returns.
   * @throws {IztaError} `key-contended` (retryable) when the key was taken by a transaction that committed at this
   * very moment, so that the holder cannot be told: nothing was stored.
   */
  read(result: readonly unknown[] | { readonly rows: readonly unknown[] }): Enqueued
}

export interface Enqueuing {
  /**
   * Stores a task and wakes a runner of its queue.
   *
   * @throws {PayloadError} when the schema refuses the payload, it is not JSON, or it is too large; nothing was sent.
   * @throws {OptionError} when an option is unknown or out of its range; nothing was sent.
   * @throws {UnknownJobError} when the job is not among `createIzta({ jobs })`; nothing was sent.
   * @throws {DatabaseError} when the database refuses or cannot be reached, also after several tries.
   *
   * @example
   * ```ts
   * const { id, created } = await izta.enqueue(divide, { numerator: 1, denominator: 2 }, { delaySeconds: 60 })
   * ```
   */
  enqueue<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J>): Promise<Enqueued>
  /**
   * Stores many tasks of one job, or of several as `[job, payload, options]`, in one statement: all or nothing.
   * At most 10,000; the answers stand in the order of the input. Throws as `enqueue` does, with the `index` of the
   * first task that is wrong.
   *
   * @example
   * ```ts
   * await izta.enqueueMany(divide, [{ numerator: 1, denominator: 2 }, { numerator: 3, denominator: 4 }])
   * await izta.enqueueMany([[divide, { numerator: 1, denominator: 2 }], [sweep, undefined, { priority: 0 }]])
   * ```
   */
  enqueueMany<J extends AnyJob>(
    job: J,
    payloads: readonly PayloadInput<J>[],
    options?: SharedEnqueueOptions,
  ): Promise<Enqueued[]>
  enqueueMany<const Jobs extends readonly AnyJob[]>(
    items: readonly [...{ [N in keyof Jobs]: EnqueueItem<Jobs[N]> }],
  ): Promise<Enqueued[]>
  /**
   * The enqueue as a statement for a transaction of the application: the task exists if that commits. No runner is
   * woken: call `izta.wake(queue)` after the commit, or leave it to the next tick.
   *
   * @throws {PayloadError | OptionError | UnknownJobError} as `enqueue`.
   * @throws {IztaError} `asynchronous-schema` when the payload's schema does not answer at once.
   *
   * @example
   * ```ts
   * const { id, text, values } = izta.enqueueStatement(sendInvoice, { orderId })
   * await client.query('begin')
   * await client.query('insert into orders (id) values ($1)', [orderId])
   * await client.query(text, values)
   * await client.query('commit')
   * await izta.wake('default')
   * ```
   */
  enqueueStatement<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J>): EnqueueStatement
}

export function createEnqueuing(config: ResolvedConfig): Enqueuing {
  function prepare(
    job: AnyJob,
    payload: unknown,
    options: EnqueueOptions | undefined,
    index?: number,
  ): Prepared {
    if (!isJob(job)) {
      throw new OptionError('job', `enqueue: expected what defineJob returns; got ${showValue(job)}.`, index)
    }
    if (!config.jobs.has(job.id)) {
      throw new UnknownJobError(
        job.id,
        `Job "${job.name}" is unknown to this izta: add it to createIzta({ jobs }).`,
        index,
      )
    }
    return prepareTask(job, payload, options, config, index)
  }

  async function enqueueMany(
    first: unknown,
    payloads?: unknown,
    options?: EnqueueOptions,
  ): Promise<Enqueued[]> {
    const items = bulkItems(first, payloads, options)
    if (items.length > defaults.tasksPerCall) {
      throw new OptionError(
        'tasks',
        `enqueueMany: expected at most ${defaults.tasksPerCall} tasks a call; got ${items.length}: split them.`,
      )
    }
    const prepared: Prepared[] = []
    try {
      for (const [index, [job, payload, own]] of items.entries())
        prepared.push(prepare(job, payload, own, index))
    } catch (error) {
      // An asynchronous schema may refuse an earlier one, which then is the first; its rejection must not go unheard.
      await Promise.all(prepared)
      throw error
    }
    const tasks = prepared.every(isReady) ? prepared : await allOf(prepared)
    refuseRepeatedIds(tasks)
    return insertTraced(config, tasks)
  }

  const joining = createJoining(config.database.joinsEnqueues === true, (tasks) => insertTasks(config, tasks))

  return {
    async enqueue(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = await prepare(job, payload, options)
      return config.tracing.enqueue([task], (trace) =>
        joining.insert(trace === undefined ? task : { ...task, trace }),
      )
    },
    enqueueMany,
    enqueueStatement(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = prepare(job, payload, options)
      if (task instanceof Promise) {
        task.catch(() => {})
        throw new IztaError(
          'asynchronous-schema',
          `enqueueStatement cannot wait for the asynchronous payload schema of job "${job.id}": use enqueue, or a synchronous schema.`,
        )
      }
      const traced = { ...task, trace: config.tracing.current() }
      const { text, values } = enqueueOnlyStatement([traced], task.idWasGiven)
      return {
        id: task.id,
        text: bindSchema(text, config.schema),
        values: [...values],
        read: (result) => readStatementResult(task, result),
      }
    },
  }
}

const isReady = (task: Prepared): task is PreparedTask => !(task instanceof Promise)

/** All of them, or the refusal of the first that is wrong. */
async function allOf(prepared: readonly Prepared[]): Promise<PreparedTask[]> {
  const settled = await Promise.allSettled(prepared)
  return settled.map((task) => {
    if (task.status === 'rejected') throw task.reason
    return task.value
  })
}

function readStatementResult(task: NewTask, result: unknown): Enqueued {
  const rows: unknown = Array.isArray(result) ? result : valueAt(result, ['rows'])
  const refused = Array.isArray(rows) && rows.length === 1 ? valueAt(rows[0], ['refused']) : undefined
  if (refused === undefined) {
    throw new OptionError(
      'result',
      `read: expected the one row that the statement returns, as an object; got ${showValue(result)}.`,
    )
  }
  // Applications' drivers parse JSON columns; ours does not.
  const text = typeof refused === 'string' || refused === null ? refused : JSON.stringify(refused)
  const [refusal] = readEnqueueReply([{ refused: text }]).refused
  if (refusal === undefined) return outcomeOf(task)
  if (refusal.id === null) throw contended(task)
  return { id: refusal.id, created: false, status: refusal.status ?? 'pending' }
}
