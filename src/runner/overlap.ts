// `overlap: 'skip'`: a slot's task does not start while one of an earlier slot is unfinished.
import type { ResolvedConfig } from '../config.ts'
import type { Job } from '../job/job.ts'
import { readableMessage } from '../job/json.ts'
import { runStatement } from '../statement.ts'
import { earlierSlotStatement } from '../store/inspect.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { errorBody, settle, type Ended } from './outcome.ts'

/** How the task ends without running; undefined when it may start. Never rejects. */
export async function skipOverlap(
  task: ClaimedTask,
  job: Job,
  config: ResolvedConfig,
): Promise<Ended | undefined> {
  if (task.schedule === undefined || task.slot === undefined) return undefined
  const statement = earlierSlotStatement(task.schedule, task.slot, task.id)
  try {
    const [earlier] = await runStatement(config, statement)
    if (earlier === undefined) return undefined
    const message = `The task of an earlier slot (${earlier['id']}) had not ended when this one was due.`
    const body = errorBody({ code: 'skipped', class: 'OverlapSkipped', message }, 0)
    return settle(task, job, 'cancel', { body })
  } catch (error) {
    config.log.error('could not see whether an earlier slot still runs', {
      task: task.id,
      job: task.job,
      queue: task.queue,
      attempt: task.attempt + 1,
      error: readableMessage(error),
    })
    return settle(task, job, 'release')
  }
}
