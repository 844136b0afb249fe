// When a runner claims next, and when it may believe that nothing is due.
import type { Clock } from '../clock.ts'

/**
 * A full claim is followed by the next at once, a partial one after a pause. An empty one cleared the queue's wake
 * mark, so an enqueue that saw the mark just before may have sent no wake: only a second empty claim, a pause later,
 * proves that nothing is due.
 */
export interface Looks {
  /** On the clock's scale; Infinity until something changes. */
  readonly nextAtMs: number
  /** Two empty claims, far enough apart. */
  readonly exhausted: boolean
  record(limit: number, claimed: number): void
  /** Something may be due. */
  again(): void
}

export function createLooks(clock: Clock, pauseMs: number): Looks {
  let nextAtMs = clock.now()
  let emptySinceMs: number | undefined
  let exhausted = false
  return {
    get nextAtMs() {
      return nextAtMs
    },
    get exhausted() {
      return exhausted
    },
    record(limit, claimed) {
      if (limit === 0) return
      const now = clock.now()
      exhausted = claimed === 0 && emptySinceMs !== undefined && now >= emptySinceMs + pauseMs
      if (claimed > 0) emptySinceMs = undefined
      else emptySinceMs ??= now
      if (exhausted) nextAtMs = Infinity
      else if (claimed === limit) nextAtMs = now
      else nextAtMs = (emptySinceMs ?? now) + pauseMs
    },
    again() {
      exhausted = false
      emptySinceMs = undefined
      nextAtMs = clock.now()
    },
  }
}
