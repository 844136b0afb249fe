// How long outcomes and claims of a busy run wait for each other, so that one turn carries many of them.
import { defaults } from '../defaults.ts'

const { gatherShare, paceMs, paceShare } = defaults.runner

/** Instants are on the clock's scale. */
export interface PaceState {
  readonly lastTurnAtMs: number
  /** The outcomes that wait for the next turn; undefined for none, and for those that a failed turn has put back. */
  readonly waiting:
    | {
        readonly firstEndedAtMs: number
        /** How long the shortest of their handlers ran. */
        readonly shortestMs: number
      }
    | undefined
  /** A moving average of how long handlers ran. */
  readonly recentMs: number
}

/** Handlers that the moving average remembers, about. */
const remembered = 8

export class Pace {
  #lastTurnAtMs = -Infinity
  #waiting: PaceState['waiting']
  #recentMs = 0

  /** A handler ran for `durationMs`, and its outcome waits for the next turn. */
  ended(nowMs: number, durationMs: number, isUrgent: boolean): void {
    this.#recentMs += (durationMs - this.#recentMs) / remembered
    // It waits as briefly as the outcome of a handler that took no time.
    const shortestMs = Math.min(this.#waiting?.shortestMs ?? Infinity, isUrgent ? 0 : durationMs)
    this.#waiting = { firstEndedAtMs: this.#waiting?.firstEndedAtMs ?? nowMs, shortestMs }
  }

  turnStarted(nowMs: number): void {
    this.#lastTurnAtMs = nowMs
    this.#waiting = undefined
  }

  state(): PaceState {
    return { lastTurnAtMs: this.#lastTurnAtMs, waiting: this.#waiting, recentMs: this.#recentMs }
  }
}

/**
 * When a turn may settle the outcomes that wait. Handlers that started together end together, but not in the same
 * instant: the first of them waits a moment for the others. And turns keep a distance, unless half of the capacity waits.
 */
export function pacedSettleAtMs({ lastTurnAtMs, waiting }: PaceState, isHalfWaiting: boolean): number {
  if (waiting === undefined) return -Infinity
  const { firstEndedAtMs, shortestMs } = waiting
  const gatheredAtMs = firstEndedAtMs + shareOf(shortestMs, gatherShare)
  return isHalfWaiting ? gatheredAtMs : Math.max(gatheredAtMs, lastTurnAtMs + shareOf(shortestMs, paceShare))
}

/** When a turn may claim while no outcome waits. */
export function pacedClaimAtMs({ lastTurnAtMs, recentMs }: PaceState): number {
  return lastTurnAtMs + shareOf(recentMs, paceShare)
}

/** In whole milliseconds, as timers count. */
const shareOf = (durationMs: number, share: number) => Math.min(paceMs, Math.round(durationMs * share))
