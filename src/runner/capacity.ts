// How many handlers run at once in this process, and the right of one task to run alone.

/** Shared by all runs of a process, because terms overlap. */
export class Capacity {
  readonly limit: number
  /** Ids of the tasks whose handlers run, those that ignore their signals included. */
  readonly #running = new Set<string>()
  readonly #listeners = new Set<() => void>()
  /** The task that runs alone, or waits until it may. */
  #exclusive: string | undefined

  constructor(limit: number) {
    this.limit = limit
  }

  /**
   * Ids of the tasks whose handlers run here. Handlers that ignore their signals stay in it after their run has ended:
   * only the end of the process stops them.
   */
  get running(): ReadonlySet<string> {
    return this.#running
  }

  /** How many more handlers may start: 0 while a task runs alone, or waits until it may. */
  free(): number {
    return this.#exclusive === undefined ? Math.max(0, this.limit - this.#running.size) : 0
  }

  acquire(taskId: string): void {
    this.#running.add(taskId)
  }

  release(taskId: string): void {
    this.#running.delete(taskId)
    if (this.#exclusive === taskId) this.#exclusive = undefined
    for (const listener of this.#listeners) listener()
  }

  /** Lets no other task start until `release`. True once no other task runs. */
  requestExclusive(taskId: string): boolean {
    this.#exclusive ??= taskId
    return this.#exclusive === taskId && this.#running.size === 0
  }

  /** Calls back after each `release`; returns what ends that. */
  onFree(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }
}
