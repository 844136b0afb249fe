// A database behind its gate: each statement waits for its place, and no call takes longer than its time.
import { systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import { DatabaseError, IztaError } from '../errors.ts'
import { showValue } from '../options.ts'
import { CallEnd, type CallLimits } from './call-end.ts'
import type { Database, Row, Statement } from './database.ts'
import { gateOf, type Gate } from './gate.ts'
import { toDatabaseError } from './transient.ts'

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
  /** The gate of the adapter, where `database` is a wrapper of it. @default that of `database` */
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
      new Promise((resolve, reject) => {
        new GatedQuery({ database, gate, statement, resolve, reject }, given).start()
      }),
  }
}

/** The same database, whose calls end at an instant on the scale of `systemClock` at the latest. */
export function untilDeadline(database: GatedDatabase, deadlineMs: number): GatedDatabase {
  return {
    ...database,
    limits() {
      const { untilMs, signal } = database.limits()
      return { untilMs: Math.min(untilMs, deadlineMs), signal }
    },
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

/** A driver that parses values would be met later, where a value is read: the first row tells. */
function valueThatIsNoText(rows: unknown): DatabaseError | undefined {
  const found = Array.isArray(rows) ? wrongIn(rows[0]) : `${showValue(rows)} in place of rows`
  if (found === undefined) return undefined
  return new DatabaseError(
    'rows-not-text',
    `The database adapter answered with ${found}: izta takes rows whose values are text as PostgreSQL prints it, or null. With pg, pass types: { getTypeParser: () => (text) => text } in each query.`,
    // The statement has run.
    { outcome: 'unknown' },
  )
}

function wrongIn(row: unknown): string | undefined {
  if (row === undefined) return undefined
  if (typeof row !== 'object' || row === null || Array.isArray(row))
    return `${showValue(row)} in place of a row`
  const wrong = Object.entries(row).find(([, value]) => typeof value !== 'string' && value !== null)
  return wrong && `${showValue(wrong[1])} in column "${wrong[0]}"`
}

interface QueryParts {
  readonly database: Database
  readonly gate: Gate
  readonly statement: Statement
  resolve(rows: Row[]): void
  reject(error: unknown): void
}

/** One statement on its way through the gate. */
class GatedQuery {
  readonly #parts: QueryParts
  readonly #end: CallEnd
  /** Tells the adapter that nobody waits any longer. */
  readonly #aborting = new AbortController()
  #giveUpPlace = () => {}

  constructor(parts: QueryParts, limits: CallLimits) {
    this.#parts = parts
    this.#end = new CallEnd(limits, (error) => {
      // A statement in flight keeps its place until the adapter has given it up.
      this.#giveUpPlace()
      parts.reject(error)
      this.#aborting.abort(error)
    })
  }

  start(): void {
    const { gate, statement, reject } = this.#parts
    const refusal = this.#end.refusal()
    if (refusal !== undefined) {
      this.#end.stop()
      return reject(refusal)
    }
    if (gate.tryEnter(statement.lane)) return this.#send()
    this.#end.waits(() => gate.describe())
    this.#giveUpPlace = gate.wait(statement.lane, () => this.#send())
  }

  #send(): void {
    const { gate, statement, resolve, reject } = this.#parts
    this.#end.isSent()
    const leave = () => {
      gate.leave(statement.lane)
      this.#end.stop()
    }
    this.#ask().then(
      (rows) => {
        leave()
        const wrong = valueThatIsNoText(rows)
        if (wrong === undefined) resolve(rows)
        else reject(wrong)
      },
      (error: unknown) => {
        leave()
        reject(IztaError.is(error) ? error : toDatabaseError(error, 'the given adapter'))
      },
    )
  }

  /** Rejects where an adapter throws at once. */
  async #ask(): Promise<Row[]> {
    return this.#parts.database.query(this.#parts.statement, { signal: this.#aborting.signal })
  }
}
