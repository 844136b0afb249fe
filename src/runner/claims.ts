// When a runner claims next, and when it may believe that nothing is due.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ClaimedTask, Floor } from '../store/turn.ts'

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

/**
 * While a transaction elsewhere holds back vacuum, the index keeps an entry for every task that is gone, and a look
 * from the beginning passes all of them. A task may also become due below a floor (a retry, a slow transaction), so a
 * full look goes again and again: as often as it costs a twentieth of the time.
 */
export interface Floors {
  /** For the next claim; none when a full look is due. */
  forClaim(): readonly Floor[]
  /** A claim with these floors took so long and came back full, with these tasks, or not. */
  record(floors: readonly Floor[], tookMs: number, claimed: readonly ClaimedTask[], isFull: boolean): void
}

const { fullLookSeconds, fullLookShare } = defaults.runner

export function createFloors(clock: Clock): Floors {
  /** By queue, then by priority. */
  const instants = new Map<string, number[]>()
  let fullLookAtMs = -Infinity

  function raise({ queue, priority, dueAt }: ClaimedTask): void {
    const ofQueue = instants.get(queue) ?? []
    instants.set(queue, ofQueue)
    // Replies round to milliseconds.
    ofQueue[priority] = Math.max(ofQueue[priority] ?? -Infinity, dueAt.getTime() - 1)
  }

  return {
    forClaim() {
      if (clock.now() >= fullLookAtMs) return []
      return [...instants].flatMap(([queue, ofQueue]) =>
        Object.entries(ofQueue).map(([priority, dueMs]) => ({ queue, priority: Number(priority), dueMs })),
      )
    },
    record(used, tookMs, claimed, isFull) {
      // The first claim that is not full is followed by full looks: nothing may be left behind below a floor.
      if (!isFull) fullLookAtMs = -Infinity
      else if (used.length === 0)
        fullLookAtMs = clock.now() + Math.max(fullLookSeconds * 1000, tookMs / fullLookShare)
      for (const task of claimed) raise(task)
    },
  }
}
