// Says what became of tasks: events, log lines and the summary of a run.
import type { ResolvedConfig } from '../config.ts'
import { isImplemented } from '../job/job.ts'
import type { ClaimedTask } from '../store/turn.ts'
import { quoted, type Ended } from './outcome.ts'
import type { TurnResult } from './turn.ts'

/** What a run did. */
export interface RunSummary {
  readonly claimed: number
  readonly finished: number
  readonly failed: number
  readonly retried: number
  /** Handed back unharmed, put off because no handler is here included. */
  readonly released: number
  readonly cancelled: number
  /** Ids of tasks whose handlers ignore their signals: the process must end. */
  readonly stuck: readonly string[]
  /** Whether due work may be left. */
  readonly more: boolean
}

type RunCounts = { -readonly [Name in Exclude<keyof RunSummary, 'stuck' | 'more'>]: RunSummary[Name] }

export interface Report {
  readonly counts: RunCounts
  started(task: ClaimedTask): void
  stuck(task: ClaimedTask): void
  claimed(tasks: readonly ClaimedTask[]): void
  turn(result: TurnResult): void
}

const eventFacts = (task: ClaimedTask) => ({
  taskId: task.id,
  job: task.job,
  queue: task.queue,
  attempt: task.attempt + 1,
})

/** As `ctx.log` has them. */
const logFacts = ({ id, job, queue, attempt }: ClaimedTask) => ({
  task: id,
  job,
  queue,
  attempt: attempt + 1,
})

export function createReport({ events, log, logMessages, clock, jobs }: ResolvedConfig): Report {
  const counts: RunCounts = { claimed: 0, finished: 0, failed: 0, retried: 0, released: 0, cancelled: 0 }
  const held = new Map<
    string,
    { readonly task: ClaimedTask; readonly claimedAtMs: number; startedAtMs: number }
  >()

  function settled({ task, outcome, failure }: Ended): void {
    const own = held.get(task.id)
    // Another turn may have claimed it again before the answer of this one came.
    if (own?.task.claims === task.claims) held.delete(task.id)
    const now = clock.now()
    const durationMs = now - (own?.startedAtMs ?? now)
    if (outcome.kind === 'finish') {
      counts.finished++
      if (events.wants('task.finished')) events.emit('task.finished', { ...eventFacts(task), durationMs })
      return
    }
    const facts = eventFacts(task)
    const { code = 'thrown', class: className = '', message = '' } = failure ?? {}
    const failureEvent = { ...facts, durationMs, code, class: className, message }
    const failureFacts = () => {
      const { message: error, ...known } = quoted({ code, class: className, message }, logMessages)
      return { ...logFacts(task), ...known, ...(error === undefined ? {} : { error }) }
    }
    switch (outcome.kind) {
      case 'fail':
      case 'drop':
        counts.failed++
        log.error('task failed', failureFacts())
        return events.emit('task.failed', failureEvent)
      case 'retry':
      case 'retry-after-lease':
        counts.retried++
        log.warn('attempt failed', { ...failureFacts(), retryInMs: outcome.delayMs })
        return events.emit('task.retried', { ...failureEvent, delayMs: outcome.delayMs })
      case 'cancel':
        counts.cancelled++
        return events.emit('task.cancelled', facts)
      case 'release':
        counts.released++
        return events.emit('task.released', facts)
      case 'defer':
        counts.released++
        log.warn(whyDeferred(task), { ...logFacts(task), retryInMs: outcome.delayMs })
        return events.emit('task.deferred', { ...facts, delayMs: outcome.delayMs })
    }
  }

  function whyDeferred(task: ClaimedTask): string {
    const job = jobs.get(task.job)
    return job !== undefined && isImplemented(job)
      ? 'a handler of this task still runs here although its lease is over: the task waits'
      : 'no handler for this job here: the task waits'
  }

  function claimed(tasks: readonly ClaimedTask[]): void {
    counts.claimed += tasks.length
    const now = clock.now()
    const isWanted = events.wants('task.claimed')
    for (const task of tasks) {
      held.set(task.id, { task, claimedAtMs: now, startedAtMs: now })
      if (isWanted) events.emit('task.claimed', { ...eventFacts(task), waitedMs: task.waitedMs })
      if (task.losses === 0) continue
      log.warn('the process that ran a task died', { ...logFacts(task), losses: task.losses })
      events.emit('task.lost', { ...eventFacts(task), losses: task.losses })
    }
  }

  return {
    counts,
    claimed,
    started(task) {
      const now = clock.now()
      const own = held.get(task.id)
      if (own !== undefined) own.startedAtMs = now
      if (!events.wants('task.started')) return
      const waitedMs = task.waitedMs + now - (own?.claimedAtMs ?? now)
      events.emit('task.started', { ...eventFacts(task), waitedMs })
    },
    stuck(task) {
      log.error('a handler ignores its signal: the process must end', logFacts(task))
      events.emit('task.stuck', eventFacts(task))
    },
    turn(result) {
      for (const ended of result.settled) settled(ended)
      for (const id of result.unsettled) {
        const task = held.get(id)?.task
        held.delete(id)
        if (task === undefined) continue
        log.warn('an outcome came after its lease was over: it changed nothing', logFacts(task))
        events.emit('lease.expired', eventFacts(task))
      }
      // Last, since a task may have been settled and claimed again by one call.
      claimed(result.claimed)
      for (const child of result.skipped) {
        log.info('a child was left out: its key is held by an unfinished task, or its id is taken', {
          task: child.id,
          job: child.job,
          key: child.key,
        })
        events.emit('child.skipped', { taskId: child.id, job: child.job, key: child.key })
      }
    },
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
