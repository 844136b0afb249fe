// The loop of one lease: take a turn (settle what has ended, claim as many tasks as there are free places), run what
// came, and leave when nothing is due or the deadline is near. docs/how-it-works.md draws it.
import { randomUUID } from 'node:crypto'
import { createChange, pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { createApart, createOutbox } from './outbox.ts'
import type { Deadline } from './deadline.ts'
import type { StopReason } from './attempt.ts'
import { createFloors, createLooks } from './claims.ts'
import { createHand } from './active.ts'
import type { Ended } from './outcome.ts'
import type { Places } from './capacity.ts'
import { createReport, type RunSummary } from './report.ts'
import { wakeNext } from '../wake/successor.ts'
import { createTurns, type TurnResult } from './turn.ts'
import { readableMessage } from '../errors.ts'

const { graceSeconds, settleSeconds, watchSeconds, troublePauseMs, secondTurnPlaces } = defaults.runner

export interface RunOptions {
  readonly config: ResolvedConfig
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly places: Places
  readonly deadline: Deadline
  /**
   * An invocation leaves when a claim comes back empty, and so does a test, which wakes no other runner; a server stays
   * until its term is over.
   */
  readonly whenIdle: 'leave' | 'leave-quietly' | 'stay'
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
  const outbox = createOutbox()
  const looks = createLooks(clock, () => whenIdle !== 'stay' && flights === 1 && isIdle())
  const floors = createFloors(clock)
  const report = createReport(config)
  const leaving = new AbortController()
  const share = Math.ceil(places.capacity / 2)
  let claiming = true
  /** Turns on their way, and the places that their claims may fill. */
  let flights = 0
  let asked = 0
  /** The last claim came back full. */
  let backlog = false
  let hasWokenSibling = false
  let watchedAtMs = clock.now()
  let fatal: { readonly error: unknown } | undefined
  const change = createChange(clock)

  const hand = createHand({
    config,
    places,
    deadline,
    report,
    onEnded(ended) {
      outbox.add(ended)
      change.notify()
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
    known: () => [...hand.known(), ...apart.ids(), ...outbox.ids()],
  })
  const apart = createApart(outbox, change.notify, async (ended) => {
    const result = await turns.take({ ended: [ended], limit: 0, watch: [], floors: [] }).catch(asFailure)
    if ('error' in result) await failTurn(result.error, false)
    else conclude(result)
    return !('error' in result) && result.unsent.length === 0
  })

  function stopClaiming(): void {
    claiming = false
    change.notify()
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
    change.notify()
  }
  function stopRunning(reason: StopReason): void {
    hand.stop(reason)
    change.notify()
  }

  async function run(): Promise<RunSummary> {
    const timers = [
      clock.after(deadline.claimUntilMs - clock.now(), stopClaiming),
      clock.after(deadline.stopAtMs - clock.now(), () => stopRunning('deadline')),
      clock.after(deadline.leaveAtMs - clock.now(), leave),
      places.onFree(change.notify),
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
      apart.send()
      if (fatal !== undefined) throw fatal.error
      if (outbox.isEmpty && apart.isEmpty && flights === 0) hand.startAlone()
      const now = clock.now()
      const limit = mayClaim(now) ? Math.max(0, hand.free() - asked) : 0
      const watchIsDue = now >= watchAtMs()
      const wantsTurn = outbox.hasBatch || watchIsDue || (limit > 0 && now >= looks.nextAtMs)
      if (turns.claimWasLost && limit > 0) {
        if (flights === 0) await recover()
        else await change.next()
      } else if (wantsTurn && (flights === 0 || isWorthASecond(limit))) {
        startTurn(backlog && share >= secondTurnPlaces ? Math.min(limit, share) : limit, watchIsDue)
      } else if (flights > 0) {
        await change.next()
      } else if (isIdle() && (!mayClaim(now) || (looks.exhausted && whenIdle !== 'stay'))) {
        return
      } else {
        await change.next(Math.min(watchAtMs(), limit > 0 ? looks.nextAtMs : Infinity) - now)
      }
    }
  }

  /**
   * While more is due than fits, and handlers are done in less time than a turn takes: the database works on one half
   * of the places while this process works on the other.
   */
  function isWorthASecond(limit: number): boolean {
    return flights === 1 && backlog && Math.min(limit, share) >= Math.max(secondTurnPlaces, share / 2)
  }

  // After an event loop that was blocked the timers come late: the clock counts.
  const mayClaim = (now: number) => claiming && now < deadline.claimUntilMs
  const isIdle = () => hand.isEmpty && apart.isEmpty && outbox.isEmpty
  const watchAtMs = () => (hand.hasRunning ? watchedAtMs + watchSeconds * 1000 : Infinity)

  function startTurn(limit: number, watches: boolean): void {
    flights++
    asked += limit
    void takeTurn(outbox.takeBatch(), limit, watches ? hand.running() : [])
      .catch((error: unknown) => (fatal ??= { error }))
      .finally(() => {
        flights--
        change.notify()
      })
  }

  async function takeTurn(ended: readonly Ended[], limit: number, watch: readonly string[]): Promise<void> {
    const sent = looks.sent()
    const startedAtMs = clock.now()
    const from = floors.forClaim()
    const result = await turns.take({ ended, limit, watch, floors: from }).catch(asFailure)
    asked -= limit
    if ('error' in result) {
      await failTurn(result.error, ended.length === 0)
      return outbox.putBack(ended)
    }
    if (watch.length > 0 || !hand.hasRunning) watchedAtMs = clock.now()
    const { claimed } = result
    // Nothing found above the floors: look from the beginning before believing it.
    if (from.length > 0 && claimed.length === 0) looks.again()
    else looks.record(sent, result.limit, claimed.length)
    if (result.limit > 0) {
      backlog = claimed.length >= result.limit
      floors.record(from, clock.now() - startedAtMs, claimed, backlog)
    }
    outbox.putBack(result.unsent)
    conclude(result)
    if (result.limit >= places.capacity && claimed.length >= result.limit) wakeSibling()
  }

  async function failTurn(error: unknown, carriedNothing: boolean): Promise<void> {
    if (canGoOn(error, carriedNothing && isIdle())) await waitOut(error)
    else fatal ??= { error }
  }

  async function recover(): Promise<void> {
    try {
      const recovered = await turns.recover()
      report.claimed(recovered)
      hand.receive(recovered)
    } catch (error) {
      if (!canGoOn(error, isIdle())) throw error
      await waitOut(error)
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
    if (whenIdle !== 'leave' || hasWokenSibling) return
    hasWokenSibling = true
    void wakeNext(config, queues, hops)
  }

  /** An invocation with nothing in hand fails visibly; otherwise what has ended waits until the database is back. */
  const canGoOn = (error: unknown, hasNothing: boolean) =>
    whenIdle === 'stay' || (!hasNothing && isDatabaseError(error) && error.retryable)

  async function waitOut(error: unknown): Promise<void> {
    log.error('a turn failed and is tried again', { error: readableMessage(error) })
    await pause(clock, troublePauseMs, leaving.signal.aborted ? undefined : leaving.signal)
  }

  async function finish(): Promise<RunSummary> {
    // Also past the deadline, after an event loop that was blocked: the fence decides whether it comes too late.
    const untilMs = clock.now() + settleSeconds * 1000
    hand.close()
    while (flights > 0 || (!(outbox.isEmpty && apart.isEmpty) && clock.now() < untilMs)) {
      apart.send()
      if (fatal !== undefined) throw fatal.error
      if (outbox.hasBatch && flights === 0) startTurn(0, false)
      await change.next(flights > 0 ? Infinity : untilMs - clock.now())
    }
    hand.giveUp()
    await turns.releaseUnknown().catch((error: unknown) => {
      log.error('what a lost claim took could not be handed back: its lease runs out', {
        error: readableMessage(error),
      })
    })
    const more = !looks.exhausted
    if (more && whenIdle === 'leave') await wakeNext(config, queues, hops)
    return { ...report.counts, stuck: hand.stuck(), more }
  }

  /** A handler must not come back to life with a process that was frozen, beside another copy of it. */
  async function letHandlersStop(): Promise<void> {
    drain()
    stopRunning('stopping')
    const untilMs = Math.min(deadline.leaveAtMs, clock.now() + graceSeconds * 1000)
    while ((!hand.isEmpty || flights > 0) && clock.now() < untilMs) await change.next(untilMs - clock.now())
  }

  return { done: run(), look, drain, stopRunning, leave }
}

const asFailure = (error: unknown) => ({ error })

/** Whether settling it has made a task due: itself, or a child. */
function makesDue({ outcome }: Ended): boolean {
  if (outcome.kind === 'finish') return outcome.children.length > 0
  return outcome.kind === 'release' || (outcome.kind === 'retry' && outcome.delayMs === 0)
}
