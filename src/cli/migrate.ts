// `izta migrate`: brings the schema of a database up to date, and the stored schedules with it if a file has some.
import { createIzta } from '../client/izta.ts'
import { configOf } from '../config.ts'
import type { Database } from '../db/database.ts'
import { migrate } from '../db/migrate.ts'
import { defaults } from '../defaults.ts'
import { databaseAt } from '../local/database-at.ts'
import { loadDefinitions } from './definitions.ts'
import { UsageError } from './usage-error.ts'

export interface MigrateCommand {
  readonly databaseUrl: string | undefined
  readonly schema?: string | undefined
  readonly jobs?: string | undefined
}

export async function runMigrate({ databaseUrl, schema, jobs }: MigrateCommand): Promise<void> {
  const defined = jobs === undefined ? undefined : await loadDefinitions(jobs)
  if (defined?.izta !== undefined) {
    // It knows its own database and schema.
    await using izta = defined.izta
    tell((await izta.migrate()).applied, configOf(izta).schedules?.size)
    return
  }
  if (databaseUrl === undefined) {
    throw new UsageError(
      'No database is given: set DATABASE_URL or pass --database-url postgres://user:password@host/database.',
    )
  }
  const database = databaseAt(databaseUrl)
  try {
    if (defined === undefined) tell(await applyOnly(database, schema))
    else {
      // A file without any says nothing about schedules: those of other code stay.
      const schedules = defined.schedules.length > 0 ? defined.schedules : undefined
      const izta = createIzta({ database, schema, jobs: defined.jobs, schedules })
      tell((await izta.migrate()).applied, schedules?.length)
    }
  } finally {
    await database.close?.()
  }
}

/** Without definitions: only the schema. */
async function applyOnly(database: Database, schema: string = defaults.schema): Promise<readonly string[]> {
  // The instance checks the schema's name.
  createIzta({ database, schema, jobs: [] })
  return (await migrate(database, { schema })).applied
}

/** What was applied, a line each. */
export function tell(applied: readonly string[], schedules?: number): void {
  for (const name of applied) console.log(`applied ${name}`)
  if (applied.length === 0) console.log('The schema is up to date: nothing to do.')
  if (schedules !== undefined)
    console.log(`Stored ${schedules} ${schedules === 1 ? 'schedule' : 'schedules'}.`)
}
