// When a run claims next, when it believes that nothing is due, and where its claims begin to look.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ClaimedTask, Floor } from '../store/turn.ts'

const { fullLookSeconds, fullLookShare, lastLookMs } = defaults.runner

/** When a claim was sent, and how often `recheck` had been called before. */
interface Sent {
  readonly atMs: number
  readonly changes: number
}

/** @see Claims.record */
interface ClaimResult {
  readonly limit: number
  readonly claimed: number
  readonly isLast: boolean
}

/** The claims of one run. */
export class Claims {
  readonly #clock: Clock
  readonly #policy: ClaimPolicy
  readonly #watermarks: Watermarks
  #hasBacklog = false

  constructor(clock: Clock) {
    this.#clock = clock
    this.#policy = new ClaimPolicy(clock)
    this.#watermarks = new Watermarks(clock)
  }

  /** When to claim next, on the clock's scale; Infinity until something changes. */
  get nextAtMs(): number {
    return this.#policy.nextAtMs
  }

  /** Nothing is due. */
  get isExhausted(): boolean {
    return this.#policy.isExhausted
  }

  /** The last claim came back full, so more is due than fits. */
  get hasBacklog(): boolean {
    return this.#hasBacklog
  }

  /** Something may be due: claims again at once. */
  recheck(): void {
    this.#policy.recheck()
  }

  /** Call it when a claim is sent. The result goes to `record`. */
  sent(): Sent & { readonly watermarks: readonly Floor[] } {
    return { ...this.#policy.sent(), watermarks: this.#watermarks.forClaim() }
  }

  /**
   * Call it when a claim is answered.
   *
   * @param isLast whether the run ends if nothing was claimed: it looks once more when it has ended
   */
  record(
    { watermarks, ...sent }: ReturnType<Claims['sent']>,
    limit: number,
    claimed: readonly ClaimedTask[],
    isLast: boolean,
  ): void {
    // Nothing was found above the watermarks: claim from the beginning before believing it.
    if (watermarks.length > 0 && claimed.length === 0) this.recheck()
    else this.#policy.record(sent, { limit, claimed: claimed.length, isLast })
    if (limit === 0) return
    this.#hasBacklog = claimed.length >= limit
    this.#watermarks.record(watermarks, this.#clock.now() - sent.atMs, claimed, this.#hasBacklog)
  }
}

/**
 * A full claim is followed by the next at once, a partial one after a pause. An empty claim clears the wake mark of the
 * queue, and an enqueue that saw the mark just before may have sent no wake. So while the run goes on, only a second
 * empty claim, sent a pause later, proves that nothing is due. A run that ends with the first looks once more afterwards.
 */
export class ClaimPolicy {
  readonly #clock: Clock
  #nextAtMs: number
  /** The answer of the first empty claim in a row. */
  #emptySinceMs: number | undefined
  #isExhausted = false
  #changes = 0

  constructor(clock: Clock) {
    this.#clock = clock
    this.#nextAtMs = clock.now()
  }

  /** On the clock's scale; Infinity until something changes. */
  get nextAtMs(): number {
    return this.#nextAtMs
  }

  /** Nothing is due. */
  get isExhausted(): boolean {
    return this.#isExhausted
  }

  /** Call it when a claim is sent: tasks that become due from now on may escape it. The result goes to `record`. */
  sent(): Sent {
    return { atMs: this.#clock.now(), changes: this.#changes }
  }

  /** Call it when a claim is answered. */
  record(sent: Sent, { limit, claimed, isLast }: ClaimResult): void {
    if (limit === 0) return
    const now = this.#clock.now()
    const isSecond = this.#emptySinceMs !== undefined && sent.atMs >= this.#emptySinceMs + lastLookMs
    this.#isExhausted = claimed === 0 && (isSecond || isLast)
    if (claimed > 0) this.#emptySinceMs = undefined
    else this.#emptySinceMs ??= now
    if (this.#changes > sent.changes) this.recheck()
    else if (this.#isExhausted) this.#nextAtMs = Infinity
    else if (claimed >= limit) this.#nextAtMs = now
    else this.#nextAtMs = (this.#emptySinceMs ?? now) + lastLookMs
  }

  /** Something may be due: claims again at once. */
  recheck(): void {
    this.#changes++
    this.#isExhausted = false
    this.#emptySinceMs = undefined
    this.#nextAtMs = this.#clock.now()
  }
}

/**
 * While a transaction elsewhere holds back vacuum, the index keeps an entry for each task that is gone, and a look from
 * the beginning passes all of them. So in a backlog claims begin at a watermark: the last due instant claimed, per queue
 * and priority. A task may also become due below it (a retry, a slow transaction), so a claim looks from the beginning
 * again and again, as often as that costs a twentieth of the time.
 */
export class Watermarks {
  readonly #clock: Clock
  /** In milliseconds, by queue and then by priority. */
  readonly #instants = new Map<string, number[]>()
  #fullLookAtMs = -Infinity

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** For the next claim; none when it looks from the beginning. */
  forClaim(): readonly Floor[] {
    if (this.#clock.now() >= this.#fullLookAtMs) return []
    return [...this.#instants].flatMap(([queue, ofQueue]) =>
      Object.entries(ofQueue).map(([priority, dueMs]) => ({ queue, priority: Number(priority), dueMs })),
    )
  }

  /** Call it when a claim with these watermarks is answered. */
  record(used: readonly Floor[], tookMs: number, claimed: readonly ClaimedTask[], isFull: boolean): void {
    // Claims after one that is not full look from the beginning: nothing may be left behind.
    if (!isFull) this.#fullLookAtMs = -Infinity
    else if (used.length === 0) {
      this.#fullLookAtMs = this.#clock.now() + Math.max(fullLookSeconds * 1000, tookMs / fullLookShare)
    }
    for (const task of claimed) this.#raise(task)
  }

  #raise({ queue, priority, dueAt }: ClaimedTask): void {
    const ofQueue = this.#instants.get(queue) ?? []
    this.#instants.set(queue, ofQueue)
    // Replies round to milliseconds.
    ofQueue[priority] = Math.max(ofQueue[priority] ?? -Infinity, dueAt.getTime() - 1)
  }
}
