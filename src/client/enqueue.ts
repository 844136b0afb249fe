// Enqueues tasks: directly, in bulk, and as a statement for the application's own transaction.
import type { ResolvedConfig } from '../config.ts'
import { bindSchema } from '../db/database.ts'
import { repeat } from '../db/repeat.ts'
import { defaults } from '../defaults.ts'
import { IztaError, OptionError, UnknownJobError } from '../errors.ts'
import type { EnqueueArguments, EnqueueOptions } from '../job/context.ts'
import { isJob, type AnyJob, type PayloadInput } from '../job/job.ts'
import type { TaskStatus } from '../job/task.ts'
import { showValue, valueAt } from '../options.ts'
import { prepareTask, type Prepared, type PreparedTask } from '../prepare.ts'
import {
  enqueueOnlyStatement,
  enqueueStatement,
  keyHolderStatement,
  readEnqueueReply,
  readKeyHolder,
  type NewTask,
} from '../store/enqueue.ts'
import { bulkItems, refuseRepeatedIds } from './bulk.ts'
import { runStatement } from '../statement.ts'

/** What became of an enqueue. */
export interface Enqueued {
  /** The task's id; of the unfinished task that holds the key, when `created` is false. */
  readonly id: string
  /** False when a task with this id exists or existed, or its key is held: then nothing was stored. */
  readonly created: boolean
  readonly status: TaskStatus
}

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
    return insertTasks(config, tasks)
  }

  return {
    async enqueue(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = await prepare(job, payload, options)
      const [enqueued] = await insertTasks(config, [task])
      return enqueued as Enqueued
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

const attempts = 10

/** Inserts the tasks, as one enqueue of a trace. */
export async function insertTasks(
  config: ResolvedConfig,
  tasks: readonly PreparedTask[],
): Promise<Enqueued[]> {
  if (tasks.length === 0) return []
  return config.tracing.enqueue(tasks, (trace) =>
    insert(config, trace === undefined ? tasks : tasks.map((task) => ({ ...task, trace }))),
  )
}

/** Asks again about keys whose holder committed or ended in that very moment. */
async function insert(config: ResolvedConfig, tasks: readonly PreparedTask[]): Promise<Enqueued[]> {
  const outcomes = new Map<PreparedTask, Enqueued>()
  let open = tasks
  let laterAt: Date | undefined
  const wake = new Set<string>()
  // A lost call may still run: it can be met as late as in the next round.
  let perhapsMade = false
  try {
    for (let attempt = 1; open.length > 0; attempt++) {
      const sent = open
      // The first copy looks in history as well: it may arrive late, when the task of its repeat has run and ended.
      const { rows, ambiguous } = await repeat(config.database, config.clock, () =>
        enqueueStatement(sent, true),
      )
      perhapsMade ||= ambiguous
      const reply = readEnqueueReply(rows)
      for (const queue of reply.wake) wake.add(queue)
      // Queues of a lost call were marked by it, but nobody was woken.
      if (ambiguous) for (const task of sent) wake.add(task.queue)
      if (reply.laterAt !== undefined && (laterAt === undefined || reply.laterAt < laterAt))
        laterAt = reply.laterAt
      // Nearly always, and often for thousands of tasks.
      if (sent === tasks && reply.refused.length === 0) return tasks.map(outcomeOf)
      const refused = new Map(reply.refused.map((refusal) => [refusal.index, refusal]))
      const made = sent.filter((_, index) => !refused.has(index))
      for (const task of made) outcomes.set(task, outcomeOf(task))
      const keysMade = new Map(made.flatMap((task) => (task.key === undefined ? [] : [[keyOf(task), task]])))
      const unsure: PreparedTask[] = []
      for (const [index, refusal] of refused) {
        const task = sent[index]
        if (task === undefined) continue
        const holder =
          refusal.id === null
            ? await findHolder(config, task, keysMade)
            : { id: refusal.id, status: refusal.status }
        if (holder === undefined) unsure.push(task)
        // The lost call has made it: an id that was made here is in nobody else's hands.
        else if (perhapsMade && holder.id === task.id && !task.idWasGiven) outcomes.set(task, outcomeOf(task))
        else outcomes.set(task, { id: holder.id, created: false, status: holder.status ?? 'pending' })
      }
      if (unsure[0] !== undefined && attempt === attempts) throw contended(unsure[0])
      open = unsure
    }
  } finally {
    await Promise.all([config.wakes.wake([...wake]), config.wakes.wakeAt(laterAt)])
  }
  return tasks.map((task) => outcomes.get(task) as Enqueued)
}

const keyOf = ({ job, key }: NewTask) => `${job} ${key}`

async function findHolder(
  config: ResolvedConfig,
  task: NewTask,
  keysMade: ReadonlyMap<string, NewTask>,
): Promise<{ id: string; status: TaskStatus } | undefined> {
  if (task.key === undefined) return undefined
  // Another item of the same call may have taken the key.
  const sibling = keysMade.get(keyOf(task))
  if (sibling !== undefined) return { id: sibling.id, status: 'pending' }
  return readKeyHolder(await runStatement(config, keyHolderStatement(task.job, task.key)))
}

function outcomeOf(task: NewTask): Enqueued {
  return { id: task.id, created: true, status: 'pending' }
}

function contended({ job, key }: NewTask): IztaError {
  return new IztaError(
    'key-contended',
    `Key "${key}" of job "${job}" changes hands at this very moment: nothing was stored for it, try again.`,
    { retryable: true },
  )
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
