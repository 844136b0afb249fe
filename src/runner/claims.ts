// When a run claims next, when it believes that nothing is due, and where its claims begin to look.
import type { Clock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { ClaimedTask, ClaimRange, TurnReply } from '../store/turn.ts'

const { fullLookShare, lastLookMs, blindSeconds } = defaults.runner

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
  /** Nothing is due now, and the next task in this time. */
  readonly waitMs?: number | undefined
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

  /** Whether a claim of now that comes back empty would prove that nothing is due. */
  get isLastLook(): boolean {
    return this.#policy.isLastLook
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
  sent(): Sent & { readonly ranges: readonly ClaimRange[] } {
    return { ...this.#policy.sent(), ranges: this.#watermarks.ranges() }
  }

  /**
   * Call it when a claim is answered.
   *
   * @param isLast whether one empty claim is enough for the run to end
   */
  record(
    { ranges, ...sent }: ReturnType<Claims['sent']>,
    { limit, claimed, waitMs }: Pick<TurnReply, 'claimed' | 'waitMs'> & { readonly limit: number },
    isLast: boolean,
  ): void {
    // Nothing was found above the watermarks: claim from the beginning before believing it.
    if (ranges.length > 0 && claimed.length === 0) this.recheck()
    else this.#policy.record(sent, { limit, claimed: claimed.length, isLast, waitMs })
    if (limit === 0) return
    this.#hasBacklog = claimed.length >= limit
    this.#watermarks.record(ranges, this.#clock.now() - sent.atMs, claimed, this.#hasBacklog)
  }
}

/**
 * A full claim is followed by the next at once, a partial one after a pause. An empty claim clears the wake mark of the
 * queue, and an enqueue that saw the mark just before may have sent no wake. So only a second empty claim,
 * sent a pause later, proves that nothing is due.
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

  /** Whether a claim of now that comes back empty would prove that nothing is due. */
  get isLastLook(): boolean {
    return this.#isSecond(this.#clock.now())
  }

  /** Whether a claim that was sent then comes long enough after the first empty one. */
  #isSecond(sentAtMs: number): boolean {
    return this.#emptySinceMs !== undefined && sentAtMs >= this.#emptySinceMs + lastLookMs
  }

  /** Call it when a claim is sent: tasks that become due from now on may escape it. The result goes to `record`. */
  sent(): Sent {
    return { atMs: this.#clock.now(), changes: this.#changes }
  }

  /** Call it when a claim is answered. */
  record(sent: Sent, { limit, claimed, isLast, waitMs }: ClaimResult): void {
    if (limit === 0) return
    const now = this.#clock.now()
    this.#isExhausted = claimed === 0 && waitMs === undefined && (this.#isSecond(sent.atMs) || isLast)
    // After a wait the claims begin anew: clocks drift, so the first may come a little early.
    if (claimed > 0 || waitMs !== undefined) this.#emptySinceMs = undefined
    else this.#emptySinceMs ??= now
    if (this.#changes > sent.changes) this.recheck()
    else if (this.#isExhausted) this.#nextAtMs = Infinity
    else if (waitMs !== undefined) this.#nextAtMs = now + waitMs
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
 * the beginning passes all of them. So in a backlog claims look into the queues of the backlog only, and begin at
 * watermarks: the last due instant claimed, per queue and priority. A task may also become due below a watermark (a
 * retry, a slow transaction) or in another queue, so a claim looks everywhere from the beginning again and again, as
 * often as that costs a twentieth of the time.
 */
export class Watermarks {
  readonly #clock: Clock
  /** In milliseconds, by queue and then by priority. */
  readonly #instants = new Map<string, number[]>()
  #fullLookAtMs = -Infinity

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Where the next claim looks; empty when it looks everywhere. */
  ranges(): readonly ClaimRange[] {
    if (this.#clock.now() >= this.#fullLookAtMs) return []
    return [...this.#instants].flatMap(([queue, ofQueue]) => rangesOf(queue, ofQueue))
  }

  /** Call it when a claim with these ranges is answered. */
  record(
    used: readonly ClaimRange[],
    tookMs: number,
    claimed: readonly ClaimedTask[],
    isFull: boolean,
  ): void {
    // Claims after one that is not full look everywhere: nothing may be left behind.
    if (!isFull) this.#fullLookAtMs = -Infinity
    else if (used.length === 0) {
      this.#instants.clear()
      this.#fullLookAtMs = this.#clock.now() + Math.min(blindSeconds * 1000, tookMs / fullLookShare)
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

const lowestPriority = 9

/** All priorities of a queue: from their watermarks on, and those without one from the beginning. */
function rangesOf(queue: string, instants: readonly (number | undefined)[]): ClaimRange[] {
  const ranges: ClaimRange[] = []
  let lowest = 0
  for (let priority = 0; priority <= lowestPriority; priority++) {
    const fromMs = instants[priority]
    if (fromMs === undefined) continue
    if (lowest < priority) ranges.push({ queue, lowest, highest: priority - 1, fromMs: undefined })
    ranges.push({ queue, lowest: priority, highest: priority, fromMs })
    lowest = priority + 1
  }
  if (lowest <= lowestPriority) ranges.push({ queue, lowest, highest: lowestPriority, fromMs: undefined })
  return ranges
}
