// Inserts prepared tasks and finds out what became of each: stored, there already, or its key held by another.
import type { ResolvedConfig } from '../config.ts'
import { repeat, runStatement } from '../db/run.ts'
import { IztaError } from '../errors.ts'
import type { TaskStatus } from '../job/task.ts'
import type { NewTask, PreparedTask } from '../job/prepare.ts'
import { enqueueStatement, keyHolderStatement, readEnqueueReply, readKeyHolder } from '../store/enqueue.ts'

/** What became of an enqueue. */
export interface Enqueued {
  /** The task's id; of the unfinished task that holds the key, when `created` is false. */
  readonly id: string
  /** False when a task with this id exists or existed, or its key is held: then nothing was stored. */
  readonly created: boolean
  readonly status: TaskStatus
}

const attempts = 10

/** Inserts the tasks, as one enqueue of a trace, and wakes their runners. */
export async function insertTraced(
  config: ResolvedConfig,
  tasks: readonly PreparedTask[],
): Promise<Enqueued[]> {
  if (tasks.length === 0) return []
  return config.tracing.enqueue(tasks, async (trace) => {
    const sent = trace === undefined ? tasks : tasks.map((task) => ({ ...task, trace }))
    const { enqueued, woken } = await insertTasks(config, sent)
    await woken
    return enqueued
  })
}

/** What has been stored, and the wakes that are still on their way. */
export interface Inserted {
  readonly enqueued: Enqueued[]
  /** Never rejects. */
  readonly woken: Promise<unknown>
}

/** Asks again about keys whose holder committed or ended in that very moment. */
export async function insertTasks(config: ResolvedConfig, tasks: readonly PreparedTask[]): Promise<Inserted> {
  const outcomes = new Map<PreparedTask, Enqueued>()
  let open = tasks
  let laterAt: Date | undefined
  const wake = new Set<string>()
  const sendWakes = () => Promise.all([config.wakes.wake([...wake]), config.wakes.wakeAt(laterAt)])
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
      if (sent === tasks && reply.refused.length === 0) {
        return { enqueued: tasks.map(outcomeOf), woken: sendWakes() }
      }
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
  } catch (error) {
    await sendWakes()
    throw error
  }
  return { enqueued: tasks.map((task) => outcomes.get(task) as Enqueued), woken: sendWakes() }
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
