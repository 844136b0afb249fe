// Waiting behind a stranger's lock: the server gives up before the client does, so that no backends pile up there.
import { expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { isDatabaseError } from '../../src/db/transient.ts'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, newLease, newTask, onConnection, outcome, settle } from './statements.ts'

const { database, pool, connect } = await testDatabase()

test.each(['turn_1', 'enqueue_1', 'enqueue_task_1', 'cancel_tasks_1', 'retry_task_1'])(
  '%s gives up a lock before any adapter gives up the answer',
  async (name) => {
    const { rows } = await pool.query(`select proconfig from pg_proc where oid = 'izta.${name}'::regproc`)
    expect(rows[0]?.proconfig).toContain('lock_timeout=2s')
  },
)

/** The database; `first` resolves with the first thing that it refuses. */
function refusals() {
  const first = Promise.withResolvers<string>()
  const watched: Database = {
    query: (statement) =>
      database.query(statement).catch((error: unknown) => {
        const code = isDatabaseError(error) ? `${error.code}, ${error.outcome}` : 'unknown'
        first.resolve(code)
        throw error
      }),
  }
  return { watched, first: first.promise }
}

test('an enqueue that waits too long for a key is given up by the server and sent again', async () => {
  await pool.query("alter function izta.enqueue_task_1 set lock_timeout = '100ms'")
  const stranger = await connect()
  await stranger.query('begin')
  await onConnection(stranger).query(enqueueOnlyStatement([newTask({ key: 'held' })]))
  const { watched, first } = refusals()
  const task = newTask({ key: 'held' })
  const waiting = enqueue(watched, [task])
  expect(await first).toBe('lock-timeout, not-applied')
  await stranger.query('rollback')
  expect((await waiting).refused).toEqual([])
})

test('a settle that waits too long for its task is given up by the server and sent again', async () => {
  await pool.query("alter function izta.turn_1 set lock_timeout = '100ms'")
  await enqueue(database, [newTask({ queue: 'locked' })])
  const lease = newLease()
  const [task] = await claim(database, 1, { lease, queues: ['locked'] })
  const stranger = await connect()
  await stranger.query('begin')
  await stranger.query('select from izta.task where id = $1 for update', [task!.id])
  const { watched, first } = refusals()
  const waiting = settle(watched, lease, [outcome(task!, 'finish')])
  expect(await first).toBe('lock-timeout, not-applied')
  await stranger.query('rollback')
  expect((await waiting).unsettled).toEqual([])
})
