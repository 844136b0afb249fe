// How many handlers run at once in this process, and the right of some tasks to run without others.

/** Shared by all runs of a process, because terms overlap. */
export class Capacity {
  readonly limit: number
  /** Ids of the tasks whose handlers run, stuck ones included. */
  readonly #running = new Set<string>()
  /** Ids of the tasks whose handlers ignored their signals. Each takes a place until it ends. */
  readonly #stuck = new Set<string>()
  /** Ids of the tasks that run without others, or wait until they may. Empty for none. */
  readonly #exclusive = new Set<string>()
  readonly #listeners = new Set<() => void>()

  constructor(limit: number) {
    this.limit = limit
  }

  /**
   * Ids of the tasks whose handlers run here. Stuck ones stay in it after their run has ended: only their own end, or
   * that of the process, stops them.
   */
  get running(): ReadonlySet<string> {
    return this.#running
  }

  /** Ids of the tasks whose handlers ignored their signals and still run. */
  get stuck(): ReadonlySet<string> {
    return this.#stuck
  }

  /** How many more handlers may start: 0 while tasks run without others, or wait until they may. */
  free(): number {
    return this.#exclusive.size === 0 ? Math.max(0, this.limit - this.#running.size) : 0
  }

  acquire(taskId: string): void {
    this.#running.add(taskId)
  }

  release(taskId: string): void {
    this.#running.delete(taskId)
    this.#stuck.delete(taskId)
    this.#exclusive.delete(taskId)
    this.#notify()
  }

  /** The handler ignores its signal. It keeps its place, and other tasks no longer wait for it to run without others. */
  abandon(taskId: string): void {
    this.#stuck.add(taskId)
    this.#exclusive.delete(taskId)
    this.#notify()
  }

  /**
   * Lets no other task start until all of these are released. True once no other task runs. A stuck handler does not
   * count: it holds nothing any more that could be lost with the process.
   */
  requestExclusive(taskIds: readonly string[]): boolean {
    if (this.#exclusive.size === 0) for (const id of taskIds) this.#exclusive.add(id)
    if (!taskIds.every((id) => this.#exclusive.has(id))) return false
    return this.#running.size === this.#stuck.size
  }

  /** Calls back when a task may start that could not before, and when handlers become stuck; returns what ends that. */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  #notify(): void {
    for (const listener of this.#listeners) listener()
  }
}
