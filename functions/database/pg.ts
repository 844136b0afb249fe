// Any Postgres over TCP: the adapter of deployments with `databaseAdapter: pg`.
export { pgDatabase as openDatabase } from '../../src/db/adapters/pg.ts'

export const replyLimitBytes: number | undefined = undefined
