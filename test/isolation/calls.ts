// The calls of clients and runners, as single statements for a session of an isolation test.
import type { Database } from '../../src/db/database.ts'
import { cancelStatement, readCancelReply } from '../../src/store/cancel.ts'
import { enqueueStatement, readEnqueueReply, type EnqueueReply } from '../../src/store/enqueue.ts'
import type { NewTask } from '../../src/job/prepare.ts'
import { readTurnReply, turnStatement, type TurnRequest } from '../../src/store/turn.ts'
import type { Call } from './interleaving.ts'

export const queue = 'tested'
export const failure = '{"code":"thrown","attempt":1,"class":"Error","message":"no"}'

/** One turn, as a runner sends it. */
export async function takeTurn(database: Database, request: Partial<TurnRequest> & { lease: string }) {
  const statement = turnStatement({
    leaseMs: 60_000,
    queues: [queue],
    limit: 0,
    replyBytes: 1024 * 1024,
    outcomes: [],
    watch: [],
    ranges: [],
    ...request,
  })
  return readTurnReply(await database.query(statement))
}
export type Reply = Awaited<ReturnType<typeof takeTurn>>

export const claimIds = (reply: unknown) => (reply as Reply).claimed.map(({ id }) => id)
export const unsettled = (reply: unknown) => (reply as Reply).unsettled

export const cancelOf: (id: string) => Call<unknown> = (id) => async (database) => {
  const keep = { jobs: '{}', seconds: '{}', fallbackSeconds: 3600 }
  return readCancelReply(await database.query(cancelStatement([id], keep)), id)
}

/** One enqueue that may be a repeat, as the client sends it. */
export const enqueueCall = async (database: Database, tasks: readonly NewTask[]): Promise<EnqueueReply> =>
  readEnqueueReply(await database.query(enqueueStatement(tasks)))

export const refusals = (reply: unknown) => (reply as EnqueueReply).refused
