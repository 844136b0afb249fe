// What the child processes share: their settings, their clocks, and a logger that says nothing.
import { neonConfig } from '@neondatabase/serverless'
import { neonDatabase } from '../../src/db/adapters/neon.ts'
import { pgDatabase } from '../../src/db/adapters/pg.ts'
import type { Database, Logger } from '../../src/index.ts'

export interface ChildSettings {
  /** Through a proxy, PgBouncer or the HTTP endpoint. */
  readonly url: string
  readonly overHttp: boolean
  /** Straight to the server. */
  readonly ledgerUrl: string
  /** Old runners do not know the newest job. */
  readonly generation: 'old' | 'new'
  /** How far the wall clock is wrong, to one side and to the other by turns. */
  readonly clockErrorMs: number
  readonly seed: number
}

const RealDate = Date

/** The wall clock of the machine, whatever this process's own says. */
export const machineNow = () => RealDate.now()

export function childSettings(): ChildSettings {
  const settings = JSON.parse(process.argv[2] ?? '{}') as ChildSettings
  if (settings.clockErrorMs > 0) setClockWrong(settings.clockErrorMs)
  return settings
}

const jumpMs = 5000

/** It jumps every so often. */
function setClockWrong(errorMs: number): void {
  const now = () => RealDate.now() + (Math.floor(performance.now() / jumpMs) % 2 === 0 ? errorMs : -errorMs)
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, given: [], newTarget) =>
      Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget) as object,
    get: (target, name, receiver) =>
      name === 'now' ? now : (Reflect.get(target, name, receiver) as unknown),
  })
}

export function openDatabase({ url, overHttp }: ChildSettings): Database {
  if (!overHttp) {
    return pgDatabase({ connectionString: url, max: 3, query_timeout: 1500, connectionTimeoutMillis: 1000 })
  }
  neonConfig.fetchEndpoint = (host, port) => `http://${host}:${port}/sql`
  return neonDatabase({ connectionString: url, fetchTimeoutSeconds: 1.5 })
}

const nothing = () => undefined
export const quiet: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
