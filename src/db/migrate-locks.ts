// Lets a migration wait for its locks without holding up the work behind it, and tells who has them.
import { backoffMs, pause, systemClock } from '../clock.ts'
import { defaults } from '../defaults.ts'
import type { Row, Statement } from './database.ts'
import type { GatedDatabase } from './gated.ts'
import { repeat, runStatement } from './run.ts'
import { isDatabaseError } from './transient.ts'

/** A session that has locks on izta's tables, in words. */
export type LockHolder = string

const { lockTimeoutMs } = defaults.migration

/**
 * Within a migration's statement: every statement of izta waits behind a lock that the migration asks for, so it asks
 * for a short time only, and then again.
 */
export const setLockTimeout = `perform pg_catalog.set_config('lock_timeout', '${lockTimeoutMs}', true);`

/** Between two tries: what waited behind the lock goes first. */
const waitPauses = { firstMs: 1_000, longestMs: 4_000 }

export interface LockWait {
  readonly schema: string
  /** How long it is tried. @default defaults.migration.lockWaitSeconds */
  readonly lockWaitSeconds?: number | undefined
  readonly onWait: (holders: readonly LockHolder[]) => void
}

/** Sends a statement that needs strong locks, again and again while another session has them. */
export async function sendForLocks(
  database: GatedDatabase,
  statement: Statement,
  { schema, lockWaitSeconds = defaults.migration.lockWaitSeconds, onWait }: LockWait,
): Promise<void> {
  const untilMs = systemClock.now() + lockWaitSeconds * 1000
  for (let failures = 1; ; failures++) {
    try {
      await repeat(database, systemClock, () => statement, { throwsLockTimeout: true })
      return
    } catch (error) {
      if (!isDatabaseError(error) || error.code !== 'lock-timeout') throw error
      onWait(await readHolders(database, schema))
      if (systemClock.now() >= untilMs) throw error
      await pause(systemClock, backoffMs(failures, waitPauses))
    }
  }
}

// Sessions with a lock on a table of the schema for longer than a statement of izta takes, the oldest first. Reads the
// catalogs, and shows nothing of what the sessions do.
const holders = `
select a.pid, a.application_name as application, a.usename as "user", a.state,
  (date_part('epoch', clock_timestamp() - a.xact_start))::bigint as seconds
from pg_catalog.pg_stat_activity a
where a.pid <> pg_backend_pid()
  and (a.xact_start is null or a.xact_start < clock_timestamp() - interval '0.5 seconds')
  and exists (
    select from pg_catalog.pg_locks l
    join pg_catalog.pg_class c on c.oid = l.relation
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    join pg_catalog.pg_database d on d.oid = l.database
    where l.pid = a.pid and l.granted and n.nspname = $1::name and d.datname = current_database())
order by a.xact_start nulls last
limit 3`

/** Nobody, when that cannot be told: the migration goes on waiting. */
async function readHolders(database: GatedDatabase, schema: string): Promise<LockHolder[]> {
  const statement: Statement = { lane: 'quick', text: holders, values: [schema] }
  const ask = { database, clock: systemClock }
  const rows = await runStatement(ask, statement).catch((): Row[] => [])
  return rows.map(({ pid, application, user, state, seconds }) => {
    const known = [application, user === null ? null : `user ${user}`, state].filter(Boolean)
    const since = seconds === null ? '' : `, in a transaction since ${seconds} s`
    return `process ${pid} (${known.join(', ')}${since})`
  })
}
