// Neon over HTTP: the adapter of deployments with `database: neon`.
import { neonDefaults } from '../../src/db/adapters/neon.ts'

export { neonDatabase as openDatabase } from '../../src/db/adapters/neon.ts'

export const { replyLimitBytes } = neonDefaults
