// Neon over HTTP: the adapter of deployments with `databaseAdapter: neon`.
import { neonDefaults } from '../../src/db/adapters/neon.ts'

export { neonDatabase as openDatabase } from '../../src/db/adapters/neon.ts'

export const { replyLimitBytes } = neonDefaults
