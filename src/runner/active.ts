// The active tasks of a run: starts their handlers, alone where need be, and abandons those that ignore their signals.
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import type { Job } from '../job/job.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { execute, type Execution } from './attempt.ts'
import type { Capacity } from './capacity.ts'
import type { Deadline } from './deadline.ts'
import { decide, skipOverlap } from './decide.ts'
import { failed, settle, type Ended } from './outcome.ts'
import type { Report } from './report.ts'
import { timeoutFailure, type StopReason } from './stop-reason.ts'

export interface ActiveTasksOptions {
  readonly config: ResolvedConfig
  readonly capacity: Capacity
  readonly deadline: Deadline
  readonly report: Report
  /** The outcome of a task is to be sent. Its handler ran for `durationMs`, 0 if it did not run. */
  readonly onEnded: (ended: Ended, durationMs: number) => void
  /** A handler ignores its signal. */
  readonly onStuck: (task: ClaimedTask) => void
}

export class ActiveTasks {
  readonly #options: ActiveTasksOptions
  /** Handlers at work, by task; without those that were abandoned. */
  readonly #executions = new Map<string, Execution>()
  /** Tasks that ask about an earlier slot before they start. */
  readonly #starting = new Set<string>()
  /** Tasks whose handlers ignored their signals. */
  readonly #abandoned = new Set<string>()
  /** Cancels the grace time of tasks that have exceeded their timeout. */
  readonly #graces = new Map<string, () => void>()
  /** A lost task that waits until it may run alone. */
  #waiting: { readonly task: ClaimedTask; readonly job: Job } | undefined
  /** Set by a lost task: one claim at a time, until one brings a task that was not lost. */
  #isOneByOne = false
  /** Nothing starts any more. */
  #isClosed = false

  constructor(options: ActiveTasksOptions) {
    this.#options = options
  }

  /** Nothing is left to run or to decide; abandoned handlers do not count. */
  get isEmpty(): boolean {
    return this.#executions.size + this.#starting.size === 0 && this.#waiting === undefined
  }

  get hasRunning(): boolean {
    return this.#executions.size > 0
  }

  /** Ids of the tasks whose handlers run. */
  running(): string[] {
    return [...this.#executions.keys()]
  }

  /** Ids of all tasks that the lease may hold for this run. */
  heldIds(): string[] {
    const waiting = this.#waiting === undefined ? [] : [this.#waiting.task.id]
    return [...this.#executions.keys(), ...this.#starting, ...this.#abandoned, ...waiting]
  }

  /** Ids of the tasks whose handlers ignored their signals. */
  abandoned(): string[] {
    return [...this.#abandoned]
  }

  /** How many more tasks may be claimed. */
  free(): number {
    if (this.#isClosed || this.#waiting !== undefined) return 0
    return Math.min(this.#options.capacity.free(), this.#isOneByOne ? 1 : Infinity)
  }

  /** Starts tasks that were claimed, or hands them back. */
  receive(claimed: readonly ClaimedTask[]): void {
    const { config, capacity } = this.#options
    if (claimed.some((task) => task.losses === 0)) this.#isOneByOne = false
    const decided = claimed.map((task) => ({ task, decision: decide(task, config, capacity.running) }))
    const alone = decided.find(({ decision }) => decision.kind === 'run-alone')?.task
    for (const { task, decision } of decided) {
      if (decision.kind === 'settle') this.#end(decision.ended)
      else if (!this.#mayStart() || this.#waiting !== undefined || capacity.free() === 0) {
        this.#handBack(task, decision.job)
      } else if (alone === undefined) this.#start(task, decision.job)
      else if (task === alone) this.#waitToRunAlone(task, decision.job)
      // A lost task that kills the process again must not take this one with it.
      else this.#handBack(task, decision.job)
    }
  }

  /** Starts the task that waits to run alone, if no other task runs. Call it when all outcomes have been settled. */
  startAlone(): void {
    if (this.#waiting === undefined) return
    const { capacity, config, deadline } = this.#options
    const { task, job } = this.#waiting
    const fits = config.clock.now() + job.timeoutSeconds * 1000 <= deadline.stopAtMs
    if (!this.#mayStart() || !fits) return this.#stopWaiting()
    if (!capacity.requestExclusive(task.id)) return
    this.#waiting = undefined
    this.#start(task, job)
  }

  /** Starts nothing more: tasks that have not started are handed back. */
  close(): void {
    this.#isClosed = true
    this.#stopWaiting()
  }

  /** Tells handlers to stop. @param ids default all */
  stop(reason: StopReason, ids: Iterable<string> = this.running()): void {
    for (const id of ids) this.#executions.get(id)?.stop(reason)
  }

  /** Handlers that have not stopped by now keep their leases. */
  abandon(): void {
    for (const execution of this.#executions.values()) this.#abandonOne(execution)
  }

  #mayStart(): boolean {
    const { config, deadline } = this.#options
    return !this.#isClosed && config.clock.now() < deadline.stopAtMs
  }

  #end(ended: Ended, durationMs = 0): void {
    this.#options.onEnded(ended, durationMs)
  }

  #handBack(task: ClaimedTask, job: Job): void {
    this.#end(settle(task, job, 'release'))
  }

  #waitToRunAlone(task: ClaimedTask, job: Job): void {
    this.#isOneByOne = true
    this.#waiting = { task, job }
    this.#options.capacity.requestExclusive(task.id)
  }

  #stopWaiting(): void {
    if (this.#waiting === undefined) return
    const { task, job } = this.#waiting
    this.#waiting = undefined
    this.#options.capacity.release(task.id)
    this.#handBack(task, job)
  }

  #start(task: ClaimedTask, job: Job): void {
    const { capacity, config } = this.#options
    capacity.acquire(task.id)
    if (!task.skipOverlap) return this.#run(task, job)
    this.#starting.add(task.id)
    void skipOverlap(task, job, config).then((skipped) => {
      this.#starting.delete(task.id)
      if (skipped === undefined && this.#mayStart()) return this.#run(task, job)
      capacity.release(task.id)
      return this.#end(skipped ?? settle(task, job, 'release'))
    })
  }

  #run(task: ClaimedTask, job: Job): void {
    const { capacity, config, deadline, report } = this.#options
    report.started(task)
    const onTimeout = (late: Execution) => this.#startGrace(late)
    const execution = execute(task, job, { config, stopAtMs: deadline.stopAtMs, onTimeout })
    this.#executions.set(task.id, execution)
    void execution.ended.then((ended) => {
      this.#cancelGrace(task.id)
      capacity.release(task.id)
      // An abandoned task has its outcome already, or keeps its lease.
      if (this.#executions.delete(task.id)) this.#end(ended, config.clock.now() - execution.startedAtMs)
    })
  }

  #startGrace(execution: Execution): void {
    const { task, job } = execution
    const cancel = this.#options.config.clock.after(defaults.runner.graceSeconds * 1000, () => {
      this.#graces.delete(task.id)
      if (!this.#executions.has(task.id)) return
      this.#abandonOne(execution)
      // The next attempt starts when this process is surely gone: not before its lease has ended.
      this.#end(failed(task, job, timeoutFailure, 'retry-after-lease'))
    })
    this.#graces.set(task.id, cancel)
  }

  #cancelGrace(id: string): void {
    this.#graces.get(id)?.()
    this.#graces.delete(id)
  }

  #abandonOne({ task }: Execution): void {
    this.#executions.delete(task.id)
    this.#abandoned.add(task.id)
    this.#options.report.stuck(task)
    this.#options.onStuck(task)
  }
}
