// Enqueues tasks: directly, in bulk, and as a statement for the application's own transaction.
import type { ResolvedConfig } from '../config.ts'
import { bindSchema, type Row } from '../db/database.ts'
import { repeat } from '../db/repeat.ts'
import { defaults } from '../defaults.ts'
import { IztaError, OptionError, UnknownJobError } from '../errors.ts'
import type { EnqueueArguments, EnqueueOptions } from '../job/context.ts'
import type { AnyJob, PayloadInput } from '../job/job.ts'
import type { TaskStatus } from '../job/task.ts'
import { prepareTask } from '../prepare.ts'
import {
  enqueueOnlyStatement,
  enqueueStatement,
  keyHolderStatement,
  readEnqueueReply,
  readKeyHolder,
  type NewTask,
  type Refusal,
} from '../store/enqueue.ts'
import { runStatement } from './statement.ts'

/** What became of an enqueue. */
export interface Enqueued {
  /** The task's id; of the unfinished task that holds the key, when `created` is false. */
  readonly id: string
  /** False when a task with this id exists or existed, or its key is held: then nothing was stored. */
  readonly created: boolean
  readonly status: TaskStatus
}

/** One item of a mixed bulk enqueue: job, payload, options. */
export type EnqueueItem<J extends AnyJob = AnyJob> = readonly [
  job: J,
  payload?: PayloadInput<J>,
  options?: EnqueueOptions | undefined,
]

/** A statement to run in the application's own transaction, with whatever driver that has. */
export interface EnqueueStatement {
  /** The task's id, also before the statement has run. */
  readonly id: string
  readonly text: string
  /** One per `$n`; each is text or null. */
  readonly values: (string | null)[]
  /** What the statement did, from the rows it returned (objects, or a result with `rows`). */
  read(result: readonly unknown[] | { readonly rows: readonly unknown[] }): Enqueued
}

export interface Enqueuing {
  /**
   * Stores a task and wakes a runner of its queue.
   *
   * @throws {PayloadError} the schema refuses the payload, it is not JSON, or it is too large; nothing was sent.
   * @throws {OptionError} an option is unknown or out of its range.
   * @throws {DatabaseError} the database refuses or cannot be reached, also after several tries.
   */
  enqueue<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J>): Promise<Enqueued>
  /**
   * Stores many tasks of one job, or of several as `[job, payload, options]`, in one statement: all or nothing.
   * At most 10,000; the answers stand in the order of the input.
   */
  enqueueMany<J extends AnyJob>(
    job: J,
    payloads: readonly PayloadInput<J>[],
    options?: Omit<EnqueueOptions, 'id' | 'key' | 'keyUntil'>,
  ): Promise<Enqueued[]>
  enqueueMany<const Jobs extends readonly AnyJob[]>(
    items: readonly [...{ [N in keyof Jobs]: EnqueueItem<Jobs[N]> }],
  ): Promise<Enqueued[]>
  enqueueMany(items: readonly EnqueueItem[]): Promise<Enqueued[]>
  /**
   * The enqueue as a statement for a transaction of the application: the task exists if that commits. No runner is
   * woken: call `izta.wake(queue)` after the commit, or leave it to the next tick. The payload's schema must answer
   * at once.
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
  function prepare(job: AnyJob, payload: unknown, options: EnqueueOptions | undefined, index?: number) {
    const known = config.jobs.get(job?.id)
    if (known === undefined) {
      throw new UnknownJobError(
        String(job?.id),
        `Job "${String(job?.id)}" is not among this izta's jobs: add it to createIzta({ jobs }).`,
      )
    }
    return prepareTask(job, payload, options, config, index)
  }

  async function enqueueMany(
    first: AnyJob | readonly EnqueueItem[],
    payloads: readonly unknown[] = [],
    options?: EnqueueOptions,
  ): Promise<Enqueued[]> {
    const items: readonly EnqueueItem[] = Array.isArray(first)
      ? (first as readonly EnqueueItem[])
      : payloads.map((payload): EnqueueItem => [first as AnyJob, payload as never, options])
    if (items.length > defaults.tasksPerCall) {
      throw new OptionError(
        'tasks',
        `enqueueMany: ${items.length} tasks are above the limit of ${defaults.tasksPerCall} a call: split them.`,
      )
    }
    const prepared = items.map(([job, payload, itemOptions], index) => prepare(job, payload, itemOptions, index))
    const tasks = await Promise.all(prepared)
    refuseRepeatedIds(tasks)
    return insertTasks(config, tasks, items.some(([, , itemOptions]) => itemOptions?.id !== undefined))
  }

  return {
    async enqueue(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = await prepare(job, payload, options)
      const [enqueued] = await insertTasks(config, [task], options?.id !== undefined)
      return enqueued as Enqueued
    },
    enqueueMany: enqueueMany as Enqueuing['enqueueMany'],
    enqueueStatement(job: AnyJob, payload?: unknown, options?: EnqueueOptions) {
      const task = prepare(job, payload, options)
      if (task instanceof Promise) {
        task.catch(() => {})
        throw new IztaError(
          'asynchronous-schema',
          `enqueueStatement cannot wait for the asynchronous payload schema of job "${job.id}": use enqueue, or a synchronous schema.`,
        )
      }
      const { text, values } = enqueueOnlyStatement([task], options?.id !== undefined)
      return {
        id: task.id,
        text: bindSchema(text, config.schema),
        values: [...values],
        read(result) {
          const rows = ('rows' in result ? result.rows : result) as Row[]
          return outcomeOf(task, readEnqueueReply(rows.map(jsonAsText)).refused[0])
        },
      }
    },
  }
}

const attempts = 10

/** Inserts, and asks again about keys whose holder committed or ended in that very moment. */
export async function insertTasks(
  config: ResolvedConfig,
  tasks: readonly NewTask[],
  idsWereGiven: boolean,
): Promise<Enqueued[]> {
  const outcomes = new Map<string, Enqueued>()
  let open = tasks
  let laterAt: Date | undefined
  const wake = new Set<string>()
  for (let attempt = 1; open.length > 0; attempt++) {
    const sent = open
    // oxlint-disable no-await-in-loop -- each try follows from the one before
    const { rows, ambiguous } = await repeat(config.database, config.clock, (isRepeat) =>
      enqueueStatement(sent, idsWereGiven || isRepeat),
    )
    const reply = readEnqueueReply(rows)
    for (const queue of reply.wake) wake.add(queue)
    if (reply.laterAt !== undefined && (laterAt === undefined || reply.laterAt < laterAt)) laterAt = reply.laterAt
    const refused = new Map(reply.refused.map((refusal) => [refusal.index, refusal]))
    const unknown: NewTask[] = []
    for (const [index, task] of sent.entries()) {
      const refusal = refused.get(index)
      const holder = refusal?.id === null ? await findHolder(config, task, sent, outcomes) : refusal
      if (refusal !== undefined && holder === undefined) unknown.push(task)
      // The lost call may have made it: its own id is no stranger.
      else if (ambiguous && holder?.id === task.id && !idsWereGiven) outcomes.set(task.id, created(task))
      else outcomes.set(task.id, outcomeOf(task, holder))
    }
    // Queues of a lost call were marked by it, but nobody was woken.
    if (ambiguous) for (const task of sent) wake.add(task.queue)
    open = unknown
    if (unknown.length > 0 && attempt === attempts) {
      const [task] = unknown
      throw new IztaError(
        'key-contended',
        `Key "${task?.key}" of job "${task?.job}" changed hands ${attempts} times during one enqueue: try again.`,
        { retryable: true },
      )
    }
  }
  await Promise.all([config.wakes.wake([...wake]), config.wakes.wakeAt(laterAt)])
  return tasks.map((task) => outcomes.get(task.id) as Enqueued)
}

async function findHolder(
  config: ResolvedConfig,
  task: NewTask,
  sent: readonly NewTask[],
  outcomes: ReadonlyMap<string, Enqueued>,
): Promise<Pick<Refusal, 'id' | 'status'> | undefined> {
  if (task.key === undefined) return undefined
  // An earlier item of the same call may have taken the key.
  const earlier = sent.find((other) => other.key === task.key && other.job === task.job && outcomes.get(other.id)?.created)
  if (earlier !== undefined) return { id: earlier.id, status: 'pending' }
  return readKeyHolder(await runStatement(config, keyHolderStatement(task.job, task.key)))
}

const created = (task: NewTask): Enqueued => ({ id: task.id, created: true, status: 'pending' })

function outcomeOf(task: NewTask, refusal: Pick<Refusal, 'id' | 'status'> | undefined): Enqueued {
  if (refusal === undefined) return created(task)
  return { id: refusal.id ?? task.id, created: false, status: refusal.status ?? 'pending' }
}

function refuseRepeatedIds(tasks: readonly NewTask[]): void {
  const seen = new Map<string, number>()
  for (const [index, { id }] of tasks.entries()) {
    const first = seen.get(id)
    if (first !== undefined) {
      throw new OptionError('id', `option "id": ${id} stands at index ${first} already: give each task its own id.`, index)
    }
    seen.set(id, index)
  }
}

/** Applications' drivers parse JSON columns; ours does not. */
function jsonAsText(row: Row): Row {
  const { refused } = row as Record<string, unknown>
  return { refused: typeof refused === 'object' && refused !== null ? JSON.stringify(refused) : (refused as string | null) }
}
