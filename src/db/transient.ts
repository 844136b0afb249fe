// Classifies what a driver threw: which error it is, whether trying again can help, whether the statement may have run.

import {
  DatabaseAccessError,
  DatabaseError,
  DatabaseUnreachableError,
  IztaError,
  NotMigratedError,
  type StatementOutcome,
} from '../errors.ts'
import { fieldOf, messageOf, shownMessage, withoutSecrets } from './redact.ts'

type Kind = 'unreachable' | 'access' | 'not-migrated' | 'other'

interface Verdict {
  readonly code: string
  readonly what: string
  readonly advice: string
  readonly kind?: Kind
  readonly retryable?: boolean
  readonly outcome?: StatementOutcome
}

const unreachable = { code: 'database-unreachable', kind: 'unreachable', retryable: true } as const

const verdicts = {
  notConnected: {
    ...unreachable,
    what: 'could not be reached',
    advice: 'see that it runs and that host and port are right',
  },
  lost: {
    ...unreachable,
    outcome: 'unknown',
    what: 'gave no answer, so the statement may have been applied',
    advice: 'try again with a statement that is safe to repeat',
  },
  busy: {
    ...unreachable,
    what: 'accepts no work now',
    advice: 'try again later, or give it more connections, memory or disk',
  },
  access: {
    code: 'database-access',
    kind: 'access',
    what: 'refused access',
    advice: 'check user, password, database name and privileges',
  },
  privilege: {
    code: 'database-access',
    kind: 'access',
    what: 'does not let its user do this',
    advice: 'grant the privilege, or a role that `izta migrate --roles` makes',
  },
  untrusted: {
    code: 'database-tls',
    kind: 'access',
    what: 'offers no TLS connection that can be trusted',
    advice:
      'name its certificate authority in NODE_EXTRA_CA_CERTS or sslrootcert, and see that host and sslmode are right',
  },
  notMigrated: {
    code: 'not-migrated',
    kind: 'not-migrated',
    what: 'lacks an object that this version of izta needs',
    advice: 'run `izta migrate`',
  },
  serialization: {
    code: 'serialization',
    retryable: true,
    what: 'rolled the statement back because of a concurrent one',
    advice: 'try again',
  },
  deadlock: {
    code: 'deadlock',
    retryable: true,
    what: 'rolled the statement back to end a deadlock',
    advice: 'try again',
  },
  lockTimeout: {
    code: 'lock-timeout',
    retryable: true,
    what: 'gave up waiting for a lock',
    advice: 'try again',
  },
  statementTimeout: {
    code: 'statement-timeout',
    retryable: true,
    what: 'cancelled the statement',
    advice: 'try again, or raise statement_timeout',
  },
  readOnly: {
    code: 'read-only',
    retryable: true,
    what: 'takes no writes',
    advice: 'try again after the failover, or connect to the primary',
  },
  dataRefused: { code: 'data-refused', what: 'refused a value', advice: 'correct the value' },
  requestTooLarge: {
    code: 'data-refused',
    what: 'refused a request of this size',
    advice: 'send less at once',
  },
  replyTooLarge: {
    code: 'reply-too-large',
    outcome: 'unknown',
    what: 'may have applied the statement but could not carry its reply',
    advice: 'ask for less at once',
  },
  closed: { code: 'database-closed', what: 'was used after close()', advice: 'close it last' },
  other: { code: 'database-error', what: 'failed', advice: 'see the cause' },
} as const satisfies Record<string, Verdict>

/** By SQLSTATE, else by its class (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
const bySqlState: Readonly<Record<string, Verdict>> = {
  '08': verdicts.lost,
  '22': verdicts.dataRefused,
  '25006': verdicts.readOnly,
  '28': verdicts.access,
  '3D000': verdicts.access,
  '3F000': verdicts.notMigrated,
  '40001': verdicts.serialization,
  '40P01': verdicts.deadlock,
  '42501': verdicts.privilege,
  '42703': verdicts.notMigrated,
  '42883': verdicts.notMigrated,
  '42P01': verdicts.notMigrated,
  '53': verdicts.busy,
  '54': verdicts.dataRefused,
  '55P03': verdicts.lockTimeout,
  '57014': verdicts.statementTimeout,
  '57P01': verdicts.lost,
  '57P02': verdicts.lost,
  '57P03': verdicts.busy,
}

/** By the code of Node, of its TLS or of undici (the client behind `fetch`). */
const byNetworkCode: Readonly<Record<string, Verdict>> = {
  EAI_AGAIN: verdicts.notConnected,
  ECONNREFUSED: verdicts.notConnected,
  EHOSTUNREACH: verdicts.notConnected,
  ENETUNREACH: verdicts.notConnected,
  ENOENT: verdicts.notConnected,
  ENOTFOUND: verdicts.notConnected,
  UND_ERR_CONNECT_TIMEOUT: verdicts.notConnected,
  EADDRNOTAVAIL: verdicts.notConnected,
  ECONNABORTED: verdicts.lost,
  ECONNRESET: verdicts.lost,
  EPIPE: verdicts.lost,
  ETIMEDOUT: verdicts.lost,
  UND_ERR_BODY_TIMEOUT: verdicts.lost,
  UND_ERR_HEADERS_TIMEOUT: verdicts.lost,
  UND_ERR_SOCKET: verdicts.lost,
  CERT_HAS_EXPIRED: verdicts.untrusted,
  CERT_NOT_YET_VALID: verdicts.untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: verdicts.untrusted,
  ERR_TLS_CERT_ALTNAME_INVALID: verdicts.untrusted,
  SELF_SIGNED_CERT_IN_CHAIN: verdicts.untrusted,
  UNABLE_TO_GET_ISSUER_CERT: verdicts.untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: verdicts.untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: verdicts.untrusted,
}

/** What pg, Neon and PgBouncer say where their code tells nothing; the first that matches counts. */
const byMessage: readonly (readonly [RegExp, Verdict])[] = [
  [
    /due to connection timeout|timeout exceeded when trying to connect|^timeout expired/i,
    verdicts.notConnected,
  ],
  [/is not queryable/i, verdicts.notConnected],
  [/does not support SSL connections/i, verdicts.untrusted],
  [/after calling end on the pool/i, verdicts.closed],
  [/not a valid URL|Wrong URL scheme/i, verdicts.other],
  [
    /authentication failed|client password must be|Password must be a string|no such (user|database)/i,
    verdicts.access,
  ],
  [/response is too large|HTTP status 507/i, verdicts.replyTooLarge],
  [/HTTP status 413/i, verdicts.requestTooLarge],
  [/HTTP status 40[13]/i, verdicts.access],
  [/HTTP status 429|too many (database )?connection|no more connections allowed/i, verdicts.busy],
  [
    /couldn't connect to compute|control plane request failed|cannot connect to server|server login/i,
    verdicts.notConnected,
  ],
  [
    /Connection terminated|Query read timeout|Error connecting to database|HTTP status 5\d\d|WebSocket failed/i,
    verdicts.lost,
  ],
]

/** A reply that is cut off cannot be parsed, one that comes too late is aborted. */
const lostNames = new Set(['AbortError', 'TimeoutError', 'SyntaxError'])

/**
 * The error to throw for what a driver threw. `where` names the database without credentials.
 * `sent: false` says that the statement had not been sent, so that it cannot have been applied.
 */
export function toDatabaseError(error: unknown, where: string, { sent = true } = {}): DatabaseError {
  if (isDatabaseError(error)) return error
  const chain = causesOf(error)
  const sqlState = chain.map(sqlStateOf).find((state) => state !== undefined)
  const judged: Verdict = sqlState === undefined ? judgeWithoutState(chain) : judgeState(sqlState, chain)
  // Lost on the way to a connection is lost before anything was sent.
  const verdict: Verdict = judged === verdicts.lost && !sent ? verdicts.notConnected : judged
  const errorClass = classOf(verdict.kind)
  const reason = [sqlState ?? chain.map(codeOf).find(Boolean), shownMessage(chain.at(-1))].filter(Boolean)
  return new errorClass(
    verdict.code,
    `The database at ${where} ${verdict.what} (${reason.join(': ')}): ${verdict.advice}.`,
    {
      cause: withoutSecrets(error),
      retryable: verdict.retryable ?? false,
      outcome: sent ? (verdict.outcome ?? 'not-applied') : 'not-applied',
      sqlState,
    },
  )
}

/** Also of an adapter that was bundled with a copy of izta of its own. */
export function isDatabaseError(error: unknown): error is DatabaseError {
  return IztaError.is(error) && 'outcome' in error
}

/** A value is to blame, and so the same statement would be refused again. */
export function isDataRefused(error: unknown): error is DatabaseError {
  return isDatabaseError(error) && error.code === 'data-refused'
}

function judgeState(sqlState: string, chain: readonly unknown[]): Verdict {
  // PgBouncer gives this code to all its errors: https://www.pgbouncer.org/faq.html
  const judged = sqlState === '08P01' ? judgeMessages(chain) : undefined
  return judged ?? bySqlState[sqlState] ?? bySqlState[sqlState.slice(0, 2)] ?? verdicts.other
}

function judgeWithoutState(chain: readonly unknown[]): Verdict {
  const coded = chain
    .map((error) => byNetworkCode[codeOf(error) ?? ''])
    .find((verdict) => verdict !== undefined)
  if (coded !== undefined) return coded
  const names = chain.map((error) => (error instanceof Error ? error.name : ''))
  if (names.some((name) => lostNames.has(name))) return verdicts.lost
  // Neon's proxy answers without a SQLSTATE when its own connection to Postgres broke.
  return judgeMessages(chain) ?? (names.includes('NeonDbError') ? verdicts.lost : verdicts.other)
}

function judgeMessages(chain: readonly unknown[]): Verdict | undefined {
  const messages = chain.map(messageOf)
  return byMessage.find(([pattern]) => messages.some((message) => pattern.test(message)))?.[1]
}

function classOf(kind: Kind = 'other') {
  return {
    unreachable: DatabaseUnreachableError,
    access: DatabaseAccessError,
    'not-migrated': NotMigratedError,
    other: DatabaseError,
  }[kind]
}

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
