// Chooses the adapter for a connection string.
import { neonDatabase } from '../adapters/neon.ts'
import { pgDatabase } from '../adapters/pg.ts'
import type { Database } from '../db/database.ts'

/** Neon over HTTP, which keeps no connection; any other Postgres over TCP. */
export function databaseAt(url: string): Database {
  const isNeon = URL.parse(url)?.hostname.endsWith('.neon.tech') === true
  return isNeon ? neonDatabase(url) : pgDatabase(url)
}
