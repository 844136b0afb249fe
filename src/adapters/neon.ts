// The Postgres port over Neon's SQL-over-HTTP: one request a statement, no connection to keep.

import { neon } from '@neondatabase/serverless'
import { OptionError } from '../errors.ts'
import { showValue } from '../options.ts'
import { assertConnectionString } from '../db/connection-string.ts'
import type { Database } from '../db/database.ts'
import { placeOf } from '../db/redact.ts'
import { toDatabaseError } from '../db/transient.ts'

/** How to reach Neon. */
export interface NeonOptions {
  /** `postgres://user:password@host/app`; a function is called for each statement, so let it cache. */
  connectionString: string | (() => string | Promise<string>)
  /** Most requests in flight at a time; others wait in order. @default 20 */
  maxRequests?: number | undefined
  /** Seconds to wait for the reply to a statement, above 0. @default 30 */
  fetchTimeoutSeconds?: number | undefined
}

/** Defaults of `neonDatabase`, and what Neon's proxy can carry: https://neon.com/docs/serverless/serverless-driver */
export const neonDefaults = {
  maxRequests: 20,
  fetchTimeoutSeconds: 30,
  replyLimitBytes: 64 * 1024 * 1024,
} as const

/**
 * A Neon database over HTTP with `@neondatabase/serverless`: no connection to open first, nothing to close, made
 * for functions that run now and then. A reply may have 64 MB. The type parsers of the application do not matter;
 * `neonConfig.fetchEndpoint` does, for a local proxy.
 *
 * @throws {DefinitionError} when the connection string is no `postgres://` URL.
 * @throws {OptionError} when the timeout is not above 0, or `maxRequests` no whole number from 1.
 *
 * @example
 * ```ts
 * const database = neonDatabase('postgres://app:secret@ep-example-123.eu-central-1.aws.neon.tech/app')
 * ```
 */
export function neonDatabase(source: string | NeonOptions): Database {
  const {
    connectionString,
    maxRequests = neonDefaults.maxRequests,
    fetchTimeoutSeconds = neonDefaults.fetchTimeoutSeconds,
  } = typeof source === 'object' && source !== null ? source : { connectionString: source }
  if (typeof connectionString !== 'function') assertConnectionString(expected, connectionString)
  if (!(fetchTimeoutSeconds > 0)) {
    throw new OptionError(
      'fetchTimeoutSeconds',
      `fetchTimeoutSeconds must be above 0, got ${fetchTimeoutSeconds}.`,
    )
  }
  if (!Number.isInteger(maxRequests) || maxRequests < 1) {
    throw new OptionError(
      'maxRequests',
      `maxRequests must be a whole number from 1, got ${showValue(maxRequests)}.`,
    )
  }
  return {
    connections: maxRequests,
    replyLimitBytes: neonDefaults.replyLimitBytes,
    // A function may answer each caller differently.
    ...(typeof connectionString === 'string' ? { joinsEnqueues: true } : {}),
    async query({ text, values }, { signal } = {}) {
      let where = 'the given connection string'
      let sent = false
      try {
        const url = typeof connectionString === 'string' ? connectionString : await connectionString()
        where = placeOf({ connectionString: url })
        const sql = neon(url)
        const timeout = AbortSignal.timeout(fetchTimeoutSeconds * 1000)
        const fetchOptions = { signal: signal === undefined ? timeout : AbortSignal.any([timeout, signal]) }
        sent = true
        return await sql.query(text, [...values], { fetchOptions, types: asText })
      } catch (error) {
        throw toDatabaseError(error, where, { sent })
      }
    },
  }
}

/** Given with each query: the driver ignores the type parsers given to `neon()`. */
const asText = { getTypeParser: () => (value: string) => value }

const expected =
  'neonDatabase: expected a connection string such as postgres://user:password@host/database, or options with one'
