// The loop of one lease: take a turn (settle what has ended, claim as many tasks as there are free places), run what
// came, and leave when nothing is due or the deadline is near. docs/how-it-works.md draws it.
import { randomUUID } from 'node:crypto'
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import type { Job } from '../job/job.ts'
import { readableMessage } from '../job/json.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { anyQueue } from '../wake.ts'
import { admit } from './admit.ts'
import { leaseMs, type Deadline } from './deadline.ts'
import { execute, failed, settle, timeoutFailure, type Ended, type Execution, type StopReason } from './execute.ts'
import { createLooks } from './looks.ts'
import { createOutbox } from './outbox.ts'
import { skipOverlap } from './overlap.ts'
import type { Places } from './places.ts'
import { createReport, type RunSummary } from './report.ts'
import { createTurns } from './turns.ts'

const { graceSeconds, watchSeconds, lastLookMs, maxHops, keyedSettles, troublePauseMs } = defaults.runner

export interface RunOptions {
  readonly config: ResolvedConfig
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly places: Places
  readonly deadline: Deadline
  /**
   * An invocation leaves when nothing is due, after a pause and one more look; a server stays until its term is over;
   * a test, whose enqueues are its own, leaves at once.
   */
  readonly whenIdle: 'leave' | 'leave-at-once' | 'stay'
  /** How many runners have started each other before this one. */
  readonly hops: number
  readonly onStuck?: (task: ClaimedTask) => void
}

/** A run that can be steered from outside. */
export interface Run {
  /** Rejects when the database refuses for good; nothing is lost then, the leases run out. */
  readonly done: Promise<RunSummary>
  /** Something may be due. */
  look(): void
  /** Claims nothing more and ends when the running handlers have. */
  drain(): void
  /** Tells every running handler to stop. */
  stopRunning(reason: StopReason): void
  /** Ends without those that have not stopped. */
  leave(): void
}

export function startRun({ config, queues, places, deadline, whenIdle, hops, onStuck }: RunOptions): Run {
  const { clock, wakes, log } = config
  const outbox = createOutbox()
  const looks = createLooks(clock, whenIdle === 'leave-at-once' ? 0 : lastLookMs)
  const report = createReport(config)
  const executions = new Map<string, Execution>()
  const stuck = new Set<string>()
  /** Tasks in a call of their own, or asked about before they start. */
  const apart = new Set<string>()
  let suspect: { task: ClaimedTask; job: Job } | undefined
  /** After a lost task was met: one claim at a time, until one comes that was not lost. */
  let oneByOne = false
  let draining = false
  let leaving = false
  let wokeSibling = false
  let watchedAtMs = clock.now()
  let change = Promise.withResolvers<void>()

  const turns = createTurns({
    config,
    lease: randomUUID(),
    queues,
    deadline,
    known: () => [...executions.keys(), ...stuck, ...apart, ...outbox.ids(), ...(suspect ? [suspect.task.id] : [])],
  })

  const notify = () => change.resolve()
  const end = (ended: Ended) => {
    outbox.add(ended)
    notify()
  }
  const drain = () => {
    draining = true
    notify()
  }
  const leave = () => {
    draining = true
    leaving = true
    notify()
  }
  const look = () => {
    looks.again()
    notify()
  }
  const stopRunning = (reason: StopReason) => {
    for (const execution of executions.values()) execution.stop(reason)
  }

  async function run(): Promise<RunSummary> {
    const endings = [
      places.onFree(notify),
      clock.after(deadline.claimUntilMs - clock.now(), drain),
      clock.after(deadline.stopAtMs - clock.now(), () => stopRunning('deadline')),
      clock.after(deadline.leaveAtMs - clock.now(), leave),
    ]
    try {
      // oxlint-disable no-await-in-loop -- one turn follows the other
      while (!leaving) {
        if (suspect !== undefined) startOrReleaseSuspect(suspect)
        settleApart()
        const limit = freePlaces()
        const now = clock.now()
        const watchIsDue = executions.size > 0 && now >= watchedAtMs + watchSeconds * 1000
        if (outbox.hasBatch || watchIsDue || (limit > 0 && now >= looks.nextAtMs)) {
          await takeTurn(limit, watchIsDue ? [...executions.keys()] : [])
        } else if (isIdle() && (draining || (looks.exhausted && whenIdle !== 'stay'))) {
          break
        } else {
          await nextChange(Math.min(watchAtMs(), limit > 0 ? looks.nextAtMs : Infinity) - now)
        }
      }
      return await finish()
    } finally {
      for (const cancel of endings) cancel()
    }
  }

  const isIdle = () => executions.size + apart.size === 0 && suspect === undefined && outbox.isEmpty
  const freePlaces = () => (draining || suspect ? 0 : Math.min(places.free(), oneByOne ? 1 : Infinity))
  const watchAtMs = () => (executions.size > 0 ? watchedAtMs + watchSeconds * 1000 : Infinity)

  async function nextChange(ms: number): Promise<void> {
    const cancel = ms === Infinity ? undefined : clock.after(Math.max(0, ms), notify)
    await change.promise
    change = Promise.withResolvers()
    cancel?.()
  }

  async function takeTurn(limit: number, watch: readonly string[]): Promise<void> {
    const ended = outbox.takeBatch()
    try {
      const result = await turns.take({ ended, limit, watch })
      if (watch.length > 0) watchedAtMs = clock.now()
      looks.record(limit, result.claimed.length)
      report.turn(result)
      for (const id of result.cancel) executions.get(id)?.stop('cancelled')
      if (result.wake.length > 0) void wakes.wake(result.wake, hops + 1)
      receive(result.claimed)
      if (limit > 0 && result.claimed.length === limit) wakeSibling(limit)
    } catch (error) {
      outbox.putBack(ended)
      await survive(error)
    }
  }

  /** A backlog is more than one invocation can hold: one more runner, which may wake the next. */
  function wakeSibling(limit: number): void {
    if (whenIdle !== 'leave' || wokeSibling || limit < places.capacity || hops >= maxHops) return
    wokeSibling = true
    void wakes.wake([queues[0] ?? anyQueue], hops + 1)
  }

  function receive(claimed: readonly ClaimedTask[]): void {
    if (claimed.some((task) => task.losses === 0)) oneByOne = false
    for (const task of claimed) {
      const admission = admit(task, config, places.running)
      if (admission.kind === 'settle') {
        outbox.add(admission.ended)
      } else if (draining || places.running.size >= places.capacity) {
        // Only what a lost answer had claimed comes beyond the free places.
        outbox.add(settle(task, admission.job, 'release'))
      } else if (admission.kind === 'run') {
        start(task, admission.job)
      } else {
        oneByOne = true
        if (suspect === undefined) suspect = { task, job: admission.job }
        else outbox.add(settle(task, admission.job, 'release'))
      }
    }
  }

  /** The others that were lost with it are handed back first, so that its next death is its own. */
  function startOrReleaseSuspect({ task, job }: { task: ClaimedTask; job: Job }): void {
    if (clock.now() + job.timeoutSeconds * 1000 > deadline.stopAtMs) {
      suspect = undefined
      places.give(task.id)
      outbox.add(settle(task, job, 'release'))
    } else if (places.requestAlone(task.id) && outbox.isEmpty && apart.size === 0) {
      suspect = undefined
      start(task, job)
    }
  }

  function start(task: ClaimedTask, job: Job): void {
    places.take(task.id)
    if (task.skipOverlap && task.schedule !== undefined && task.slot !== undefined) {
      apart.add(task.id)
      void skipOverlap(task, job, config).then((skipped) => {
        apart.delete(task.id)
        if (skipped === undefined && clock.now() < deadline.stopAtMs) return runHandler(task, job)
        places.give(task.id)
        return end(skipped ?? settle(task, job, 'release'))
      })
    } else {
      runHandler(task, job)
    }
  }

  function runHandler(task: ClaimedTask, job: Job): void {
    report.started(task)
    const execution = execute(task, job, { ...config, stopAtMs: deadline.stopAtMs })
    executions.set(task.id, execution)
    const cancelGrace = clock.after((job.timeoutSeconds + graceSeconds) * 1000, () => giveUp(execution))
    void execution.ended.then((ended) => {
      cancelGrace()
      places.give(task.id)
      // A verdict of "stuck" has been settled already, and nobody waits after leaving.
      if (executions.delete(task.id)) end(ended)
    })
  }

  /** The next attempt starts when this process is surely gone: not before its lease has ended. */
  function giveUp({ task, job }: Execution): void {
    executions.delete(task.id)
    stuck.add(task.id)
    report.stuck(task)
    outbox.add(failed(task, job, timeoutFailure, leaseMs(clock, deadline)))
    drain()
    onStuck?.(task)
  }

  function settleApart(): void {
    while (apart.size < keyedSettles) {
      const ended = outbox.takeKeyed()
      if (ended === undefined) return
      const { id } = ended.task
      apart.add(id)
      void turns
        .take({ ended: [ended], limit: 0, watch: [] })
        .then((result) => {
          report.turn(result)
          receive(result.claimed)
          looks.again()
          if (result.wake.length > 0) void wakes.wake(result.wake, hops + 1)
        })
        .catch(async (error: unknown) => {
          log.error('a settle failed and is tried again', { taskId: id, error: readableMessage(error) })
          await pause(clock, troublePauseMs)
          outbox.putBack([ended])
        })
        .finally(() => {
          apart.delete(id)
          notify()
        })
    }
  }

  /** An invocation with nothing in hand fails visibly; otherwise what has ended waits until the database is back. */
  async function survive(error: unknown): Promise<void> {
    const retryable = isDatabaseError(error) && error.retryable
    if (whenIdle !== 'stay' && (!retryable || isIdle())) {
      stopRunning('stopping')
      throw error
    }
    log.error('a turn failed and is tried again', { error: readableMessage(error) })
    await nextChange(troublePauseMs)
  }

  async function finish(): Promise<RunSummary> {
    const left = [...executions.keys()]
    if (!outbox.isEmpty) await takeTurn(0, [])
    await turns.releaseUnknown()
    const more = !looks.exhausted
    if (more && whenIdle === 'leave' && hops < maxHops) await wakes.wake([queues[0] ?? anyQueue], hops + 1)
    return { ...report.counts, stuck: [...stuck, ...left], more }
  }

  return { done: run(), look, drain, stopRunning, leave }
}
