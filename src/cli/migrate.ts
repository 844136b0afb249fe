// `izta migrate`: brings the schema of a database up to date, with the stored schedules and the roles if asked for.
import { createIzta, type Izta } from '../client/izta.ts'
import { configOf } from '../config.ts'
import { migrate, type MigrationWait } from '../db/migrate.ts'
import type { StoredSchedules } from '../scheduler/sync.ts'
import { databaseAt } from '../local/database-at.ts'
import { loadDefinitions } from './definitions.ts'
import { UsageError } from './usage-error.ts'

export interface MigrateCommand {
  readonly databaseUrl: string | undefined
  readonly schema?: string | undefined
  readonly jobs?: string | undefined
  readonly roles?: boolean | undefined
}

interface MigrateReport {
  readonly applied: readonly string[]
  readonly schedules?: StoredSchedules | undefined
}

export async function runMigrate({ databaseUrl, schema, jobs, roles }: MigrateCommand): Promise<void> {
  const defined = jobs === undefined ? undefined : await loadDefinitions(jobs)
  if (defined?.izta !== undefined) {
    // It knows its own database and schema.
    await using izta = defined.izta
    tell(await izta.migrate())
    if (roles === true) await makeRoles(izta)
    return
  }
  if (databaseUrl === undefined) {
    throw new UsageError(
      'No database is given: set DATABASE_URL or pass --database-url postgres://user:password@host/database.',
    )
  }
  const database = databaseAt(databaseUrl)
  try {
    // A file without any says nothing about schedules: those of other code stay.
    const schedules = defined !== undefined && defined.schedules.length > 0 ? defined.schedules : undefined
    // The instance checks the schema's name.
    const izta = createIzta({ database, schema, jobs: defined?.jobs ?? [], schedules })
    if (defined === undefined) tell({ applied: await applyOnly(izta) })
    else tell(await izta.migrate())
    if (roles === true) await makeRoles(izta)
  } finally {
    await database.close?.()
  }
}

/** Without definitions: only the schema. */
async function applyOnly(izta: Izta): Promise<readonly string[]> {
  const { givenDatabase, schema } = configOf(izta)
  return (await migrate(givenDatabase, { schema, onWait: tellWait })).applied
}

async function makeRoles(izta: Izta): Promise<void> {
  const { givenDatabase, schema } = configOf(izta)
  await migrate(givenDatabase, { schema, roles: true })
  console.log(`Granted ${schema}_enqueue, ${schema}_run and ${schema}_read what each needs.`)
}

function tellWait({ migration, holders }: MigrationWait): void {
  const who = holders.length === 0 ? 'another session' : holders.join(', ')
  console.error(`${migration} waits for a lock held by ${who}`)
}

/** One line per migration that was applied, and what became of the schedules in code. */
export function tell({ applied, schedules }: MigrateReport): void {
  for (const name of applied) console.log(`applied ${name}`)
  if (applied.length === 0) console.log('The schema is up to date: nothing to do.')
  if (schedules === undefined) return
  const { stored, removed, leftOut } = schedules
  console.log(`Stored ${stored.length} ${stored.length === 1 ? 'schedule' : 'schedules'}.`)
  if (removed.length > 0) console.log(`Removed ${removed.join(', ')}.`)
  for (const { message } of leftOut) console.error(message)
}
