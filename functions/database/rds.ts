// RDS and Aurora over TCP, as a database user without a password: the adapter of deployments with `databaseAdapter: rds`.
import { rdsToken } from '../../src/aws/rds-token.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { tlsFor } from './tls.ts'

export const openDatabase = (connectionString: string) =>
  pgDatabase({ connectionString, ssl: tlsFor(connectionString), password: rdsToken() })

export const replyLimitBytes: number | undefined = undefined
