// What the child processes share: their settings, their clocks, and a logger that says nothing.
import { flushCompileCache } from 'node:module'
import { neonConfig } from '@neondatabase/serverless'
import { neonDatabase } from '../../src/adapters/neon.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
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
  /** A runner's invocations wait for triggers, instead of following each other. */
  readonly asleep: boolean
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

export function openDatabase(settings: ChildSettings): Database {
  // Few processes live to their orderly end, at which it would be written.
  flushCompileCache()
  const database = adapterOf(settings)
  return {
    ...database,
    async query(statement) {
      await dieIfTold('before')
      const rows = await database.query(statement)
      await dieIfTold('after')
      return rows
    },
  }
}

function adapterOf({ url, overHttp }: ChildSettings): Database {
  if (!overHttp) {
    return pgDatabase({ connectionString: url, max: 3, query_timeout: 1500, connectionTimeoutMillis: 1000 })
  }
  neonConfig.fetchEndpoint = (host, port) => `http://${host}:${port}/sql`
  return neonDatabase({ connectionString: url, fetchTimeoutSeconds: 1.5 })
}

let diesAt: 'before' | 'after' | undefined

process.on('message', ({ atStatement }: { atStatement?: 'before' | 'after' }) => {
  diesAt ??= atStatement
})

/** At the boundary of a statement that it was told, after a word to the harness. */
async function dieIfTold(boundary: 'before' | 'after'): Promise<void> {
  if (diesAt !== boundary) return
  await sendUp({ signal: 'SIGKILL' })
  process.kill(process.pid, 'SIGKILL')
}

/** Resolves when the message is on its way to the harness. */
export const sendUp = (message: object) => new Promise((sent) => process.send?.(message, sent))

const nothing = () => undefined
export const quiet: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
