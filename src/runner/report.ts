// Tells what became of tasks: events, log lines and the summary of a run.
import type { ResolvedConfig } from '../config.ts'
import { isImplemented } from '../job/job.ts'
import type { ClaimedTask, SkippedChild } from '../store/turn.ts'
import { eventFacts, logFacts } from './facts.ts'
import { quoted, type Ended } from './outcome.ts'
import type { TurnResult } from './turn.ts'

/** The result of a run. */
export interface RunSummary {
  readonly claimed: number
  readonly finished: number
  readonly failed: number
  readonly retried: number
  /** Tasks returned to the queue, including those deferred because no handler is here. */
  readonly released: number
  readonly cancelled: number
  /** Ids of tasks whose handlers ignore their signals. On Lambda the process ends, on a server each takes a place. */
  readonly stuck: readonly string[]
  /** Whether due work may be left. */
  readonly more: boolean
}

type RunCounts = { -readonly [Name in Exclude<keyof RunSummary, 'stuck' | 'more'>]: RunSummary[Name] }

interface Held {
  readonly task: ClaimedTask
  /** On the clock's scale. */
  readonly claimedAtMs: number
  startedAtMs: number
}

export class Report {
  readonly counts: RunCounts = {
    claimed: 0,
    finished: 0,
    failed: 0,
    retried: 0,
    released: 0,
    cancelled: 0,
  }
  readonly #config: ResolvedConfig
  /** Claimed tasks whose settle has not been answered, by id. */
  readonly #held = new Map<string, Held>()

  constructor(config: ResolvedConfig) {
    this.#config = config
  }

  claimed(tasks: readonly ClaimedTask[]): void {
    const { clock, events, log } = this.#config
    this.counts.claimed += tasks.length
    const now = clock.now()
    const isWanted = events.wants('task.claimed')
    for (const task of tasks) {
      this.#held.set(task.id, { task, claimedAtMs: now, startedAtMs: now })
      if (isWanted) events.emit('task.claimed', { ...eventFacts(task), waitedMs: task.waitedMs })
      // A task that was handed back keeps its losses: only the claim that found the loss tells it.
      if (!task.lost) continue
      log.warn('the process that ran a task died', { ...logFacts(task), losses: task.losses })
      events.emit('task.lost', { ...eventFacts(task), losses: task.losses })
    }
  }

  started(task: ClaimedTask): void {
    const { clock, events } = this.#config
    const now = clock.now()
    const held = this.#held.get(task.id)
    if (held !== undefined) held.startedAtMs = now
    if (!events.wants('task.started')) return
    const waitedMs = task.waitedMs + now - (held?.claimedAtMs ?? now)
    events.emit('task.started', { ...eventFacts(task), waitedMs })
  }

  stuck(task: ClaimedTask): void {
    const { events, log } = this.#config
    log.error('a handler ignores its signal: it takes a place of the process until it ends', logFacts(task))
    events.emit('task.stuck', eventFacts(task))
  }

  unstuck(task: ClaimedTask): void {
    this.#config.log.warn('a handler has ended that had ignored its signal', logFacts(task))
  }

  turn(result: TurnResult): void {
    for (const ended of result.settled) this.#settled(ended)
    for (const id of result.unsettled) this.#expired(id)
    // Last, since one call may settle a task and claim it again.
    this.claimed(result.claimed)
    for (const child of result.skipped) this.#skipped(child)
  }

  #settled(ended: Ended): void {
    const { task } = ended
    const held = this.#held.get(task.id)
    // Another turn may have claimed it again before this one was answered.
    if (held?.task.claims === task.claims) this.#held.delete(task.id)
    const now = this.#config.clock.now()
    const durationMs = now - (held?.startedAtMs ?? now)
    if (ended.outcome.kind === 'finish') return this.#finished(task, durationMs)
    return this.#endedOtherwise(ended, durationMs)
  }

  #finished(task: ClaimedTask, durationMs: number): void {
    const { events } = this.#config
    this.counts.finished++
    if (events.wants('task.finished')) events.emit('task.finished', { ...eventFacts(task), durationMs })
  }

  #endedOtherwise({ task, outcome, failure, reason = '' }: Ended, durationMs: number): void {
    const { events, log, logMessages } = this.#config
    const facts = eventFacts(task)
    const { code = 'thrown', class: className = '', message = '' } = failure ?? {}
    const failureEvent = { ...facts, durationMs, code, class: className, message }
    const failureFacts = () => {
      const { message: error, ...known } = quoted({ code, class: className, message }, logMessages)
      return { ...logFacts(task), ...known, ...(error === undefined ? {} : { error }) }
    }
    switch (outcome.kind) {
      case 'finish':
        return
      case 'fail':
      case 'drop':
        this.counts.failed++
        log.error('task failed', failureFacts())
        return events.emit('task.failed', failureEvent)
      case 'retry':
      case 'retry-after-lease':
        this.counts.retried++
        log.warn('attempt failed', { ...failureFacts(), retryInMs: outcome.delayMs })
        return events.emit('task.retried', { ...failureEvent, delayMs: outcome.delayMs })
      case 'cancel':
        this.counts.cancelled++
        return events.emit('task.cancelled', facts)
      case 'release':
        this.counts.released++
        return events.emit('task.released', facts)
      case 'defer':
        this.counts.released++
        log.warn(reason, { ...logFacts(task), retryInMs: outcome.delayMs })
        return events.emit('task.deferred', { ...facts, delayMs: outcome.delayMs })
    }
  }

  #expired(id: string): void {
    const { events, log } = this.#config
    const task = this.#held.get(id)?.task
    this.#held.delete(id)
    if (task === undefined) return
    log.warn('an outcome came after its lease was over: it changed nothing', logFacts(task))
    events.emit('lease.expired', eventFacts(task))
  }

  #skipped({ id, job, key }: SkippedChild): void {
    const { events, log } = this.#config
    log.info('a child was left out: its key is held by an unfinished task, or its id is taken', {
      task: id,
      job,
      key,
    })
    events.emit('child.skipped', { taskId: id, job, key })
  }
}

/** Fine for jobs of other runners; a surprise otherwise. */
export function warnOfMissingHandlers(config: ResolvedConfig): void {
  const missing = [...config.jobs.values()].filter((job) => !isImplemented(job)).map((job) => job.id)
  if (missing.length === 0) return
  config.log.warn('this runner has no handler for some jobs: their tasks wait for one that has', {
    jobs: missing,
  })
}
