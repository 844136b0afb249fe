// The last look of a runner that would leave: for what became due since its last claim, and for the next task of its
// queues, which it waits for when that is due soon.
import { pause } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { repeat } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { lastLookStatement, readLastLook } from '../store/due.ts'
import type { Deadline } from './deadline.ts'
import { readableMessage } from '../errors.ts'

const { lastLookMs } = defaults.runner

export interface LastLookOptions {
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly deadline: Deadline
  readonly lingerSeconds: number
  /** Ends the waiting. */
  readonly signal: AbortSignal
}

/** Whether to claim again: a task is due, none is, or nobody could tell. */
export type LastLook = 'due' | 'nothing' | 'unknown'

/**
 * Looks after a pause, since an enqueue that saw the wake mark just before an empty claim cleared it has sent no wake.
 * If nothing is due, waits for the next task, holding neither a statement nor a lock. One runner a queue does, whoever
 * comes first; the others leave.
 */
export async function lastLook(
  { database, clock, log }: ResolvedConfig,
  { queues, deadline, lingerSeconds, signal }: LastLookOptions,
): Promise<LastLook> {
  await pause(clock, lastLookMs, signal)
  const leftMs = deadline.claimUntilMs - clock.now()
  if (signal.aborted || leftMs < 1) return 'unknown'
  const withinMs = Math.min(lingerSeconds * 1000, leftMs - 1)
  try {
    const { rows } = await repeat(database, clock, () => lastLookStatement(queues, withinMs), {
      signal,
      deadlineMs: deadline.claimUntilMs,
    })
    const waitMs = readLastLook(rows)
    if (waitMs === undefined) return 'nothing'
    if (waitMs > 0) await pause(clock, waitMs, signal)
    return signal.aborted ? 'unknown' : 'due'
  } catch (error) {
    log.warn('a runner leaves without a last look for what is due', { error: readableMessage(error) })
    return 'unknown'
  }
}
