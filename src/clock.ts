// Node's clock as a port: remaining time, timeouts and pauses only; due times belong to the database's clock.

/** Local time for deadlines and pauses. Replaced in tests by the clock of `izta/testing`. */
export interface Clock {
  /** Milliseconds that only ever grow; the zero is arbitrary. */
  now(): number
  /** Calls back once after `ms`; returns what takes the timer back. */
  after(ms: number, callback: () => void): () => void
}

/** The process's own clock. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, callback) {
    if (ms <= longestTimerMs) {
      const timer = setTimeout(callback, Math.max(0, ms))
      return () => clearTimeout(timer)
    }
    let cancel = systemClock.after(longestTimerMs, () => {
      cancel = systemClock.after(ms - longestTimerMs, callback)
    })
    return () => cancel()
  },
}

/** A longer setTimeout would overflow its 32 bits and fire at once. */
const longestTimerMs = 2 ** 31 - 1

/** The first and the longest pause between tries of what has failed. */
export interface PauseRange {
  readonly firstMs: number
  readonly longestMs: number
}

/**
 * The pause after this many failures in a row, from 1: twice as long each time, and a random share of that (full
 * jitter), so that callers which failed together do not come back together.
 */
export function backoffMs(failures: number, { firstMs, longestMs }: PauseRange): number {
  return Math.random() * Math.min(longestMs, firstMs * 2 ** (failures - 1))
}

/** Resolves after `ms`, or at once when the signal aborts. */
export function pause(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve()
    const end = () => {
      cancel()
      signal?.removeEventListener('abort', end)
      resolve()
    }
    const cancel = clock.after(ms, end)
    signal?.addEventListener('abort', end, { once: true })
  })
}

export interface Change {
  notify(): void
  /** Resolves at the next change, at once if there was one since it resolved last, or after `ms`. */
  next(ms?: number): Promise<void>
}

export function createChange(clock: Clock): Change {
  let hasChanged = false
  let wake = () => {}

  function notify(): void {
    // A promise that is resolved again is reported to Node, which takes longer than all the rest.
    if (hasChanged) return
    hasChanged = true
    wake()
  }

  return {
    notify,
    async next(ms = Infinity) {
      if (!hasChanged) {
        const cancel = ms === Infinity ? undefined : clock.after(Math.max(0, ms), notify)
        await new Promise<void>((resolve) => (wake = resolve))
        cancel?.()
      }
      hasChanged = false
      wake = () => {}
    },
  }
}
