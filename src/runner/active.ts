// The active tasks of a run: starts their handlers, lost ones without others, and abandons those that ignore their
// signals.
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import type { Job } from '../job/job.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { execute, type Execution } from './attempt.ts'
import type { Capacity } from './capacity.ts'
import type { Deadline } from './deadline.ts'
import { decide, skipOverlap, type Decision } from './decide.ts'
import { failed, settle, type Ended } from './outcome.ts'
import type { Report } from './report.ts'
import { timeoutFailure, type StopReason } from './stop-reason.ts'

export interface ActiveTasksOptions {
  readonly config: ResolvedConfig
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly capacity: Capacity
  readonly deadline: Deadline
  readonly report: Report
  /** The outcome of a task is to be sent. Its handler ran for `durationMs`, 0 if it did not run. */
  readonly onEnded: (ended: Ended, durationMs: number) => void
  /** A handler ignores its signal. */
  readonly onStuck: (task: ClaimedTask) => void
}

interface Startable {
  readonly task: ClaimedTask
  readonly job: Job
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
  /** Lost tasks that wait until no other task runs. */
  #waiting: readonly Startable[] = []
  /** Set by a task that runs alone: claims one task at a time, until one comes that need not. */
  #isOneByOne = false
  /** Nothing starts any more. */
  #isClosed = false

  constructor(options: ActiveTasksOptions) {
    this.#options = options
  }

  /** Nothing is left to run or to decide; abandoned handlers do not count. */
  get isEmpty(): boolean {
    return this.#executions.size + this.#starting.size + this.#waiting.length === 0
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
    const waiting = idsOf(this.#waiting)
    return [...this.#executions.keys(), ...this.#starting, ...this.#abandoned, ...waiting]
  }

  /** Ids of the tasks whose handlers ignored their signals. */
  abandoned(): string[] {
    return [...this.#abandoned]
  }

  /** How many more tasks may be claimed. */
  free(): number {
    if (this.#isClosed || this.#waiting.length > 0) return 0
    return Math.min(this.#options.capacity.free(), this.#isOneByOne ? 1 : Infinity)
  }

  /** Starts tasks that were claimed, or hands them back. */
  receive(claimed: readonly ClaimedTask[]): void {
    const { config, capacity, deadline, queues } = this.#options
    const leftMs = deadline.stopAtMs - config.clock.now()
    const circumstances = { config, queues, running: capacity.running, leftMs }
    const decided = claimed.map((task) => ({ task, decision: decide(task, circumstances) }))
    const group = lostGroupOf(decided)
    const kinds = new Set(decided.map(({ decision }) => decision.kind))
    if (kinds.has('run') || kinds.has('run-with-lost')) this.#isOneByOne = false
    if (group?.isAlone === true) this.#isOneByOne = true
    const waiting: Startable[] = []
    for (const { task, decision } of decided) {
      if (decision.kind === 'settle') this.#end(decision.ended)
      else if (!this.#mayStart() || this.#waiting.length > 0 || capacity.free() === 0) {
        this.#handBack(task, decision.job)
      } else if (group === undefined) this.#start(task, decision.job)
      else if (group.tasks.has(task)) waiting.push({ task, job: decision.job })
      // Lost tasks that kill the process again must not take this one with them.
      else this.#handBack(task, decision.job)
    }
    if (waiting.length > 0) this.#waitForOthers(waiting)
  }

  /** Starts the lost tasks that wait, if no other task runs. Call it when all outcomes have been settled. */
  startWaiting(): void {
    if (this.#waiting.length === 0) return
    const { capacity, config, deadline } = this.#options
    const leftMs = this.#mayStart() ? deadline.stopAtMs - config.clock.now() : 0
    this.#stopWaiting(({ job }) => job.timeoutSeconds * 1000 > leftMs)
    const waiting = this.#waiting
    if (waiting.length === 0 || !capacity.requestExclusive(idsOf(waiting))) return
    this.#waiting = []
    for (const { task, job } of waiting) this.#start(task, job)
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

  #waitForOthers(waiting: readonly Startable[]): void {
    this.#waiting = waiting
    this.#options.capacity.requestExclusive(idsOf(waiting))
  }

  /** Hands back the waiting tasks that match. */
  #stopWaiting(matches: (one: Startable) => boolean = () => true): void {
    const stopped = this.#waiting.filter(matches)
    this.#waiting = this.#waiting.filter((one) => !matches(one))
    for (const { task, job } of stopped) {
      this.#options.capacity.release(task.id)
      this.#handBack(task, job)
    }
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
      // An abandoned task has its outcome already, or keeps its lease.
      const isAbandoned = !this.#executions.delete(task.id)
      if (isAbandoned) report.unstuck(task)
      capacity.release(task.id)
      if (!isAbandoned) this.#end(ended, config.clock.now() - execution.startedAtMs)
    })
  }

  #startGrace(execution: Execution): void {
    const { task, job } = execution
    const cancel = this.#options.config.clock.after(defaults.runner.graceSeconds * 1000, () => {
      this.#graces.delete(task.id)
      if (!this.#executions.has(task.id)) return
      this.#abandonOne(execution)
      // The next attempt must not start next to this handler: it waits until the lease has ended, and longer in this process.
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
    this.#options.capacity.abandon(task.id)
    this.#options.onStuck(task)
  }
}

const idsOf = (tasks: readonly Startable[]) => tasks.map(({ task }) => task.id)

/** The lost tasks of a claim that run next, without others: the first one, and all that may run next to it. */
function lostGroupOf(
  decided: readonly { readonly task: ClaimedTask; readonly decision: Decision }[],
): { readonly tasks: ReadonlySet<ClaimedTask>; readonly isAlone: boolean } | undefined {
  const first = decided.find(({ decision: { kind } }) => kind === 'run-alone' || kind === 'run-with-lost')
  if (first === undefined) return undefined
  if (first.decision.kind === 'run-alone') return { tasks: new Set([first.task]), isAlone: true }
  const together = decided.filter(({ decision: { kind } }) => kind === 'run-with-lost')
  return { tasks: new Set(together.map(({ task }) => task)), isAlone: false }
}
