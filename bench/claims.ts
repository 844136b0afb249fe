// Times single claims of the hot path against a table of the caller's making, and counts the buffers they touch.
import { randomUUID } from 'node:crypto'
import { Client } from 'pg'
import type { Database } from '../src/db/database.ts'
import { pgDatabase } from '../src/adapters/pg.ts'
import { migrate } from '../src/db/migrate.ts'
import { readTurnReply, turnStatement, type ClaimedTask } from '../src/store/turn.ts'

export interface ClaimTimes {
  readonly ms: number[]
  /** Shared buffers that one claim touches. */
  readonly buffers: number[]
}

/** A migrated database: the port that a runner uses, and a connection for everything else. */
export interface HotPath {
  readonly database: Database
  readonly client: Client
}

export async function openHotPath(url: string): Promise<HotPath & AsyncDisposable> {
  const database = pgDatabase({ connectionString: url, max: 1 })
  await migrate(database, { schema: 'izta' })
  const client = new Client({ connectionString: url })
  await client.connect()
  return {
    database,
    client,
    async [Symbol.asyncDispose]() {
      await Promise.all([database.close?.(), client.end()])
    },
  }
}

export interface Rows {
  readonly count: number
  /** Spread evenly over these. */
  readonly queues: number
  readonly priorities: number
  readonly due: 'now' | 'future'
}

/** Plain inserts, as nobody enqueues ten million future tasks in a bench. */
export async function insertTasks(client: Client, { count, queues, priorities, due }: Rows): Promise<void> {
  await client.query(
    `insert into izta.queue (name) select 'queue-' || n from generate_series(0, $1::integer - 1) n on conflict do nothing`,
    [queues],
  )
  await client.query(
    `insert into izta.task (id, queue, job, payload, priority, run_at, due_at, created_at)
     select uuidv7(), 'queue-' || n % $2::integer, 'note', '{"n":1}', (n / $2::integer) % $3::integer, at, at, now()
     from generate_series(1, $1::integer) n
     cross join lateral (select now() + case when $4 = 'now' then interval '-1 s' else n * interval '1 s' end as at) w`,
    [count, queues, priorities, due],
  )
}

/** Copies of one row that the product itself has made, whatever columns the history has. */
export async function insertHistory({ database, client }: HotPath, count: number): Promise<void> {
  if (count === 0) return
  await insertTasks(client, { count: 1, queues: 1, priorities: 1, due: 'now' })
  const turn = createTurn(randomUUID(), ['queue-0'], 604_800)
  await database.query(turn(0, readTurnReply(await database.query(turn(1, []))).claimed))
  const { rows } = await client.query<{ columns: string }>(
    `select string_agg(case column_name when 'id' then 'uuidv7()' else quote_ident(column_name) end, ', '
       order by ordinal_position) as columns
     from information_schema.columns where table_schema = 'izta' and table_name = 'history'`,
  )
  await client.query(
    `insert into izta.history select ${rows[0]?.columns} from izta.history, generate_series(1, $1::integer)`,
    [count],
  )
}

/** Builds turns of one lease: claim up to `limit`, finish what is given. */
function createTurn(lease: string, queues: readonly string[], keepSeconds: number) {
  return (limit: number, claimed: readonly ClaimedTask[]) =>
    turnStatement({
      lease,
      leaseMs: 900_000,
      queues,
      limit,
      replyBytes: 32 * 1024 * 1024,
      outcomes: claimed.map(({ id, claims }) => ({
        id,
        claims,
        kind: 'finish',
        body: null,
        delayMs: 0,
        keepSeconds,
        children: [],
      })),
      watch: [],
      floors: [],
    })
}

/** Claims `perClaim` tasks and settles them, over and over; only the claims are timed. */
export async function timeClaims(
  { database, client }: HotPath,
  { claims, perClaim, queues }: { claims: number; perClaim: number; queues: readonly string[] },
): Promise<ClaimTimes> {
  const turn = createTurn(randomUUID(), queues, 0)
  const ms: number[] = []
  // oxlint-disable no-await-in-loop -- one claim follows the other
  // The first calls plan the function's statements.
  for (let claim = -10; claim < claims; claim++) {
    const startedAt = performance.now()
    const rows = await database.query(turn(perClaim, []))
    if (claim >= 0) ms.push(performance.now() - startedAt)
    const { claimed } = readTurnReply(rows)
    if (claimed.length < perClaim) throw new Error(`a claim of ${perClaim} brought ${claimed.length}`)
    await database.query(turn(0, claimed))
  }
  const buffers: number[] = []
  for (let claim = 0; claim < 10; claim++) {
    const { text, values } = turn(perClaim, [])
    const explained = await client.query<{ 'QUERY PLAN': { Plan: Record<string, number> }[] }>(
      `explain (analyze, buffers, format json) ${text}`,
      [...values],
    )
    const plan = explained.rows[0]?.['QUERY PLAN'][0]?.Plan
    // The first call of this connection also reads the catalogue.
    if (claim > 0) buffers.push((plan?.['Shared Hit Blocks'] ?? NaN) + (plan?.['Shared Read Blocks'] ?? NaN))
  }
  return { ms, buffers }
}
