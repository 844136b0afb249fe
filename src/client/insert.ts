// Inserts prepared tasks and finds out what became of each: stored, there already, or its key held by another.
import type { ResolvedConfig } from '../config.ts'
import { whileContended } from '../db/contended.ts'
import type { CallLimits } from '../db/call-end.ts'
import { forOneCall, type GatedDatabase } from '../db/gated.ts'
import { repeat, runStatement } from '../db/run.ts'
import { IztaError } from '../errors.ts'
import type { TaskStatus } from '../job/task.ts'
import type { NewTask, PreparedTask } from '../job/prepare.ts'
import {
  enqueueStatement,
  keyHolderStatement,
  readEnqueueReply,
  readKeyHolder,
  type Refusal,
} from '../store/enqueue.ts'

/** What became of an enqueue. */
export interface Enqueued {
  /** The task's id; of the unfinished task that holds the key, when `created` is false. */
  readonly id: string
  /** False when a task with this id exists or existed, or its key is held: then nothing was stored. */
  readonly created: boolean
  readonly status: TaskStatus
}

export interface InsertOptions extends Partial<CallLimits> {
  /** A lock timeout is thrown at once: the tasks are then sent apart. @default false */
  readonly throwsLockTimeout?: boolean
}

/** Inserts the tasks, as one enqueue of a trace, and wakes their runners. */
export async function insertTraced(
  config: ResolvedConfig,
  tasks: readonly PreparedTask[],
  options: InsertOptions = {},
): Promise<Enqueued[]> {
  if (tasks.length === 0) return []
  return config.tracing.enqueue(tasks, async (trace) => {
    const sent = trace === undefined ? tasks : tasks.map((task) => ({ ...task, trace }))
    const { enqueued, woken } = await insertTasks(config, sent, options)
    await woken
    return enqueued
  })
}

/** What has been stored, and the wakes that are still in flight. */
export interface Inserted {
  readonly enqueued: Enqueued[]
  /** Never rejects. */
  readonly woken: Promise<unknown>
}

/** Asks again about keys whose holder committed or ended in that very moment. */
export async function insertTasks(
  config: ResolvedConfig,
  tasks: readonly PreparedTask[],
  options: InsertOptions = {},
): Promise<Inserted> {
  const insertion = new Insertion(config, tasks, options)
  try {
    await whileContended(
      () => insertion.round(),
      () => contended(insertion.open[0] as NewTask),
    )
  } catch (error) {
    await insertion.sendWakes()
    throw error
  }
  return { enqueued: insertion.outcomes(), woken: insertion.sendWakes() }
}

/** One call's tasks, round by round, until each has its outcome. */
class Insertion {
  readonly #config: ResolvedConfig
  readonly #database: GatedDatabase
  readonly #tasks: readonly PreparedTask[]
  readonly #options: InsertOptions
  readonly #outcomes = new Map<PreparedTask, Enqueued>()
  /** Queues that want a runner now, and when the first later task is due. */
  readonly #wake = new Set<string>()
  #laterAt: Date | undefined
  /** A lost call may still run: it can be met as late as in the next round. */
  #perhapsMade = false
  /** Tasks without an outcome. */
  open: readonly PreparedTask[]

  constructor(config: ResolvedConfig, tasks: readonly PreparedTask[], options: InsertOptions) {
    this.#config = config
    this.#database = forOneCall(config.database, options)
    this.#tasks = tasks
    this.#options = options
    this.open = tasks
  }

  /** Resolves to true when every task has an outcome. */
  async round(): Promise<true | undefined> {
    const sent = this.open
    const build = () => enqueueStatement(sent)
    const { throwsLockTimeout = false } = this.#options
    const { rows, ambiguous } = await repeat(this.#database, this.#config.clock, build, { throwsLockTimeout })
    this.#perhapsMade ||= ambiguous
    const reply = readEnqueueReply(rows)
    for (const queue of reply.wake) this.#wake.add(queue)
    // Queues of a lost call were marked by it, but nobody was woken.
    if (ambiguous) for (const task of sent) this.#wake.add(task.queue)
    if (reply.laterAt !== undefined && !(this.#laterAt !== undefined && this.#laterAt <= reply.laterAt)) {
      this.#laterAt = reply.laterAt
    }
    this.open = reply.refused.length === 0 ? [] : await this.#readRefusals(sent, reply.refused)
    return this.open.length === 0 ? true : undefined
  }

  /** In the order of the tasks; without an entry a task was made. */
  outcomes(): Enqueued[] {
    return this.#tasks.map((task) => this.#outcomes.get(task) ?? outcomeOf(task))
  }

  async sendWakes(): Promise<void> {
    const { wakes } = this.#config
    await Promise.all([wakes.wake([...this.#wake]), wakes.wakeAt(this.#laterAt)])
  }

  /** Notes who holds the keys and ids of refused tasks; returns those whose holder was gone when it was asked for. */
  async #readRefusals(sent: readonly PreparedTask[], refusals: readonly Refusal[]): Promise<PreparedTask[]> {
    const refused = new Set(refusals.map(({ index }) => index))
    const made = sent.filter((_, index) => !refused.has(index))
    const keysMade = new Map(made.flatMap((task) => (task.key === undefined ? [] : [[keyOf(task), task]])))
    const unsure: PreparedTask[] = []
    for (const { index, id, status } of refusals) {
      const task = sent[index]
      if (task === undefined) continue
      const holder = id === null ? await this.#findHolder(task, keysMade) : { id, status }
      if (holder === undefined) unsure.push(task)
      // The lost call has made it: an id that was made here is in nobody else's hands.
      else if (this.#perhapsMade && holder.id === task.id && !task.idWasGiven) continue
      else this.#outcomes.set(task, { id: holder.id, created: false, status: holder.status ?? 'pending' })
    }
    return unsure
  }

  async #findHolder(
    task: NewTask,
    keysMade: ReadonlyMap<string, NewTask>,
  ): Promise<{ id: string; status: TaskStatus } | undefined> {
    if (task.key === undefined) return undefined
    // Another item of the same call may have taken the key.
    const sibling = keysMade.get(keyOf(task))
    if (sibling !== undefined) return { id: sibling.id, status: 'pending' }
    const ask = { database: this.#database, clock: this.#config.clock }
    return readKeyHolder(await runStatement(ask, keyHolderStatement(task.job, task.key)))
  }
}

const keyOf = ({ job, key }: NewTask) => `${job} ${key}`

export function outcomeOf(task: NewTask): Enqueued {
  return { id: task.id, created: true, status: 'pending' }
}

export function contended({ job, key }: NewTask): IztaError {
  return new IztaError(
    'key-contended',
    `Key "${key}" of job "${job}" changes hands at this very moment: nothing was stored for it, try again.`,
    { retryable: true },
  )
}
