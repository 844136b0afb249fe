// One tick: everything that must happen now and then, as a list of named steps, each safe to repeat.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../errors.ts'
import { readWaiting, wakeDueStatement } from '../store/queues.ts'
import { planSchedules } from './plan.ts'
import { pruneHistory } from './prune.ts'
import { logLeftOut, registerQueues, syncDefinitions } from './sync.ts'

/** What a tick did. */
export interface TickSummary {
  /** Tasks made of slots. */
  readonly made: number
  /** Queues that got a runner. */
  readonly woken: readonly string[]
  /** History rows whose time was over. */
  readonly pruned: number
}

/** How a tick differs from host to host. */
export interface TickOptions {
  /** Queues whose next task is due within these seconds get a runner, which waits for it. @default 0 */
  readonly aheadSeconds?: number | undefined
  /** How many functions have started each other before this tick. @default none: the clock started it */
  readonly hops?: number | undefined
}

const syncedAtMs = new WeakMap<ResolvedConfig, number>()

/**
 * One tick of the scheduler. Any number of them may run at once, anywhere: a slot makes one task all the same.
 * The steps are independent; the first failure is thrown after all have been tried.
 */
export async function tick(
  config: ResolvedConfig,
  { aheadSeconds = 0, hops }: TickOptions = {},
): Promise<TickSummary> {
  const startedAtMs = config.clock.now()
  let made = 0
  let waiting: ReturnType<typeof readWaiting> = []
  let woken: readonly string[] = []
  let pruned = 0
  const steps: Record<string, () => Promise<void>> = {
    'sync definitions': async () => {
      // Again now and then: another process, such as one of an older deployment, may have undone it.
      const now = config.clock.now()
      if (now - (syncedAtMs.get(config) ?? -Infinity) < defaults.schedule.syncSeconds * 1000) return
      const { leftOut = [] } = (await syncDefinitions(config)) ?? {}
      logLeftOut(config, leftOut)
      // While a newer deployment holds the schedules, each tick looks whether it is gone.
      if (leftOut.every(({ reason }) => reason === 'name-taken')) syncedAtMs.set(config, now)
    },
    // Each time: statements inside applications' transactions use queues without a word to anybody.
    'find queues': () => registerQueues(config),
    'make tasks of slots': async () => {
      made = await planSchedules(config)
    },
    'wake queues with due tasks': async () => {
      waiting = readWaiting(await runStatement(config, wakeDueStatement(aheadSeconds)))
      woken = waiting.filter(({ wake }) => wake).map(({ queue }) => queue)
      if (hops === undefined) await config.wakes.wake(woken)
      else if (woken.length > 0) await config.wakes.wakeNext(woken, hops)
    },
    'prune the history': async () => {
      pruned = await pruneHistory(config, defaults.prune.tickSeconds)
    },
  }
  const failures: unknown[] = []
  for (const [step, action] of Object.entries(steps)) {
    try {
      await action()
    } catch (error) {
      config.log.error('a step of the tick failed', { step, error: readableMessage(error) })
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
  const queues = waiting
    .filter(({ due }) => due > 0)
    .map(({ queue, paused, due, oldestDueMs }) => ({ queue, paused, due, oldestDueMs }))
  config.events.emit('tick.completed', { durationMs: config.clock.now() - startedAtMs, queues })
  return { made, woken, pruned }
}
