// Decides what a run does next: a pure function of its state.
import { defaults } from '../defaults.ts'
import { pacedClaimAtMs, pacedSettleAtMs, type PaceState } from './pace.ts'

const { secondTurnPlaces } = defaults.runner

/** The state of a run at one instant. Instants are on the clock's scale, Infinity for never. */
export interface RunState {
  readonly nowMs: number
  /** The run is open, and the longest timeout still fits. */
  readonly canClaim: boolean
  /** How many handlers may run at once. */
  readonly limit: number
  /** How many more may start, without those that claims in flight may bring. */
  readonly free: number
  /** No task runs, waits, or has an outcome to be sent. */
  readonly isIdle: boolean
  readonly hasRunning: boolean
  /** How many outcomes wait for the next turn. */
  readonly outcomes: number
  readonly pace: PaceState
  /** Turns sent and not answered. */
  readonly turnsInFlight: number
  /** The answer of a claim was lost: the lease may hold tasks that this run does not know. */
  readonly claimWasLost: boolean
  /** The last claim came back full, so more is due than fits. */
  readonly hasBacklog: boolean
  /** When the run claims next. */
  readonly claimAtMs: number
  /** When the run reads which of its tasks are to be cancelled. */
  readonly watchAtMs: number
  /** Nothing is due, and the run leaves then. */
  readonly isDone: boolean
}

export type Step =
  /** Settles outcomes, claims up to `limit` tasks, and reads cancellations if it `watches`. */
  | { readonly kind: 'turn'; readonly limit: number; readonly watches: boolean }
  /** Reads back what a claim with a lost answer took. */
  | { readonly kind: 'recover' }
  /** Until something changes, or for `ms`. */
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'leave' }

export function nextStep(state: RunState): Step {
  const { nowMs, canClaim, isIdle, turnsInFlight, watchAtMs } = state
  const free = canClaim ? Math.max(0, state.free) : 0
  // The tasks of a lost claim must be known before the next claim, or would be taken for its own.
  if (state.claimWasLost && free > 0) return turnsInFlight > 0 ? untilChange : { kind: 'recover' }

  if (turnsInFlight > 0 && !isWorthASecond(state, free)) return untilChange
  const turnAtMs = Math.min(watchAtMs, workAtMs(state, free))
  if (nowMs >= turnAtMs) {
    const half = halfOf(state)
    const limit = state.hasBacklog && half >= secondTurnPlaces ? Math.min(free, half) : free
    return { kind: 'turn', limit, watches: nowMs >= watchAtMs }
  }
  if (turnsInFlight === 0 && isIdle && (!canClaim || state.isDone)) return { kind: 'leave' }
  return { kind: 'wait', ms: turnAtMs - nowMs }
}

/** When a turn may settle and claim. It is not paced when no handler runs that could end soon, and when the run ends. */
function workAtMs(
  { canClaim, claimAtMs, hasRunning, limit, outcomes, pace }: RunState,
  free: number,
): number {
  const isPaced = canClaim && hasRunning
  if (outcomes > 0) return isPaced ? pacedSettleAtMs(pace, outcomes >= limit / 2) : -Infinity
  if (free === 0) return Infinity
  return isPaced ? Math.max(claimAtMs, pacedClaimAtMs(pace)) : claimAtMs
}

const untilChange: Step = { kind: 'wait', ms: Infinity }

/** The most that a turn claims while another may be in flight. */
const halfOf = ({ limit }: RunState) => Math.ceil(limit / 2)

/** In a backlog of short tasks the database works on one half of the places while this process works on the other. */
function isWorthASecond(state: RunState, free: number): boolean {
  const half = halfOf(state)
  return (
    state.turnsInFlight === 1 &&
    state.hasBacklog &&
    Math.min(free, half) >= Math.max(secondTurnPlaces, half / 2)
  )
}
