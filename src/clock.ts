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
