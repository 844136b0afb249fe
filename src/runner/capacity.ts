// How many handlers may run at once in this process, and the right of one of them to run alone.

/** Shared by the runs of one process, whose terms overlap. */
export interface Places {
  readonly capacity: number
  /**
   * Ids of the tasks whose handlers run here, those that ignore their signal included. Not empty after the last run
   * has ended: they are still at work, and only the end of the process stops them.
   */
  readonly running: ReadonlySet<string>
  /** How many more handlers may start; none while a task waits to run alone, or does. */
  free(): number
  take(taskId: string): void
  give(taskId: string): void
  /** Nobody else starts any more; true once nobody else runs. Ends with `give`. */
  requestAlone(taskId: string): boolean
  /** Calls back whenever a place becomes free. */
  onFree(callback: () => void): () => void
}

export function createPlaces(capacity: number): Places {
  const running = new Set<string>()
  const listeners = new Set<() => void>()
  let alone: string | undefined
  return {
    capacity,
    running,
    free: () => (alone === undefined ? Math.max(0, capacity - running.size) : 0),
    take: (taskId) => void running.add(taskId),
    give(taskId) {
      running.delete(taskId)
      if (alone === taskId) alone = undefined
      for (const listener of listeners) listener()
    },
    requestAlone(taskId) {
      alone ??= taskId
      return alone === taskId && running.size === 0
    },
    onFree(callback) {
      listeners.add(callback)
      return () => listeners.delete(callback)
    },
  }
}
