// The two forms of a bulk enqueue: many payloads of one job, or a list of jobs with their payloads and options.
import { OptionError } from '../errors.ts'
import type { EnqueueOptions } from '../job/context.ts'
import type { AnyJob } from '../job/job.ts'
import { showValue } from '../options.ts'
import type { NewTask } from '../job/prepare.ts'

type BulkItem = readonly [job: AnyJob, payload?: unknown, options?: EnqueueOptions | undefined]

/** Both forms of a bulk enqueue as one list. */
export function bulkItems(
  first: unknown,
  payloads: unknown,
  options: EnqueueOptions | undefined,
): readonly BulkItem[] {
  if (Array.isArray(first)) {
    const stray = first.findIndex((item) => !Array.isArray(item))
    if (stray === -1) return first as BulkItem[]
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

/** Ids that callers gave must differ. */
export function refuseRepeatedIds(tasks: readonly NewTask[]): void {
  const seen = new Map<string, number>()
  for (const [index, { id, idWasGiven }] of tasks.entries()) {
    if (idWasGiven !== true) continue
    const first = seen.get(id)
    if (first !== undefined) {
      throw new OptionError(
        'id',
        `enqueueMany: option "id": ${id} stands at index ${first} already: give each task its own id.`,
        index,
      )
    }
    seen.set(id, index)
  }
}
