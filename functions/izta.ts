// The izta instance of this deployment, made from its environment: DATABASE_URL, IZTA_APP, IZTA_DEPLOYED_AT.
import { environment } from '../src/config.ts'
import { neonDatabase } from '../src/db/adapters/neon.ts'
import { pgDatabase } from '../src/db/adapters/pg.ts'
import { createIzta, DefinitionError, type Database } from '../src/index.ts'
import { jobs, schedules } from './jobs/index.ts'

export const izta = createIzta({ database: databaseAt(environment('DATABASE_URL')), jobs, schedules })

/** Neon over HTTP, which needs no connection; any other Postgres over TCP. */
function databaseAt(url: string | undefined): Database {
  if (url === undefined) {
    throw new DefinitionError(
      'DATABASE_URL is not set: give the function the connection string of its Postgres.',
    )
  }
  const isNeon = URL.parse(url)?.hostname.endsWith('.neon.tech') === true
  return isNeon ? neonDatabase(url) : pgDatabase(url)
}
