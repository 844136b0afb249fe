// Waits for the next task of the runner's queues when it is due soon, so that it starts on time without a trigger.
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/repeat.ts'
import { readableMessage } from '../job/json.ts'
import { lingerStatement, readLinger } from '../store/alarms.ts'
import type { Deadline } from './deadline.ts'

export interface LingerOptions {
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly deadline: Deadline
  readonly lingerSeconds: number
  /** Ends the waiting. */
  readonly signal: AbortSignal
}

/**
 * Waits, holding neither a statement nor a lock, and says whether a task is due now. One runner a queue waits, whoever
 * comes first; the others leave.
 */
export async function linger(
  { database, clock, log }: ResolvedConfig,
  { queues, deadline, lingerSeconds, signal }: LingerOptions,
): Promise<boolean> {
  const withinMs = Math.min(lingerSeconds * 1000, deadline.claimUntilMs - clock.now() - 1)
  if (withinMs < 1 || signal.aborted) return false
  try {
    const { rows } = await repeat(database, clock, () => lingerStatement(queues, withinMs), { signal })
    const waitMs = readLinger(rows)
    if (waitMs === undefined) return false
    await pause(clock, waitMs, signal)
    return !signal.aborted
  } catch (error) {
    log.warn('a runner leaves without having looked for tasks that are due soon', {
      error: readableMessage(error),
    })
    return false
  }
}
