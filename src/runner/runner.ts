// The loop of one lease: take a turn (settle what has ended, claim as many tasks as there are free places), run what
// came, and leave when nothing is due or the deadline is near. docs/how-it-works.md draws it.
import { randomUUID } from 'node:crypto'
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../job/json.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { anyQueue } from '../wake.ts'
import type { Deadline } from './deadline.ts'
import type { StopReason } from './execute.ts'
import { createHand } from './hand.ts'
import { createLooks } from './looks.ts'
import { createOutbox } from './outbox.ts'
import type { Ended } from './outcome.ts'
import type { Places } from './places.ts'
import { createReport, type RunSummary } from './report.ts'
import { createTurns, type TurnResult } from './turns.ts'

const { graceSeconds, settleSeconds, watchSeconds, lastLookMs, maxHops, keyedSettles, troublePauseMs } =
  defaults.runner

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
  /**
   * Rejects when the database refuses for good: nothing is lost then, the leases run out. Whether handlers are still
   * at work is told by `places.running`.
   */
  readonly done: Promise<RunSummary>
  /** Something may be due. */
  look(): void
  /** Claims and starts nothing more, and ends when the running handlers have. */
  drain(): void
  /** Tells every running handler to stop. */
  stopRunning(reason: StopReason): void
  /** Ends without those that have not stopped; they keep their leases. */
  leave(): void
}

export function startRun({ config, queues, places, deadline, whenIdle, hops, onStuck }: RunOptions): Run {
  const { clock, wakes, log } = config
  /** What a sibling or a successor is woken for: other runners may serve some of these queues too. */
  const served = queues.length > 0 ? queues : [anyQueue]
  const outbox = createOutbox()
  const looks = createLooks(clock, whenIdle === 'leave-at-once' ? 0 : lastLookMs)
  const report = createReport(config)
  const leaving = new AbortController()
  /** Parents of keyed children, each in a call of its own. */
  const apart = new Set<string>()
  let claiming = true
  let hasWokenSibling = false
  let watchedAtMs = clock.now()
  let fatal: { readonly error: unknown } | undefined
  let change = Promise.withResolvers<void>()

  const notify = () => change.resolve()
  const hand = createHand({
    config,
    places,
    deadline,
    report,
    onEnded(ended) {
      outbox.add(ended)
      notify()
    },
    onStuck(task) {
      drain()
      onStuck?.(task)
    },
  })
  const turns = createTurns({
    config,
    lease: randomUUID(),
    queues,
    deadline,
    known: () => [...hand.known(), ...apart, ...outbox.ids()],
  })

  function stopClaiming(): void {
    claiming = false
    notify()
  }
  function drain(): void {
    hand.close()
    stopClaiming()
  }
  function leave(): void {
    drain()
    leaving.abort()
  }
  function look(): void {
    looks.again()
    notify()
  }
  function stopRunning(reason: StopReason): void {
    hand.stop(reason)
    notify()
  }

  async function run(): Promise<RunSummary> {
    const timers = [
      clock.after(deadline.claimUntilMs - clock.now(), stopClaiming),
      clock.after(deadline.stopAtMs - clock.now(), () => stopRunning('deadline')),
      clock.after(deadline.leaveAtMs - clock.now(), leave),
      places.onFree(notify),
    ]
    try {
      await work()
      return await finish()
    } catch (error) {
      await letHandlersStop()
      throw error
    } finally {
      hand.giveUp()
      for (const cancel of timers) cancel()
    }
  }

  async function work(): Promise<void> {
    while (!leaving.signal.aborted) {
      settleApart()
      if (fatal !== undefined) throw fatal.error
      if (outbox.isEmpty && apart.size === 0) hand.startAlone()
      const now = clock.now()
      const limit = mayClaim(now) ? hand.free() : 0
      const watchIsDue = now >= watchAtMs()
      if (turns.claimWasLost && limit > 0) {
        await recover()
      } else if (outbox.hasBatch || watchIsDue || (limit > 0 && now >= looks.nextAtMs)) {
        await takeTurn(limit, watchIsDue ? hand.running() : [])
      } else if (isIdle() && (!mayClaim(now) || (looks.exhausted && whenIdle !== 'stay'))) {
        return
      } else {
        await nextChange(Math.min(watchAtMs(), limit > 0 ? looks.nextAtMs : Infinity) - now)
      }
    }
  }

  // After an event loop that was blocked the timers come late: the clock counts.
  const mayClaim = (now: number) => claiming && now < deadline.claimUntilMs
  const isIdle = () => hand.isEmpty && apart.size === 0 && outbox.isEmpty
  const watchAtMs = () => (hand.hasRunning ? watchedAtMs + watchSeconds * 1000 : Infinity)

  async function nextChange(ms: number): Promise<void> {
    const cancel = ms === Infinity ? undefined : clock.after(Math.max(0, ms), notify)
    await change.promise
    change = Promise.withResolvers()
    cancel?.()
  }

  async function takeTurn(limit: number, watch: readonly string[]): Promise<void> {
    const ended = outbox.takeBatch()
    looks.sent()
    try {
      const result = await turns.take({ ended, limit, watch })
      if (watch.length > 0 || !hand.hasRunning) watchedAtMs = clock.now()
      looks.record(result.limit, result.claimed.length)
      outbox.putBack(result.unsent)
      conclude(result)
      if (result.limit >= places.capacity && result.claimed.length >= result.limit) wakeSibling()
    } catch (error) {
      outbox.putBack(ended)
      await survive(error)
    }
  }

  async function recover(): Promise<void> {
    try {
      const recovered = await turns.recover()
      report.claimed(recovered)
      hand.receive(recovered)
    } catch (error) {
      await survive(error)
    }
  }

  function conclude(result: TurnResult): void {
    report.turn(result)
    // What became due by a call that did not claim is still to be found, here or by a successor.
    if (result.limit === 0 && result.settled.some(makesDue)) looks.again()
    hand.stop('cancelled', result.cancel)
    if (result.wake.length > 0) void wakes.wake(result.wake, hops + 1)
    hand.receive(result.claimed)
  }

  /** A backlog is more than one invocation can hold: one more runner, which may wake the next. */
  function wakeSibling(): void {
    if (whenIdle !== 'leave' || hasWokenSibling || hops >= maxHops) return
    hasWokenSibling = true
    void wakes.wake(served, hops + 1)
  }

  function settleApart(): void {
    while (apart.size < keyedSettles) {
      const ended = outbox.takeKeyed()
      if (ended === undefined) return
      apart.add(ended.task.id)
      void settleKeyed(ended).finally(() => {
        apart.delete(ended.task.id)
        notify()
      })
    }
  }

  async function settleKeyed(ended: Ended): Promise<void> {
    try {
      const result = await turns.take({ ended: [ended], limit: 0, watch: [] })
      outbox.putBack(result.unsent)
      conclude(result)
    } catch (error) {
      if (canGoOn(error)) await waitOut(error)
      else fatal = { error }
      outbox.putBack([ended])
    }
  }

  /** An invocation with nothing in hand fails visibly; otherwise what has ended waits until the database is back. */
  async function survive(error: unknown): Promise<void> {
    if (!canGoOn(error)) throw error
    await waitOut(error)
  }

  const canGoOn = (error: unknown) =>
    whenIdle === 'stay' || (isDatabaseError(error) && error.retryable && !isIdle())

  async function waitOut(error: unknown): Promise<void> {
    log.error('a turn failed and is tried again', { error: readableMessage(error) })
    await pause(clock, troublePauseMs, leaving.signal.aborted ? undefined : leaving.signal)
  }

  async function finish(): Promise<RunSummary> {
    // Also past the deadline, after an event loop that was blocked: the fence decides whether it comes too late.
    const untilMs = clock.now() + settleSeconds * 1000
    hand.close()
    while (!(outbox.isEmpty && apart.size === 0) && clock.now() < untilMs) {
      settleApart()
      if (outbox.hasBatch) await takeTurn(0, [])
      else await nextChange(untilMs - clock.now())
    }
    hand.giveUp()
    await turns.releaseUnknown().catch((error: unknown) => {
      log.error('what a lost claim took could not be handed back: its lease runs out', {
        error: readableMessage(error),
      })
    })
    const more = !looks.exhausted
    if (more && whenIdle === 'leave' && hops < maxHops) await wakes.wake(served, hops + 1)
    return { ...report.counts, stuck: hand.stuck(), more }
  }

  /** A handler must not come back to life with a process that was frozen, beside another copy of it. */
  async function letHandlersStop(): Promise<void> {
    drain()
    stopRunning('stopping')
    const untilMs = Math.min(deadline.leaveAtMs, clock.now() + graceSeconds * 1000)
    while (!hand.isEmpty && clock.now() < untilMs) await nextChange(untilMs - clock.now())
  }

  return { done: run(), look, drain, stopRunning, leave }
}

/** Whether settling it has made a task due: itself, or a child. */
function makesDue({ outcome }: Ended): boolean {
  if (outcome.kind === 'finish') return outcome.children.length > 0
  return outcome.kind === 'release' || (outcome.kind === 'retry' && outcome.delayMs === 0)
}
