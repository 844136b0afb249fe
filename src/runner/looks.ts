// When a runner claims next, and when it may believe that nothing is due.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'

const { lastLookMs } = defaults.runner

/**
 * A full claim is followed by the next at once, a partial one after a pause. An empty one cleared the queue's wake
 * mark, so an enqueue that saw the mark just before may have sent no wake: as long as the run goes on, only a second
 * empty claim, sent a pause later, proves that nothing is due. A run that ends with the first has `lastLook` done instead.
 */
export interface Looks {
  /** On the clock's scale; Infinity until something changes. */
  readonly nextAtMs: number
  /** Nothing is due: an empty claim if the run ends with it, else two, far enough apart. */
  readonly exhausted: boolean
  /** A claim is on its way: what becomes due from now on may escape it. Its mark goes to `record`. */
  sent(): SentMark
  /** That claim has asked for so many and brought so many. */
  record(sent: SentMark, limit: number, claimed: number): void
  /** Something may be due. */
  again(): void
}

interface SentMark {
  readonly atMs: number
  readonly changes: number
}

export function createLooks(clock: Clock, endsNow: () => boolean): Looks {
  let nextAtMs = clock.now()
  let emptySinceMs: number | undefined
  let exhausted = false
  let changes = 0
  return {
    get nextAtMs() {
      return nextAtMs
    },
    get exhausted() {
      return exhausted
    },
    sent: () => ({ atMs: clock.now(), changes }),
    record(sent, limit, claimed) {
      if (limit === 0) return
      const now = clock.now()
      const isSecond = emptySinceMs !== undefined && sent.atMs >= emptySinceMs + lastLookMs
      exhausted = claimed === 0 && (isSecond || endsNow())
      if (claimed > 0) emptySinceMs = undefined
      else emptySinceMs ??= now
      if (changes > sent.changes) this.again()
      else if (exhausted) nextAtMs = Infinity
      else if (claimed >= limit) nextAtMs = now
      else nextAtMs = (emptySinceMs ?? now) + lastLookMs
    },
    again() {
      changes++
      exhausted = false
      emptySinceMs = undefined
      nextAtMs = clock.now()
    },
  }
}
