// The context of a handler. Most handlers ask for little of it, so most of it is made when asked for.
import type { FailOptions, JobContext } from '../job/context.ts'
import type { AnyJob } from '../job/job.ts'
import type { Logger } from '../observe/log.ts'
import type { ClaimedTask } from '../store/turn.ts'

/** The attempt that the handler works on. */
export interface ContextSource {
  readonly task: ClaimedTask
  readonly signal: AbortSignal
  readonly log: Logger
  remainingMs(): number
  fail(error: unknown, options?: FailOptions): never
  enqueue(child: AnyJob, payload?: unknown, options?: object): void
}

export const createContext = (of: ContextSource): JobContext<unknown> => new Context(of)

/** Getters that bind, since handlers take it apart: `run(payload, { signal, enqueue })`. */
class Context implements JobContext<unknown> {
  readonly task: JobContext['task']
  readonly attempt: number
  readonly losses: number
  readonly #of: ContextSource

  constructor(of: ContextSource) {
    this.#of = of
    this.task = taskInfo(of.task)
    this.attempt = of.task.attempt + 1
    this.losses = of.task.losses
  }
  get signal() {
    return this.#of.signal
  }
  get log() {
    return this.#of.log
  }
  get remainingMs() {
    return () => this.#of.remainingMs()
  }
  get fail() {
    return (error: unknown, options?: FailOptions): never => this.#of.fail(error, options)
  }
  get enqueue() {
    return (child: AnyJob, payload?: unknown, options?: object) => this.#of.enqueue(child, payload, options)
  }
}

const taskInfo = (task: ClaimedTask): JobContext['task'] => ({
  id: task.id,
  job: task.job,
  queue: task.queue,
  priority: task.priority,
  key: task.key,
  parent: task.parent,
  schedule: task.schedule,
  slot: task.slot,
  enqueuedAt: task.enqueuedAt,
  dueAt: task.dueAt,
  maxAttempts: task.maxAttempts,
})
