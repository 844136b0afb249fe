// The loop of one run: decide the next step, take it, wait for a change, until nothing is due or the deadline is near.
// docs/how-it-works.md draws it.
import { randomUUID } from 'node:crypto'
import { createChange, type Change } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../errors.ts'
import { ActiveTasks } from './active.ts'
import { Claims } from './claims.ts'
import { nextStep, type RunState } from './next-step.ts'
import { KeyedLane, Outbox } from './outbox.ts'
import { isUrgent } from './outcome.ts'
import { Pace } from './pace.ts'
import { Report, type RunSummary } from './report.ts'
import type { Run, RunOptions } from './run.ts'
import type { StopReason } from './stop-reason.ts'
import { Turns } from './turn.ts'
import { TurnsInFlight } from './turns-in-flight.ts'

const { graceSeconds, settleSeconds, watchSeconds } = defaults.runner

export function startRun(options: RunOptions): Run {
  return new RunnerLoop(options)
}

class RunnerLoop implements Run {
  readonly done: Promise<RunSummary>
  readonly #options: RunOptions
  readonly #outbox = new Outbox()
  readonly #claims: Claims
  readonly #pace = new Pace()
  readonly #report: Report
  readonly #active: ActiveTasks
  readonly #turns: Turns
  readonly #inFlight: TurnsInFlight
  readonly #keyedLane: KeyedLane
  /** Notified whenever the next step may be another. */
  readonly #change: Change
  /** Aborts when the run ends without waiting for its handlers. */
  readonly #leaving = new AbortController()
  /** Until `drain`, and until the longest timeout no longer fits. */
  #mayClaim = true

  constructor(options: RunOptions) {
    this.#options = options
    const { config, queues, deadline } = options
    const onChange = () => this.#change.notify()
    this.#change = createChange(config.clock)
    this.#claims = new Claims(config.clock)
    this.#report = new Report(config)
    this.#active = this.#createActive()
    this.#turns = new Turns({
      config,
      lease: randomUUID(),
      queues,
      deadline,
      heldIds: () => [...this.#active.heldIds(), ...this.#keyedLane.ids(), ...this.#outbox.ids()],
    })
    this.#inFlight = new TurnsInFlight({
      options,
      active: this.#active,
      claims: this.#claims,
      outbox: this.#outbox,
      report: this.#report,
      turns: this.#turns,
      leaving: this.#leaving.signal,
      isIdle: () => this.#isIdle(),
      onChange,
      stopClaiming: () => this.#stopClaiming(),
    })
    this.#keyedLane = new KeyedLane(this.#outbox, (ended) => this.#inFlight.settleKeyed(ended), onChange)
    this.done = this.#run()
  }

  #createActive(): ActiveTasks {
    const { config, queues, capacity, deadline, onStuck, whenIdle } = this.#options
    return new ActiveTasks({
      config,
      queues,
      capacity,
      deadline,
      report: this.#report,
      onEnded: (ended, durationMs) => {
        const nowMs = config.clock.now()
        if (this.#outbox.add(ended)) this.#pace.ended(nowMs, durationMs, isUrgent(ended))
        this.#change.notify()
      },
      onStuck: (task) => {
        // A frozen process would thaw with the handler in it, so it has to end. A server goes on without the handler.
        if (whenIdle !== 'stay') this.drain()
        onStuck?.(task)
      },
    })
  }

  recheck(): void {
    this.#claims.recheck()
    this.#change.notify()
  }

  drain(): void {
    this.#active.close()
    this.#stopClaiming()
  }

  stopRunning(reason: StopReason): void {
    this.#active.stop(reason)
    this.#change.notify()
  }

  leave(): void {
    this.drain()
    this.#leaving.abort()
  }

  #stopClaiming(): void {
    this.#mayClaim = false
    this.#change.notify()
  }

  async #run(): Promise<RunSummary> {
    const { config, capacity, deadline } = this.#options
    const { clock } = config
    const timers = [
      clock.after(deadline.claimUntilMs - clock.now(), () => this.#stopClaiming()),
      clock.after(deadline.stopAtMs - clock.now(), () => this.stopRunning('deadline')),
      clock.after(deadline.leaveAtMs - clock.now(), () => this.leave()),
      capacity.onChange(() => this.#change.notify()),
    ]
    try {
      await this.#work()
      return await this.#finish()
    } catch (error) {
      await this.#letHandlersStop()
      throw error
    } finally {
      this.#active.abandon()
      for (const cancel of timers) cancel()
    }
  }

  async #work(): Promise<void> {
    while (!this.#leaving.signal.aborted) {
      this.#keyedLane.send()
      this.#inFlight.throwIfFatal()
      if (this.#isSettled() && this.#inFlight.count === 0) this.#active.startWaiting()
      const step = nextStep(this.#state())
      if (step.kind === 'leave') return
      if (step.kind === 'turn') this.#startTurn(step.limit, step.watches)
      else if (step.kind === 'recover') await this.#inFlight.recover()
      else await this.#change.next(step.ms)
    }
  }

  #startTurn(limit: number, watches: boolean): void {
    this.#pace.turnStarted(this.#options.config.clock.now())
    this.#inFlight.start(limit, watches)
  }

  #state(): RunState {
    const { capacity, config, deadline, whenIdle } = this.#options
    const nowMs = config.clock.now()
    const { hasRunning } = this.#active
    return {
      nowMs,
      // By the clock, since timers fire late after the event loop was blocked.
      canClaim: this.#mayClaim && nowMs < deadline.claimUntilMs,
      limit: capacity.limit,
      free: this.#active.free() - this.#inFlight.requested,
      isIdle: this.#isIdle(),
      hasRunning,
      outcomes: this.#outbox.waiting,
      pace: this.#pace.state(),
      turnsInFlight: this.#inFlight.count,
      claimWasLost: this.#turns.claimWasLost,
      hasBacklog: this.#claims.hasBacklog,
      claimAtMs: this.#claims.nextAtMs,
      watchAtMs: hasRunning ? this.#inFlight.watchedAtMs + watchSeconds * 1000 : Infinity,
      isDone: this.#claims.isExhausted && whenIdle !== 'stay',
    }
  }

  #isSettled(): boolean {
    return this.#outbox.isEmpty && this.#keyedLane.isEmpty
  }

  #isIdle(): boolean {
    return this.#active.isEmpty && this.#isSettled()
  }

  async #finish(): Promise<RunSummary> {
    const { config, queues, whenIdle, hops } = this.#options
    const { clock, log, wakes } = config
    // Also past the deadline, when the event loop was blocked: the fence decides whether it is too late.
    const untilMs = clock.now() + settleSeconds * 1000
    this.#active.close()
    while (this.#inFlight.count > 0 || (!this.#isSettled() && clock.now() < untilMs)) {
      this.#keyedLane.send()
      this.#inFlight.throwIfFatal()
      if (this.#outbox.waiting > 0 && this.#inFlight.count === 0) this.#inFlight.start(0, false)
      await this.#change.next(this.#inFlight.count > 0 ? Infinity : untilMs - clock.now())
    }
    this.#active.abandon()
    await this.#turns.releaseUnknown().catch((error: unknown) => {
      log.error('what a lost claim took could not be handed back: its lease runs out', {
        error: readableMessage(error),
      })
    })
    const more = !this.#claims.isExhausted
    if (more && whenIdle === 'leave') await wakes.wakeNext(queues, hops)
    return { ...this.#report.counts, stuck: this.#active.abandoned(), more }
  }

  /** Or a handler of a frozen process would go on when that thaws, next to another run of its task. */
  async #letHandlersStop(): Promise<void> {
    const { config, deadline } = this.#options
    const { clock } = config
    this.drain()
    this.stopRunning('stopping')
    const untilMs = Math.min(deadline.leaveAtMs, clock.now() + graceSeconds * 1000)
    while ((!this.#active.isEmpty || this.#inFlight.count > 0) && clock.now() < untilMs) {
      await this.#change.next(untilMs - clock.now())
    }
  }
}
