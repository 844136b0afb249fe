// Sends the store's statements for its tests, over a pool or over one connection whose transaction stays open.
import type { Client, Pool } from 'pg'
import { uuidv7 } from 'uuidv7'
import { systemClock } from '../../src/clock.ts'
import type { Database, Row } from '../../src/db/database.ts'
import { throughGate } from '../../src/db/gated.ts'
import { repeat } from '../../src/db/run.ts'
import { isDatabaseError } from '../../src/db/transient.ts'
import { enqueueStatement, readEnqueueReply } from '../../src/store/enqueue.ts'
import type { NewTask } from '../../src/job/prepare.ts'
import {
  readTurnReply,
  turnStatement,
  type ClaimedTask,
  type Outcome,
  type OutcomeKind,
  type TurnReply,
  type TurnRequest,
} from '../../src/store/turn.ts'

/** A new lease id; one per runner. */
export const newLease = (): string => crypto.randomUUID()

export function newTask(facts: Partial<NewTask> = {}): NewTask {
  const { key } = facts
  return {
    id: uuidv7(),
    queue: 'default',
    job: 'job',
    payload: 'null',
    priority: 5,
    maxAttempts: 3,
    delayMs: 0,
    runAt: undefined,
    key: undefined,
    keyUntil: key === undefined ? undefined : 'finished',
    ...facts,
  }
}

export const newTasks = (count: number, facts: Partial<NewTask> = {}): NewTask[] =>
  Array.from({ length: count }, () => newTask(facts))

export const outcome = (task: ClaimedTask, kind: OutcomeKind, facts: Partial<Outcome> = {}): Outcome => ({
  id: task.id,
  claims: task.claims,
  kind,
  body: null,
  delayMs: 0,
  keepSeconds: 3600,
  children: [],
  ...facts,
})

export async function enqueue(database: Database, tasks: readonly NewTask[]) {
  if (tasks.length === 0) return readEnqueueReply([{ reply: null }])
  const { rows } = await repeat(throughGate(database), systemClock, () => enqueueStatement(tasks))
  return readEnqueueReply(rows)
}

export async function turn(database: Database, request: Partial<TurnRequest>): Promise<TurnReply> {
  const statement = turnStatement({
    lease: newLease(),
    leaseMs: 60_000,
    queues: [],
    limit: 0,
    replyBytes: 1024 * 1024,
    outcomes: [],
    watch: [],
    ranges: [],
    ...request,
  })
  const { rows } = await repeat(throughGate(database), systemClock, () => statement)
  return readTurnReply(rows)
}

export async function claim(database: Database, limit: number, request: Partial<TurnRequest> = {}) {
  const { claimed } = await turn(database, { limit, ...request })
  return claimed
}

export const settle = (database: Database, lease: string, outcomes: readonly Outcome[]): Promise<TurnReply> =>
  turn(database, { lease, outcomes })

/** The port over one connection, so that its statements belong to the transaction that is open there. */
export function onConnection(client: Client): Database {
  return {
    async query({ text, values }) {
      const types = { getTypeParser: () => (value: string) => value }
      const { rows } = await client.query<Row>({ text, values: [...values], types })
      return rows
    },
  }
}

/** Counts what the database refused, repeats included: no deadlock may hide behind a repeat. */
export function countingErrors(database: Database): Database & { readonly states: string[] } {
  const states: string[] = []
  return {
    ...database,
    states,
    query: (statement) =>
      database.query(statement).catch((error: unknown) => {
        states.push(isDatabaseError(error) ? (error.sqlState ?? 'none') : 'unknown')
        throw error
      }),
  }
}

export async function pidOf(client: Client): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return rows[0]!.pid
}

/** Resolves once `count` other connections wait for a lock that the connection holds. */
export async function untilBlockedBy(pool: Pool, pid: number, count = 1): Promise<void> {
  for (let look = 0; look < 2000; look++) {
    // oxlint-disable-next-line no-await-in-loop -- until they wait; nothing announces it
    const { rows } = await pool.query<{ waiting: number }>(
      'select count(*)::int as waiting from pg_stat_activity where $1 = any (pg_blocking_pids(pid))',
      [pid],
    )
    if (rows[0]!.waiting >= count) return
  }
  throw new Error(`Nobody waits for connection ${pid}.`)
}

/** Lets every lease that is running now be over. */
export async function expireLeases(pool: Pool): Promise<void> {
  await pool.query("update izta.task set run_at = izta.now() - interval '1 second' where lease is not null")
}
