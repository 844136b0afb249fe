// The facts of a task that log lines and events carry.
import type { ClaimedTask } from '../store/turn.ts'

/** For log lines. */
export const logFacts = ({ id, job, queue, attempt }: ClaimedTask) => ({
  task: id,
  job,
  queue,
  attempt: attempt + 1,
})

/** For events. */
export const eventFacts = ({ id, job, queue, attempt }: ClaimedTask) => ({
  taskId: id,
  job,
  queue,
  attempt: attempt + 1,
})
