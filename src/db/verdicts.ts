// What each error of a driver, a pooler or PostgreSQL means: the one list of what was applied, what to repeat, what
// ends a connection.
import type { StatementOutcome } from '../errors.ts'

export type ErrorKind = 'unreachable' | 'access' | 'not-migrated' | 'other'

export interface Verdict {
  readonly code: string
  readonly what: string
  readonly advice: string
  readonly kind: ErrorKind
  /** Whether the same statement can succeed later. */
  readonly retryable: boolean
  /** Whether the statement may have been applied, had it been sent. */
  readonly outcome: StatementOutcome
  /** Whether the connection must not be used again. */
  readonly endsConnection: boolean
  /** Also said to a connection that is being opened, before any statement. */
  readonly atConnect: boolean
}

/** An error of a statement that PostgreSQL has rolled back, over a connection that is still good. */
const rolledBack = {
  kind: 'other',
  retryable: false,
  outcome: 'not-applied',
  endsConnection: false,
  atConnect: false,
} as const
const repeated = { ...rolledBack, retryable: true } as const
const unreachable = {
  ...repeated,
  code: 'database-unreachable',
  kind: 'unreachable',
  endsConnection: true,
  atConnect: true,
} as const
const access = {
  ...rolledBack,
  code: 'database-access',
  kind: 'access',
  endsConnection: true,
  atConnect: true,
} as const

export const verdicts = {
  notConnected: {
    ...unreachable,
    what: 'could not be reached',
    advice: 'see that it runs and that host and port are right',
  },
  starting: {
    ...unreachable,
    what: 'accepts no connections now',
    advice: 'try again when it has started',
  },
  lost: {
    ...unreachable,
    outcome: 'unknown',
    atConnect: false,
    what: 'gave no answer, so the statement may have been applied',
    advice: 'try again with a statement that is safe to repeat',
  },
  busy: {
    ...repeated,
    code: 'busy',
    atConnect: true,
    what: 'accepts no more work now',
    advice: 'try again later, or give it more connections, memory or disk',
  },
  access: {
    ...access,
    what: 'refused access',
    advice: 'check user, password, database name and privileges',
  },
  privilege: {
    ...access,
    endsConnection: false,
    what: 'does not let its user do this',
    advice: 'grant the privilege, or a role that `izta migrate --roles` makes',
  },
  switchedOff: {
    ...access,
    code: 'database-disabled',
    what: 'is switched off by its provider',
    advice: 'enable its endpoint there, or raise the quota',
  },
  untrusted: {
    ...access,
    code: 'database-tls',
    what: 'offers no TLS connection that can be trusted',
    advice:
      'name its certificate authority in NODE_EXTRA_CA_CERTS or sslrootcert, and see that host and sslmode are right',
  },
  notMigrated: {
    ...rolledBack,
    code: 'not-migrated',
    kind: 'not-migrated',
    what: 'lacks an object that this version of izta needs',
    advice: 'run `izta migrate`',
  },
  serialization: {
    ...repeated,
    code: 'serialization',
    what: 'rolled the statement back because of a concurrent one',
    advice: 'try again',
  },
  deadlock: {
    ...repeated,
    code: 'deadlock',
    what: 'rolled the statement back to end a deadlock',
    advice: 'try again',
  },
  lockTimeout: {
    ...repeated,
    code: 'lock-timeout',
    what: 'gave up waiting for a lock that another transaction holds',
    advice: 'try again, and see that no transaction stays open',
  },
  statementTimeout: {
    ...repeated,
    code: 'statement-timeout',
    what: 'cancelled the statement',
    advice: 'try again, or raise statement_timeout',
  },
  readOnly: {
    ...repeated,
    code: 'read-only',
    endsConnection: true,
    what: 'takes no writes',
    advice: 'try again after the failover, or connect to the primary',
  },
  staleSession: {
    ...repeated,
    code: 'stale-session',
    endsConnection: true,
    what: 'does not recognize the state of this connection',
    advice: 'try again over another one',
  },
  systemError: {
    ...repeated,
    code: 'system-error',
    endsConnection: true,
    what: 'met an error of its operating system or disk',
    advice: 'try again, and see the log of the server',
  },
  dataRefused: {
    ...rolledBack,
    code: 'data-refused',
    what: 'refused a value',
    advice: 'correct the value',
  },
  requestTooLarge: {
    ...rolledBack,
    code: 'data-refused',
    what: 'refused a request of this size',
    advice: 'send less at once',
  },
  replyTooLarge: {
    ...rolledBack,
    code: 'reply-too-large',
    outcome: 'unknown',
    what: 'may have applied the statement but could not carry its reply',
    advice: 'ask for less at once',
  },
  closed: {
    ...rolledBack,
    code: 'database-closed',
    endsConnection: true,
    atConnect: true,
    what: 'was used after close()',
    advice: 'close it last',
  },
  other: { ...rolledBack, code: 'database-error', what: 'failed', advice: 'see the cause' },
  /** Neither PostgreSQL nor a known error of the way there. */
  unrecognized: {
    ...rolledBack,
    code: 'database-error',
    outcome: 'unknown',
    endsConnection: true,
    what: 'failed, and the statement may have been applied',
    advice: 'see the cause',
  },
} as const satisfies Record<string, Verdict>

/**
 * By SQLSTATE, else by its first three letters, else by its class
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html).
 */
export const bySqlState: Readonly<Record<string, Verdict>> = {
  '08': verdicts.lost,
  '22': verdicts.dataRefused,
  '25006': verdicts.readOnly,
  '25P': verdicts.staleSession,
  '25P03': verdicts.lost,
  '25P04': verdicts.lost,
  '26000': verdicts.staleSession,
  '28': verdicts.access,
  '3D000': verdicts.access,
  '3F000': verdicts.notMigrated,
  '40': verdicts.serialization,
  '40003': verdicts.lost,
  '40P01': verdicts.deadlock,
  '42501': verdicts.privilege,
  '42703': verdicts.notMigrated,
  '42883': verdicts.notMigrated,
  '42P01': verdicts.notMigrated,
  '42P05': verdicts.staleSession,
  '53': verdicts.busy,
  '54': verdicts.dataRefused,
  '55P03': verdicts.lockTimeout,
  '57014': verdicts.statementTimeout,
  '57P': verdicts.lost,
  '57P03': verdicts.starting,
  '58': verdicts.systemError,
}

/** By the code of Node, of its TLS or of undici (the client behind `fetch`). */
export const byNetworkCode: Readonly<Record<string, Verdict>> = {
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

/** Errors that one SQLSTATE shares with others that mean something else; the first that matches counts. */
export const byStateAndMessage: readonly (readonly [state: RegExp, message: RegExp, Verdict])[] = [
  // Neon keeps prepared statements of its own: https://github.com/neondatabase/neon/issues/5714
  [/^0A000$/, /cached plan must not change result type/i, verdicts.staleSession],
]

/** Texts of pg, Neon and PgBouncer whose code tells nothing; the first that matches counts. */
export const byMessage: readonly (readonly [RegExp, Verdict])[] = [
  // A pool's connections are all taken, by others than izta: the server was not asked.
  [/timeout exceeded when trying to connect/i, verdicts.busy],
  [/due to connection timeout|^timeout expired/i, verdicts.notConnected],
  [/is not queryable/i, verdicts.notConnected],
  [/does not support SSL connections/i, verdicts.untrusted],
  [/after calling end on the pool/i, verdicts.closed],
  [/not a valid URL|Wrong URL scheme/i, verdicts.other],
  // Neon's proxy refuses before it connects: https://neon.com/docs/connect/connection-errors
  [
    /endpoint (has been |is )?disabled|exceeded [^"]*\bquota\b|\bquota [^"]*exceeded|\b(endpoints?|compute|project|branch)\b[^"]* limit exceeded/i,
    verdicts.switchedOff,
  ],
  [
    /authentication failed|client password must be|Password must be a string|no such (user|database)/i,
    verdicts.access,
  ],
  [/response is too large|HTTP status 507/i, verdicts.replyTooLarge],
  [/HTTP status 413/i, verdicts.requestTooLarge],
  [/HTTP status 40[13]/i, verdicts.access],
  [
    /HTTP status 429|too many (database )?connection|no more connections allowed|failed to acquire permit|rate limit/i,
    verdicts.busy,
  ],
  [
    /couldn't connect to compute|control plane request failed|console request failed|cannot connect to server|server login/i,
    verdicts.notConnected,
  ],
  [
    /Connection terminated|Query read timeout|Error connecting to database|HTTP status 5\d\d|WebSocket failed/i,
    verdicts.lost,
  ],
]
