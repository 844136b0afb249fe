// The last look of a runner that would leave: for what became due since its last claim, and for the next task of its
// queues, which it waits for when that is due soon.
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/repeat.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../job/json.ts'
import { lingerStatement, readLinger } from '../store/alarms.ts'
import type { Deadline } from './deadline.ts'

const { lastLookMs } = defaults.runner

export interface LingerOptions {
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly deadline: Deadline
  readonly lingerSeconds: number
  /** Ends the waiting. */
  readonly signal: AbortSignal
}

/**
 * Says whether a task is due now, after a pause: an enqueue that saw the wake mark just before an empty claim cleared
 * it has sent no wake. If none is, waits for the next, holding neither a statement nor a lock. One runner a queue does,
 * whoever comes first; the others leave.
 */
export async function linger(
  { database, clock, log }: ResolvedConfig,
  { queues, deadline, lingerSeconds, signal }: LingerOptions,
): Promise<boolean> {
  await pause(clock, lastLookMs, signal)
  const now = clock.now()
  if (signal.aborted || now >= deadline.leaveAtMs) return false
  const withinMs = Math.max(0, Math.min(lingerSeconds * 1000, deadline.claimUntilMs - now - 1))
  try {
    const { rows } = await repeat(database, clock, () => lingerStatement(queues, withinMs), { signal })
    const waitMs = readLinger(rows)
    if (waitMs === undefined) return false
    if (waitMs > 0) await pause(clock, waitMs, signal)
    return !signal.aborted
  } catch (error) {
    log.warn('a runner leaves without a last look for what is due', {
      error: readableMessage(error),
    })
    return false
  }
}
