// Any Postgres over TCP: the adapter of deployments with `databaseAdapter: pg`.
import { pgDatabase } from '../../src/adapters/pg.ts'
import { tlsFor } from './tls.ts'

export const openDatabase = (connectionString: string) =>
  pgDatabase({ connectionString, ssl: tlsFor(connectionString) })

export const replyLimitBytes: number | undefined = undefined
