// Time that passes only when nothing else can happen: the next timer's instant, and so on.
import type { Clock } from '../../src/clock.ts'

interface Timer {
  readonly atMs: number
  readonly order: number
  callback: (() => void) | undefined
}

export interface VirtualClock extends Clock {
  /** Milliseconds since the Unix epoch, as the simulated world reads them. */
  readonly epochMs: number
  /** A real answer (of a real database) is awaited: time stands still until it has come. */
  hold<T>(answer: Promise<T>): Promise<T>
  /** Lets everything happen that is due up to the instant. */
  runUntil(atMs: number): Promise<void>
}

export function createVirtualClock(start: Date): VirtualClock {
  const heap: Timer[] = []
  let nowMs = 0
  let order = 0
  let held = 0
  let released = Promise.withResolvers<void>()

  /** Until no promise can make another step. */
  async function settled(): Promise<void> {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      if (held === 0) return
      await released.promise
    }
  }

  return {
    now: () => nowMs,
    get epochMs() {
      return start.getTime() + nowMs
    },
    after(ms, callback) {
      const timer: Timer = { atMs: nowMs + Math.max(0, ms), order: order++, callback }
      push(heap, timer)
      return () => {
        timer.callback = undefined
      }
    },
    async hold(answer) {
      held++
      try {
        return await answer
      } finally {
        if (--held === 0) {
          released.resolve()
          released = Promise.withResolvers()
        }
      }
    },
    async runUntil(atMs) {
      await settled()
      for (let next = heap[0]; next !== undefined && next.atMs <= atMs; next = heap[0]) {
        pop(heap)
        if (next.callback === undefined) continue
        nowMs = Math.max(nowMs, next.atMs)
        next.callback()
        await settled()
      }
      nowMs = Math.max(nowMs, atMs)
    },
  }
}

const isBefore = (one: Timer, other: Timer) =>
  one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order)

function push(heap: Timer[], timer: Timer): void {
  let place = heap.push(timer) - 1
  while (place > 0) {
    const above = (place - 1) >> 1
    const parent = heap[above]
    if (parent === undefined || !isBefore(timer, parent)) break
    heap[place] = parent
    place = above
  }
  heap[place] = timer
}

function pop(heap: Timer[]): void {
  const last = heap.pop()
  if (last === undefined || heap.length === 0) return
  let place = 0
  for (;;) {
    let below = 2 * place + 1
    let child = heap[below]
    if (child === undefined) break
    const right = heap[below + 1]
    if (right !== undefined && isBefore(right, child)) {
      below++
      child = right
    }
    if (!isBefore(child, last)) break
    heap[place] = child
    place = below
  }
  heap[place] = last
}
