// The claimed tasks that a run has in hand: starts their handlers, alone where need be, and gives up those that
// ignore their signals.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { type Job, isImplemented } from '../job/job.ts'
import { earlierSlotStatement } from '../store/inspect.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { execute, timeoutFailure, type Execution, type StopReason } from './attempt.ts'
import type { Places } from './capacity.ts'
import type { Deadline } from './deadline.ts'
import { failed, settle, type Ended, dropped, errorBody } from './outcome.ts'
import type { Report } from './report.ts'
import { readableMessage } from '../errors.ts'

export interface HandOptions {
  readonly config: ResolvedConfig
  readonly places: Places
  readonly deadline: Deadline
  readonly report: Report
  /** A task's outcome is to be sent. */
  readonly onEnded: (ended: Ended) => void
  /** A handler ignores its signal. */
  readonly onStuck: (task: ClaimedTask) => void
}

export interface Hand {
  /** Nothing is left to run or to decide; handlers that were given up do not count. */
  readonly isEmpty: boolean
  readonly hasRunning: boolean
  /** Ids of the tasks whose handlers run. */
  running(): string[]
  /** Ids of all that the lease may hold on this run's behalf. */
  known(): string[]
  /** Ids of the tasks that were given up. */
  stuck(): string[]
  /** How many more tasks may be claimed. */
  free(): number
  /** Starts what was claimed, or hands it back. */
  receive(claimed: readonly ClaimedTask[]): void
  /** Starts the task that waits to run alone, if nobody else runs. Call it when everything ended has been settled. */
  startAlone(): void
  /** Starts nothing any more: what has not started is handed back. */
  close(): void
  stop(reason: StopReason, ids?: readonly string[]): void
  /** Those that have not stopped by now keep their leases. */
  giveUp(): void
}

export function createHand({ config, places, deadline, report, onEnded, onStuck }: HandOptions): Hand {
  const { clock } = config
  const executions = new Map<string, Execution>()
  /** Asked about an earlier slot before they start. */
  const starting = new Set<string>()
  const stuck = new Set<string>()
  /** Of tasks that have exceeded their time. */
  const graces = new Map<string, () => void>()
  const howToRun = { config, stopAtMs: deadline.stopAtMs, onTimeout: startGrace }
  let waiting: { readonly task: ClaimedTask; readonly job: Job } | undefined
  /** After a lost task was met: one claim at a time, until one comes that was not lost. */
  let oneByOne = false
  let closed = false

  const mayStart = () => !closed && clock.now() < deadline.stopAtMs

  function receive(claimed: readonly ClaimedTask[]): void {
    if (claimed.some((task) => task.losses === 0)) oneByOne = false
    const admissions = claimed.map((task) => admit(task, config, places.running))
    const alone = claimed[admissions.findIndex(({ kind }) => kind === 'run-alone')]
    for (const [index, admission] of admissions.entries()) {
      const task = claimed[index] as ClaimedTask
      if (admission.kind === 'settle') {
        onEnded(admission.ended)
      } else if (!mayStart() || waiting !== undefined || places.free() === 0) {
        onEnded(settle(task, admission.job, 'release'))
      } else if (alone === undefined) {
        start(task, admission.job)
      } else if (task === alone) {
        oneByOne = true
        waiting = { task, job: admission.job }
        places.requestAlone(task.id)
      } else {
        // Claimed beside a lost one: must not be held when that takes the process down.
        onEnded(settle(task, admission.job, 'release'))
      }
    }
  }

  function startAlone(): void {
    if (waiting === undefined) return
    const { task, job } = waiting
    if (!mayStart() || clock.now() + job.timeoutSeconds * 1000 > deadline.stopAtMs) return handBack()
    if (!places.requestAlone(task.id)) return
    waiting = undefined
    start(task, job)
  }

  function handBack(): void {
    if (waiting === undefined) return
    const { task, job } = waiting
    waiting = undefined
    places.give(task.id)
    onEnded(settle(task, job, 'release'))
  }

  function start(task: ClaimedTask, job: Job): void {
    places.take(task.id)
    if (!task.skipOverlap) return run(task, job)
    starting.add(task.id)
    void skipOverlap(task, job, config).then((skipped) => {
      starting.delete(task.id)
      if (skipped === undefined && mayStart()) return run(task, job)
      places.give(task.id)
      return onEnded(skipped ?? settle(task, job, 'release'))
    })
  }

  function run(task: ClaimedTask, job: Job): void {
    report.started(task)
    const execution = execute(task, job, howToRun)
    executions.set(task.id, execution)
    void execution.ended.then((ended) => {
      cancelGrace(task.id)
      places.give(task.id)
      // One that was given up has its outcome already, or keeps its lease.
      if (executions.delete(task.id)) onEnded(ended)
    })
  }

  function startGrace(execution: Execution): void {
    const { task, job } = execution
    const cancel = clock.after(defaults.runner.graceSeconds * 1000, () => {
      graces.delete(task.id)
      if (!executions.has(task.id)) return
      giveUpOne(execution)
      // The next attempt starts when this process is surely gone: not before its lease has ended.
      onEnded(failed(task, job, timeoutFailure, 'retry-after-lease'))
    })
    graces.set(task.id, cancel)
  }

  function cancelGrace(id: string): void {
    graces.get(id)?.()
    graces.delete(id)
  }

  function giveUpOne({ task }: Execution): void {
    executions.delete(task.id)
    stuck.add(task.id)
    report.stuck(task)
    onStuck(task)
  }

  return {
    get isEmpty() {
      return executions.size + starting.size === 0 && waiting === undefined
    },
    get hasRunning() {
      return executions.size > 0
    },
    running: () => [...executions.keys()],
    known: () => [
      ...executions.keys(),
      ...starting,
      ...stuck,
      ...(waiting === undefined ? [] : [waiting.task.id]),
    ],
    stuck: () => [...stuck],
    free: () => (closed || waiting !== undefined ? 0 : Math.min(places.free(), oneByOne ? 1 : Infinity)),
    receive,
    startAlone,
    close() {
      closed = true
      handBack()
    },
    stop(reason, ids = [...executions.keys()]) {
      for (const id of ids) executions.get(id)?.stop(reason)
    },
    giveUp() {
      for (const execution of executions.values()) giveUpOne(execution)
    },
  }
}

export type Admission =
  | { readonly kind: 'run'; readonly job: Job }
  /** Its process died before: nothing else may run beside it, lest it takes neighbours with it again. */
  | { readonly kind: 'run-alone'; readonly job: Job }
  | { readonly kind: 'settle'; readonly ended: Ended }

/** `running`: tasks whose handlers work in this process, those of leases that are over included. */
export function admit(task: ClaimedTask, config: ResolvedConfig, running: ReadonlySet<string>): Admission {
  const job = config.jobs.get(task.job)
  if (task.cancel) return { kind: 'settle', ended: settle(task, job, 'cancel') }
  if (task.losses >= (job?.maxLosses ?? defaults.maxLosses)) {
    const message = `The process that ran the task died ${task.losses} times: it may run out of memory, end the process or block it past the deadline.`
    return { kind: 'settle', ended: dropped(task, job, { code: 'lost', class: 'LostError', message }) }
  }
  // Two copies of a handler at once would be worse than waiting for the one that ignores its signal.
  if (running.has(task.id) || job === undefined || !isImplemented(job)) {
    return { kind: 'settle', ended: settle(task, job, 'defer', { delayMs: deferMs(task) }) }
  }
  return { kind: task.losses > 0 ? 'run-alone' : 'run', job }
}

function deferMs(task: ClaimedTask): number {
  const { firstSeconds, maxSeconds } = defaults.unknownJob
  return Math.min(maxSeconds, firstSeconds * 2 ** Math.min(30, task.claims - 1)) * 1000
}

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
