// Neon over HTTP: the adapter of deployments with `databaseAdapter: neon`.
import { neonDefaults } from '../../src/adapters/neon.ts'

export { neonDatabase as openDatabase } from '../../src/adapters/neon.ts'

export const { replyLimitBytes } = neonDefaults
