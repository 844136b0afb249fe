// When a call ends without an answer: its time is over, or its signal aborts. Its error says whether it was sent.
import { systemClock } from '../clock.ts'
import { DatabaseError, DatabaseUnreachableError } from '../errors.ts'

/** Options of every call that takes options. */
export interface CallOptions {
  /**
   * Ends the call when it aborts: it rejects with `aborted`, and its `outcome` says whether it had been sent.
   * @default none: the call ends by `callTimeoutSeconds`
   */
  signal?: AbortSignal | undefined
}

/** What ends a call, all its statements, tries and waits included. */
export interface CallLimits {
  /** On the scale of `systemClock`: a database takes real time, also where a test has stopped the clock. */
  readonly untilMs: number
  readonly signal?: AbortSignal | undefined
}

/**
 * Of a call's time, what is left for the answer once it may be sent: a statement that is sent in the last moment would
 * tell of a database that does not answer, where it is this process that has too much to say.
 */
const [answerMs, answerShare] = [2_000, 0.2]

/** Watches one call, first while it waits, then while it is in flight. Calls `onEnd` once at most. */
export class CallEnd {
  readonly #limits: CallLimits
  readonly #onEnd: (error: DatabaseError) => void
  readonly #startedAtMs = systemClock.now()
  #isSent = false
  #stopTimer = () => {}

  constructor(limits: CallLimits, onEnd: (error: DatabaseError) => void) {
    this.#limits = limits
    this.#onEnd = onEnd
    limits.signal?.addEventListener('abort', this.#abort)
  }

  /** The error of a call that must not begin: its signal has aborted, or nothing is left of its time. */
  refusal(): DatabaseError | undefined {
    if (this.#limits.signal?.aborted === true) return this.#aborted()
    if (this.#limits.untilMs > this.#startedAtMs) return undefined
    return busy('The time of a call was over before its next statement could be sent')
  }

  /** `reason` tells, at the end, why it had to wait. */
  waits(reason: () => string): void {
    const leftMs = this.#limits.untilMs - this.#startedAtMs
    this.#endAfter(leftMs - Math.min(answerMs, leftMs * answerShare), () =>
      busy(`A call waited ${secondsSince(this.#startedAtMs)} and was not sent, since ${reason()}`),
    )
  }

  isSent(): void {
    const sentAtMs = systemClock.now()
    this.#isSent = true
    this.#endAfter(this.#limits.untilMs - sentAtMs, () => unanswered(sentAtMs))
  }

  /** The call has its answer. */
  stop(): void {
    this.#stopTimer()
    this.#limits.signal?.removeEventListener('abort', this.#abort)
  }

  #endAfter(ms: number, error: () => DatabaseError): void {
    this.#stopTimer()
    this.#stopTimer = systemClock.after(ms, () => this.#end(error()))
  }

  #end(error: DatabaseError): void {
    this.stop()
    this.#onEnd(error)
  }

  readonly #abort = (): void => this.#end(this.#aborted())

  #aborted(): DatabaseError {
    const sent = this.#isSent ? 'was in flight, so it may have been applied' : 'had not been sent'
    return new DatabaseError('aborted', `The signal of a call aborted when its statement ${sent}.`, {
      cause: this.#limits.signal?.reason,
      retryable: true,
      outcome: this.#isSent ? 'unknown' : 'not-applied',
    })
  }
}

function busy(what: string): DatabaseError {
  const advice = 'try again later, make fewer calls at once, or give the pool more connections'
  return new DatabaseError('busy', `${what}: ${advice}.`, { retryable: true, outcome: 'not-applied' })
}

function unanswered(sentAtMs: number): DatabaseError {
  const message = `The database gave no answer for ${secondsSince(sentAtMs)}, when the time of the call was over, so the statement may have been applied: try again with a statement that is safe to repeat, or raise callTimeoutSeconds.`
  return new DatabaseUnreachableError('database-unreachable', message, {
    retryable: true,
    outcome: 'unknown',
  })
}

const secondsSince = (ms: number) => `${((systemClock.now() - ms) / 1000).toFixed(1)} s`
