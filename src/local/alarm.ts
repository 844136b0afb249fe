// Triggers a runner at the next due instant of its queues, in place of one-shot schedules.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { textArray } from '../store/encode.ts'
import { nextDueStatement, readNextDue } from '../store/due.ts'
import { readableMessage } from '../errors.ts'

export interface Alarm {
  /** Something has changed: asks the database anew when the next task is due. */
  look(): void
  /** Due tasks may be waited for without a pause again, since a runner has claimed some. */
  progress(): void
  stop(): Promise<void>
}

const longestPauseMs = 60_000

export function createAlarm(config: ResolvedConfig, queues: readonly string[], trigger: () => void): Alarm {
  const { clock, log } = config
  const statement = nextDueStatement(textArray(queues))
  let cancel = () => {}
  let looking: Promise<void> | undefined
  let lookAgain = false
  let stopped = false
  /** Before a runner is sent to due tasks that the last one did not get: others hold their rows, or it is stuck. */
  let pauseMs = 0

  async function askAndSet(): Promise<void> {
    do {
      lookAgain = false
      const dueInMs = await ask()
      cancel()
      if (stopped || dueInMs === undefined) continue
      cancel = clock.after(Math.max(dueInMs, pauseMs), trigger)
      if (dueInMs <= 0) pauseMs = Math.min(longestPauseMs, Math.max(1000, pauseMs * 2))
    } while (lookAgain && !stopped)
  }

  async function ask(): Promise<number | undefined> {
    try {
      return readNextDue(await runStatement(config, statement))
    } catch (error) {
      log.warn('it is not known when the next task is due', { error: readableMessage(error) })
      return longestPauseMs
    }
  }

  return {
    look() {
      lookAgain = true
      if (!stopped) looking ??= askAndSet().finally(() => (looking = undefined))
    },
    progress() {
      pauseMs = 0
    },
    async stop() {
      stopped = true
      await looking
      cancel()
    },
  }
}
