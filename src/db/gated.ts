// A database behind its gate: each statement waits for its place, and no call takes longer than its time.
import { systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { DatabaseError, DatabaseUnreachableError, IztaError } from '../errors.ts'
import type { Database, Lane, Row, Statement } from './database.ts'
import { gateOf, type Gate } from './gate.ts'
import { toDatabaseError } from './transient.ts'

/** What ends a call, all its statements, tries and waits included. */
export interface CallLimits {
  /** On the scale of `systemClock`: a database takes real time, also where a test has stopped the clock. */
  readonly untilMs: number
  readonly signal?: AbortSignal | undefined
}

/** The database as the rest of izta uses it. */
export interface GatedDatabase extends Omit<Database, 'query'> {
  /**
   * @throws {DatabaseError} `busy` when the call's time ends before the statement could be sent, `aborted` when its
   * signal aborts; of the adapter otherwise, whatever that throws.
   */
  query(statement: Statement, limits?: CallLimits): Promise<Row[]>
  /** The limits of a call that begins now. */
  limits(): CallLimits
}

export interface GateOptions {
  /** The adapter's own; of the database itself if that is none of izta's wrappers. */
  readonly gate?: Gate
  /** @default defaults.callTimeoutSeconds */
  readonly callTimeoutSeconds?: number
}

export function throughGate(database: Database, options: GateOptions = {}): GatedDatabase {
  const { gate = gateOf(database), callTimeoutSeconds = defaults.callTimeoutSeconds } = options
  const limits = (): CallLimits => ({ untilMs: systemClock.now() + callTimeoutSeconds * 1000 })
  return {
    ...database,
    limits,
    query: (statement, given = limits()) =>
      new Promise((resolve, reject) =>
        new GatedQuery(database, gate, statement, given, resolve, reject).start(),
      ),
  }
}

/** The same database for one call, whose statements share its time. */
export function forOneCall(database: GatedDatabase, limits: Partial<CallLimits> = {}): GatedDatabase {
  const { untilMs, signal } = database.limits()
  const shared = {
    untilMs: Math.min(untilMs, limits.untilMs ?? Infinity),
    signal: limits.signal ?? signal,
  }
  return { ...database, limits: () => shared }
}

/**
 * Of a call's time, what is left for the answer once a connection is free: a statement that is sent in the last moment
 * would tell of a database that does not answer, where it is this process that has too much to say.
 */
const [answerMs, answerShare] = [2_000, 0.2]

/** One statement on its way through the gate. */
class GatedQuery {
  readonly #database: Database
  readonly #gate: Gate
  readonly #statement: Statement
  readonly #limits: CallLimits
  readonly #startedAtMs = systemClock.now()
  readonly #aborting = new AbortController()
  readonly #resolve: (rows: Row[]) => void
  readonly #reject: (error: unknown) => void
  #giveUpPlace = () => {}
  #stopTimer = () => {}
  #sentAtMs: number | undefined

  constructor(
    database: Database,
    gate: Gate,
    statement: Statement,
    limits: CallLimits,
    resolve: (rows: Row[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.#database = database
    this.#gate = gate
    this.#statement = statement
    this.#limits = limits
    this.#resolve = resolve
    this.#reject = reject
  }

  start(): void {
    const { untilMs, signal } = this.#limits
    if (signal?.aborted === true) return this.#abort()
    signal?.addEventListener('abort', this.#abort)
    if (this.#gate.tryEnter(this.#lane)) return this.#send()
    const leftMs = untilMs - this.#startedAtMs
    this.#endAfter(leftMs - Math.min(answerMs, leftMs * answerShare), () => this.#busy())
    this.#giveUpPlace = this.#gate.wait(this.#lane, () => this.#send())
  }

  get #lane(): Lane {
    return this.#statement.lane
  }

  #endAfter(ms: number, error: () => DatabaseError): void {
    this.#stopTimer()
    this.#stopTimer = systemClock.after(ms, () => this.#end(error()))
  }

  #send(): void {
    const now = systemClock.now()
    this.#sentAtMs = now
    this.#endAfter(this.#limits.untilMs - now, () => this.#unanswered(now))
    const leave = () => this.#gate.leave(this.#lane)
    this.#ask().then(
      (rows) => {
        leave()
        this.#stopWaiting()
        this.#resolve(rows)
      },
      (error: unknown) => {
        leave()
        this.#stopWaiting()
        this.#reject(IztaError.is(error) ? error : toDatabaseError(error, 'the given adapter'))
      },
    )
  }

  /** Rejects where an adapter throws at once. */
  async #ask(): Promise<Row[]> {
    return this.#database.query(this.#statement, { signal: this.#aborting.signal })
  }

  /** The caller waits no longer; a statement in flight keeps its place until the adapter has given it up. */
  #end(error: DatabaseError): void {
    this.#stopWaiting()
    this.#giveUpPlace()
    this.#reject(error)
    this.#aborting.abort(error)
  }

  #stopWaiting(): void {
    this.#stopTimer()
    this.#limits.signal?.removeEventListener('abort', this.#abort)
  }

  readonly #abort = (): void => {
    const isSent = this.#sentAtMs !== undefined
    const sent = isSent ? 'was in flight, so it may have been applied' : 'had not been sent'
    this.#end(
      new DatabaseError('aborted', `The signal of a call aborted when its statement ${sent}.`, {
        cause: this.#limits.signal?.reason,
        retryable: true,
        outcome: isSent ? 'unknown' : 'not-applied',
      }),
    )
  }

  #unanswered(sentAtMs: number): DatabaseError {
    const message = `The database gave no answer for ${secondsSince(sentAtMs)}, when the time of the call was over, so the statement may have been applied: try again with a statement that is safe to repeat, or raise callTimeoutSeconds.`
    return new DatabaseUnreachableError('database-unreachable', message, {
      retryable: true,
      outcome: 'unknown',
    })
  }

  #busy(): DatabaseError {
    const message = `A call waited ${secondsSince(this.#startedAtMs)} for a connection and was not sent. ${this.#gate.describe()}: try again later, make fewer calls at once, or give the pool more connections.`
    return new DatabaseError('busy', message, { retryable: true, outcome: 'not-applied' })
  }
}

const secondsSince = (ms: number) => `${((systemClock.now() - ms) / 1000).toFixed(1)} s`
