// What statements read next to a large table, with plans that a session made while the table was empty: the normal state
// of a queue when its statistics are taken. A set that is joined freely with a table makes such a plan read all of it.
import { beforeEach, expect, test } from 'vitest'
import { uuidv7 } from 'uuidv7'
import type { Statement } from '../../src/db/database.ts'
import { cancelStatement } from '../../src/store/cancel.ts'
import { nextAlarmStatement } from '../../src/store/due.ts'
import { enqueueOnlyStatement, enqueueStatement, keyHolderStatement } from '../../src/store/enqueue.ts'
import { earlierSlotStatement, getStatement, statusStatement } from '../../src/store/inspect.ts'
import { pruneStatement } from '../../src/store/prune.ts'
import { wakeDueStatement, wakeQueueStatement } from '../../src/store/queues.ts'
import { heldStatement, releaseHeldStatement } from '../../src/store/recover.ts'
import { retryStatement } from '../../src/store/retry.ts'
import { turnStatement, type OutcomeKind } from '../../src/store/turn.ts'
import { testDatabase } from '../support/database.ts'
import { newLease, newTask, newTasks } from './statements.ts'

const { pool, connect } = await testDatabase()
const rows = 100_000
const lease = newLease()
const batch = 20
const ids = Array.from({ length: batch }, () => uuidv7())
const ended = uuidv7()

const outcomes = (kind: OutcomeKind) =>
  ids.map((id) => ({
    id,
    claims: 1,
    kind,
    body: kind === 'finish' ? null : '{"code":"thrown"}',
    delayMs: 0,
    keepSeconds: 60,
    children: [],
  }))
const turn = {
  lease,
  leaseMs: 60_000,
  queues: [],
  limit: 0,
  replyBytes: 1e6,
  outcomes: [],
  watch: [],
  ranges: [],
}
const retention = { jobs: '{}', seconds: '{}', fallbackSeconds: 60 }
const held = { lease, leaseMs: 60_000, except: [] }

/** Each with the most buffers that one call may touch: index levels and pages of the rows that it is about. */
const statements: Readonly<Record<string, [Statement, number]>> = {
  'an enqueue of one task': [enqueueStatement([newTask()]), 60],
  'an enqueue of 20 tasks': [enqueueStatement(newTasks(batch)), 900],
  'an enqueue of 20 tasks with keys': [
    enqueueStatement(Array.from({ length: batch }, (_, n) => newTask({ key: `new-${n}` }))),
    1200,
  ],
  'an enqueue whose ids have been used': [
    enqueueStatement([newTask({ id: ended, idWasGiven: true }), newTask({ id: ids[0]!, idWasGiven: true })]),
    300,
  ],
  'an enqueue inside a transaction': [enqueueOnlyStatement([newTask()]), 100],
  'the holder of a key': [keyHolderStatement('job', 'none'), 20],
  'a claim that finds nothing': [turnStatement({ ...turn, limit: 10 }), 60],
  'a claim with a look at what is due soon': [turnStatement({ ...turn, limit: 10, lingerMs: 60_000 }), 120],
  'a settle of 20 that finish': [turnStatement({ ...turn, outcomes: outcomes('finish') }), 1500],
  'a settle of 20 that are retried': [turnStatement({ ...turn, outcomes: outcomes('retry') }), 1500],
  'a settle of 20 that fail': [turnStatement({ ...turn, outcomes: outcomes('fail') }), 1500],
  'a watch of 20': [turnStatement({ ...turn, watch: ids }), 150],
  'a cancel of 20': [cancelStatement(ids, retention), 2000],
  'a cancel of a waiting task': [cancelStatement([ended], retention), 150],
  'a retry': [retryStatement(ended, true), 250],
  'what a lease holds': [heldStatement(held), 200],
  'handing back what a lease holds': [releaseHeldStatement(held), 800],
  'a tick of the queues': [wakeDueStatement(60), 300],
  'a wake': [wakeQueueStatement('default'), 60],
  'the next alarm': [nextAlarmStatement, 100],
  'a pruning of 20 rows': [pruneStatement(batch), 500],
  get: [getStatement(ids[0]!), 30],
  status: [statusStatement(ids[0]!), 30],
  'an earlier slot': [earlierSlotStatement('none', new Date(), uuidv7()), 20],
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
})

async function fill(count: number): Promise<void> {
  await pool.query(
    `insert into izta.task (id, queue, job, payload, priority, run_at, due_at, max_attempts, created_at)
    select gen_random_uuid(), 'q' || n % 7, 'job', '{}', n % 10, now() + interval '1 day' + n * interval '1 s',
      now(), 3, now() from generate_series(1, $1::integer) n`,
    [count],
  )
  await pool.query(
    `insert into izta.history (id, queue, job, status, payload, priority, attempt, max_attempts, losses, claims,
      created_at, due_at, finished_at, expires_at)
    select gen_random_uuid(), 'q' || n % 7, 'job', 'finished', '{}', 5, 1, 3, 0, 1, now(), now(), now(),
      now() + n * interval '1 s' from generate_series(1, $1::integer) n`,
    [count],
  )
}

test.for([0, 1])(
  'no statement reads more for 100,000 other rows, with plans made for %i rows',
  { timeout: 60_000 },
  async (counted) => {
    await fill(counted)
    await pool.query('analyze izta.task, izta.history, izta.queue, izta.schedule')
    await pool.query(
      `insert into izta.task (id, queue, job, payload, priority, lease, claims, run_at, due_at, max_attempts, created_at)
      select id, 'default', 'job', '{}', 5, $2, 1, now() + interval '1 min', now(), 3, now() from unnest($1::uuid[]) id`,
      [ids, lease],
    )
    await pool.query(
      `insert into izta.history (id, queue, job, status, payload, priority, attempt, max_attempts, losses, claims,
        created_at, due_at, finished_at, expires_at)
      values ($1, 'default', 'job', 'failed', '{}', 5, 1, 3, 0, 1, now(), now(), now(), now() + interval '1 day')`,
      [ended],
    )
    const session = await connect()
    const touched = async ({ text, values }: Statement): Promise<number> => {
      await session.query('begin')
      const answer = await session.query<{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }>(
        `explain (analyze, buffers, format json, timing off, summary off) ${text}`,
        [...values],
      )
      await session.query('rollback')
      const { Plan } = answer.rows[0]!['QUERY PLAN'][0]
      return Plan['Shared Hit Blocks']! + Plan['Shared Read Blocks']!
    }
    // The plans of functions are made here, and kept by the session.
    for (const [statement] of Object.values(statements)) await touched(statement)
    await fill(rows)
    const above: string[] = []
    for (const [name, [statement, most]] of Object.entries(statements)) {
      // The smaller of two: the first may clear away what the server has left behind elsewhere.
      const buffers = Math.min(await touched(statement), await touched(statement))
      if (buffers > most) above.push(`${name}: ${buffers}, more than ${most}`)
    }
    expect(above).toEqual([])
  },
)
