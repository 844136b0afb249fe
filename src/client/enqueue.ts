// Enqueues tasks: directly, in bulk, and as a statement for the application's own transaction.
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import type { CallOptions } from '../db/call-end.ts'
import { bindSchema } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { IztaError, OptionError } from '../errors.ts'
import type { EnqueueArguments, EnqueueOptions } from '../job/context.ts'
import type { AnyJob, PayloadInput } from '../job/job.ts'
import { checkOptions, showValue, signalSchema, valueAt } from '../options.ts'
import type { NewTask } from '../job/prepare.ts'
import { enqueueOnlyStatement, readEnqueueReply } from '../store/enqueue.ts'
import { bulkItems, readItem, readItems, type ItemReader } from './items.ts'
import { contended, insertTasks, insertTraced, outcomeOf, type Enqueued } from './insert.ts'
import { GroupCommit } from './group-commit.ts'

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

/** The calls that enqueue; `Answer` is what each task is answered with. */
export interface Enqueuing<Answer = Enqueued, Options = CallOptions> {
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
  enqueue<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J, EnqueueOptions & Options>): Promise<Answer>
  /**
   * Stores many tasks of one job, or of several as `[job, payload, options]`, in one statement: all or nothing.
   * At most 10,000, with payloads of 32 MiB together; the answers have the order of the input. Throws as `enqueue`
   * does, with the `index` of the first task that is wrong.
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
    options?: SharedEnqueueOptions & Options,
  ): Promise<Answer[]>
  enqueueMany<const Jobs extends readonly AnyJob[]>(
    items: readonly [...{ [N in keyof Jobs]: EnqueueItem<Jobs[N]> }],
  ): Promise<Answer[]>
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
  const { jobs, payloadLimitBytes } = config
  const reader: ItemReader = {
    jobs,
    payloadLimitBytes,
    callLimitBytes: defaults.callLimitBytes,
    madeBy: 'createIzta',
  }

  const groupCommit = new GroupCommit(config.database.joinsEnqueues === true, (tasks, insertOptions) =>
    insertTasks(config, tasks, insertOptions),
  )

  return {
    async enqueue(job: AnyJob, payload?: unknown, given?: EnqueueOptions & CallOptions) {
      const { signal, options } = readCallOptions('enqueue', given)
      const task = await readItem(reader, [job, payload, options])
      const limits = signal === undefined ? config.database.limits() : { ...config.database.limits(), signal }
      return config.tracing.enqueue([task], (trace) =>
        groupCommit.insert(trace === undefined ? task : { ...task, trace }, limits),
      )
    },
    async enqueueMany(first: unknown, payloads?: unknown, given?: EnqueueOptions & CallOptions) {
      const { signal, options } = readCallOptions('enqueueMany', given)
      return insertTraced(config, await readItems(reader, bulkItems(first, payloads, options)), { signal })
    },
    enqueueStatement(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = readItem(reader, [job, payload, options])
      if (task instanceof Promise) {
        task.catch(() => {})
        throw new IztaError(
          'asynchronous-schema',
          `enqueueStatement cannot wait for the asynchronous payload schema of job "${job.id}": use enqueue, or a synchronous schema.`,
        )
      }
      const traced = { ...task, trace: config.tracing.current() }
      const { text, values } = enqueueOnlyStatement([traced])
      return {
        id: task.id,
        text: bindSchema(text, config.schema),
        values: [...values],
        read: (result) => readStatementResult(task, result),
      }
    },
  }
}

function readStatementResult(task: NewTask, result: unknown): Enqueued {
  const rows: unknown = Array.isArray(result) ? result : valueAt(result, ['rows'])
  const reply = Array.isArray(rows) && rows.length === 1 ? valueAt(rows[0], ['reply']) : undefined
  if (reply === undefined) {
    throw new OptionError(
      'result',
      `read: expected the one row that the statement returns, as an object; got ${showValue(result)}.`,
    )
  }
  // Applications' drivers parse JSON columns; ours does not.
  const text = typeof reply === 'string' || reply === null ? reply : JSON.stringify(reply)
  const [refusal] = readEnqueueReply([{ reply: text }]).refused
  if (refusal === undefined) return outcomeOf(task)
  if (refusal.id === null) throw contended(task)
  return { id: refusal.id, created: false, status: refusal.status ?? 'pending' }
}

/** The signal of a call, and what is left for its tasks. */
function readCallOptions(what: string, given: (EnqueueOptions & CallOptions) | undefined) {
  if (given?.signal === undefined) return { signal: undefined, options: given }
  const { signal, ...options } = given
  checkOptions(what, z.strictObject({ signal: signalSchema }), { signal })
  return { signal, options }
}
