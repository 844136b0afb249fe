// Where claims begin to look while a backlog is worked off: at the last due instant that was claimed, not at the first.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ClaimedTask, Floor } from '../store/turn.ts'

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
