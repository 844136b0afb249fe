// Classifies what a driver threw: which error it is, whether trying again can help, whether the statement may have run.

import {
  DatabaseAccessError,
  DatabaseError,
  DatabaseUnreachableError,
  IztaError,
  NotMigratedError,
} from '../errors.ts'
import { fieldOf, messageOf, shownMessage, withoutSecrets } from './redact.ts'
import {
  byMessage,
  byNetworkCode,
  bySqlState,
  byStateAndMessage,
  verdicts,
  type ErrorKind,
  type Verdict,
} from './verdicts.ts'

/** A reply that is cut off cannot be parsed, one that comes too late is aborted. */
const lostNames = new Set(['AbortError', 'TimeoutError', 'SyntaxError'])

/**
 * The error to throw for what a driver threw. `where` names the database without credentials.
 * `sent: false` says that the statement had not been sent, so that it cannot have been applied.
 */
export function toDatabaseError(error: unknown, where: string, { sent = true } = {}): DatabaseError {
  if (isDatabaseError(error)) return error
  const { sqlState, verdict, chain } = judge(error, sent)
  const errorClass = errorClasses[verdict.kind]
  const reason = [sqlState ?? chain.map(codeOf).find(Boolean), shownMessage(chain.at(-1))].filter(Boolean)
  return new errorClass(
    verdict.code,
    `The database at ${where} ${verdict.what} (${reason.join(': ')}): ${verdict.advice}.`,
    {
      cause: withoutSecrets(error),
      retryable: verdict.retryable,
      outcome: sent ? verdict.outcome : 'not-applied',
      sqlState,
    },
  )
}

/** Whether the connection over which this was thrown must be closed: the server has left it, or it is no longer good. */
export function endsConnection(thrown: unknown): boolean {
  const { verdict, chain } = judge(thrown, true)
  return verdict.endsConnection || isOfSeverity(chain, /^(FATAL|PANIC)$/)
}

/** Also of an adapter that was bundled with a copy of izta of its own. */
export function isDatabaseError(error: unknown): error is DatabaseError {
  return IztaError.is(error) && 'outcome' in error
}

/** A value is to blame, and so the same statement would be refused again. */
export function isDataRefused(error: unknown): error is DatabaseError {
  return isDatabaseError(error) && error.code === 'data-refused'
}

interface Judgement {
  readonly sqlState: string | undefined
  readonly verdict: Verdict
  /** The error and its causes. */
  readonly chain: readonly unknown[]
}

function judge(error: unknown, sent: boolean): Judgement {
  const chain = causesOf(error)
  const sqlState = chain.map(sqlStateOf).find((state) => state !== undefined)
  const verdict = sqlState === undefined ? judgeWithoutState(chain) : judgeState(sqlState, chain)
  return { sqlState, verdict: sent ? verdict : (beforeSent.get(verdict) ?? verdict), chain }
}

/** Verdicts that doubt what became of a statement, and what they are before it was sent. */
const beforeSent = new Map<Verdict, Verdict>([
  [verdicts.lost, verdicts.notConnected],
  [verdicts.unrecognized, verdicts.other],
])

function judgeState(sqlState: string, chain: readonly unknown[]): Verdict {
  // PgBouncer gives the first of these to all its errors, and Neon's proxy the second:
  // https://www.pgbouncer.org/faq.html
  const byText = /^(08P01|XX000)$/.test(sqlState) ? judgeMessages(chain) : undefined
  const verdict =
    byText ??
    byStateAndMessage.find(([state, pattern]) => state.test(sqlState) && isSaid(chain, pattern))?.[2] ??
    bySqlState[sqlState] ??
    bySqlState[sqlState.slice(0, 3)] ??
    bySqlState[sqlState.slice(0, 2)] ??
    verdicts.other
  // FATAL answers the opening of a connection, or ends a session with a statement on its way. PANIC ends the server.
  const isFarewell = isOfSeverity(chain, verdict.atConnect ? /^PANIC$/ : /^(FATAL|PANIC)$/)
  return isFarewell ? verdicts.lost : verdict
}

const isOfSeverity = (chain: readonly unknown[], severity: RegExp) =>
  chain.some((error) => severity.test(String(fieldOf(error, 'severity'))))

function judgeWithoutState(chain: readonly unknown[]): Verdict {
  const coded = chain
    .map((error) => byNetworkCode[codeOf(error) ?? ''])
    .find((verdict) => verdict !== undefined)
  if (coded !== undefined) return coded
  const names = chain.map((error) => (error instanceof Error ? error.name : ''))
  if (names.some((name) => lostNames.has(name))) return verdicts.lost
  // Neon's proxy answers without a SQLSTATE when its own connection to Postgres broke.
  return judgeMessages(chain) ?? (names.includes('NeonDbError') ? verdicts.lost : verdicts.unrecognized)
}

const judgeMessages = (chain: readonly unknown[]) =>
  byMessage.find(([pattern]) => isSaid(chain, pattern))?.[1]

const isSaid = (chain: readonly unknown[], pattern: RegExp) =>
  chain.some((error) => pattern.test(messageOf(error)))

const errorClasses = {
  unreachable: DatabaseUnreachableError,
  access: DatabaseAccessError,
  'not-migrated': NotMigratedError,
  other: DatabaseError,
} as const satisfies Record<ErrorKind, typeof DatabaseError>

/** The error and what it was caused by, outermost first. Neon's driver says `sourceError`, Node has groups. */
function causesOf(error: unknown): unknown[] {
  const chain: unknown[] = []
  for (let next = error; next !== undefined && next !== null && !chain.includes(next);) {
    chain.push(next)
    const errors = fieldOf(next, 'errors')
    next =
      fieldOf(next, 'sourceError') ??
      fieldOf(next, 'cause') ??
      (Array.isArray(errors) ? errors[0] : undefined)
  }
  return chain
}

function codeOf(error: unknown): string | undefined {
  const code = fieldOf(error, 'code')
  return typeof code === 'string' && code !== '' ? code : undefined
}

function sqlStateOf(error: unknown): string | undefined {
  // Neon's driver puts the body of an HTTP 500, which has the code, into its message.
  const state = codeOf(error) ?? /^Server error .*"code":"(\w+)"/s.exec(messageOf(error))?.[1]
  // EPIPE and its like have five letters as well; no class of SQLSTATE begins with E.
  return state !== undefined && /^(?!E)[0-9A-Z]{5}$/.test(state) ? state : undefined
}
