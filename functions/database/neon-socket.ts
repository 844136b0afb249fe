// Neon over WebSockets: the adapter of deployments with `databaseAdapter: neon-socket`.
export { neonSocketDatabase as openDatabase } from '../../src/adapters/neon-socket.ts'

export const replyLimitBytes: number | undefined = undefined
