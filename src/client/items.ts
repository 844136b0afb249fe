// Reads the arguments of an enqueue: one reading for the direct client, `izta/remote` and the enqueue function.
import { defaults } from '../defaults.ts'
import { OptionError, PayloadError, UnknownJobError } from '../errors.ts'
import type { EnqueueOptions } from '../job/context.ts'
import { isJob, type AnyJob } from '../job/job.ts'
import { sumUpTo } from '../job/payload-sum.ts'
import { prepareTask, type Prepared, type PreparedTask, type PrepareLimits } from '../job/prepare.ts'
import { showImported, showValue } from '../options.ts'

/** One task of a call, as the caller gave it. */
export type Item = readonly [job: AnyJob, payload?: unknown, options?: EnqueueOptions | undefined]

/** Where the tasks of a call come from, and what it allows. */
export interface ItemReader extends PrepareLimits {
  /** What the payloads of one call may have together. */
  readonly callLimitBytes: number
  readonly jobs: ReadonlyMap<string, AnyJob>
  /** The function that was given the jobs, for messages. */
  readonly madeBy: 'createIzta' | 'createRemoteIzta'
}

/** The task of an item; its options are checked at once, its payload when its schema answers. */
export function readItem(reader: ItemReader, [job, payload, options]: Item, index?: number): Prepared {
  if (!isJob(job)) {
    throw new OptionError('job', `enqueue: expected what defineJob returns; got ${showImported(job)}.`, index)
  }
  if (!reader.jobs.has(job.id)) {
    throw new UnknownJobError(
      job.id,
      `Job "${job.name}" is unknown to this izta: add it to ${reader.madeBy}({ jobs }).`,
      index,
    )
  }
  return prepareTask(job, payload, options, reader, index)
}

/** The tasks of a bulk call in the order of its items, or the refusal of the first that is wrong. */
export async function readItems(reader: ItemReader, items: readonly Item[]): Promise<PreparedTask[]> {
  const excess = tooManyTasks(items.length)
  if (excess !== undefined) throw new OptionError('tasks', `enqueueMany: ${excess}`)
  const prepared: Prepared[] = []
  const add = sumUpTo(reader.callLimitBytes, (bytes) =>
    tooLargeTogether(prepared.length, bytes, reader.callLimitBytes),
  )
  const summing = { ...reader, add }
  try {
    for (const [index, item] of items.entries()) prepared.push(readItem(summing, item, index))
  } catch (error) {
    // An asynchronous schema may refuse an earlier one, which then is the first; its rejection must not go unheard.
    await Promise.all(prepared)
    throw error
  }
  const tasks = prepared.every(isReady) ? prepared : await allOf(prepared)
  const ids = tasks.map(({ id, idWasGiven }) => (idWasGiven ? id : undefined))
  const [repeated] = repeatedIds(ids)
  if (repeated === undefined) return tasks
  throw new OptionError('id', `enqueueMany: ${repeated.message}`, repeated.index)
}

function tooLargeTogether(index: number, bytes: number, limitBytes: number): PayloadError {
  const message = `the payloads up to this one are ${bytes} bytes together, above the limit of ${limitBytes} bytes a call: split the call before it`
  const issue = { index, path: '', code: 'too-large', message }
  return new PayloadError('payloads-too-large', `enqueueMany: ${message}.`, [issue], { index })
}

/** Both forms of a bulk enqueue as one list. */
export function bulkItems(
  first: unknown,
  payloads: unknown,
  options: EnqueueOptions | undefined,
): readonly Item[] {
  if (Array.isArray(first)) {
    const stray = first.findIndex((item) => !Array.isArray(item))
    if (stray === -1) return first as Item[]
    throw new OptionError(
      'tasks',
      `enqueueMany: expected [job, payload, options]; got ${showValue(first[stray])}.`,
      stray,
    )
  }
  if (!Array.isArray(payloads)) {
    throw new OptionError(
      'payloads',
      `enqueueMany: expected an array of payloads; got ${showValue(payloads)}.`,
    )
  }
  const own = (['id', 'key', 'keyUntil'] as const).find((option) => options?.[option] !== undefined)
  if (own !== undefined) {
    throw new OptionError(
      own,
      `enqueueMany: option "${own}" belongs to one task: pass [[job, payload, { ${own} }], …] instead.`,
    )
  }
  return payloads.map((payload: unknown) => [first as AnyJob, payload, options])
}

/** What is wrong with so many tasks in one call; undefined when nothing is. */
export function tooManyTasks(count: number): string | undefined {
  if (count <= defaults.tasksPerCall) return undefined
  return `${count} tasks are above the limit of ${defaults.tasksPerCall} in one call: split them.`
}

/** Ids that callers gave must differ: each that is there already, in the order of the tasks. */
export function repeatedIds(ids: readonly (string | undefined)[]): { index: number; message: string }[] {
  const seen = new Map<string, number>()
  return ids.flatMap((given, index) => {
    const id = given?.toLowerCase()
    if (id === undefined) return []
    const first = seen.get(id)
    if (first === undefined) seen.set(id, index)
    if (first === undefined) return []
    const message = `option "id": ${showValue(given)} is at index ${first} already: give each task an id of its own.`
    return [{ index, message }]
  })
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
