// Queues and the upkeep of tables: rows that appear by themselves, pausing, wakes after lost wakes, pruning.
import { createIzta, defineJob } from 'izta'
import { expect, test } from 'vitest'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import { pruneStatement, readPruned } from '../../src/store/prune.ts'
import {
  readNames,
  readWaiting,
  registerQueuesStatement,
  wakeDueStatement,
  wakeQueueStatement,
} from '../../src/store/queues.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, newLease, newTask, newTasks, outcome, settle } from './statements.ts'

const { database, pool, connect } = await testDatabase()
const woken: string[] = []
const izta = createIzta({
  database,
  jobs: [defineJob({ id: 'job' })],
  wake: { wake: (queue) => void woken.push(queue) },
})
const names = async () => (await izta.queues.list()).map(({ name }) => name)

test('a queue that only statements inside transactions have used is found', async () => {
  for (const queue of ['x', 'y', 'z']) {
    await database.query(enqueueOnlyStatement(newTasks(20, { queue })))
  }
  expect(await names()).toEqual(['x', 'y', 'z'])
  const { rows } = await pool.query('select from izta.queue')
  expect(rows).toEqual([])
  await database.query(registerQueuesStatement(['code']))
  expect(await names()).toEqual(['code', 'x', 'y', 'z'])
})

test('eight first enqueues into a new queue at once make one row', async () => {
  await Promise.all(Array.from({ length: 8 }, () => enqueue(database, [newTask({ queue: 'first' })])))
  expect((await names()).filter((name) => name === 'first')).toHaveLength(1)
})

test('the list tells what is due and since when, without what runs', async () => {
  const runAt = new Date(Date.now() - 5000)
  await enqueue(database, [
    ...newTasks(3, { queue: 'due', runAt }),
    newTask({ queue: 'due', delayMs: 60_000 }),
  ])
  await claim(database, 1, { queues: ['due'] })
  const due = (await izta.queues.list()).find(({ name }) => name === 'due')
  expect(due).toEqual({ name: 'due', paused: false, due: 2, oldestDueAt: runAt })
})

test('resuming a queue wakes a runner, pausing wakes nobody', async () => {
  woken.length = 0
  await izta.queues.pause('stop')
  await izta.wake('stop')
  expect(woken).toEqual([])
  await izta.queues.resume('stop')
  expect(woken).toEqual(['stop'])
})

test('a wake by hand is sent once a second, and does not wait for a locked mark', async () => {
  const wake = async () => readNames(await database.query(wakeQueueStatement('by-hand')))
  expect(await wake()).toEqual(['by-hand'])
  expect(await wake()).toEqual([])
  const stranger = await connect()
  await stranger.query("begin; update izta.queue set woken_at = '-infinity' where name = 'by-hand'")
  expect(await wake()).toEqual([])
  await stranger.query('commit')
  await stranger.query("begin; select from izta.queue where name = 'by-hand' for update")
  expect(await wake()).toEqual(['by-hand'])
  await stranger.query('rollback')
})

test('a tick finds queues with due tasks whose wake was lost, and only those', async () => {
  await pool.query("truncate izta.task; update izta.queue set woken_at = '-infinity', paused = false")
  await enqueue(database, [
    newTask({ queue: 'lost-wake', priority: 9 }),
    newTask({ queue: 'in-time' }),
    newTask({ queue: 'stopped' }),
    newTask({ queue: 'later', delayMs: 60_000 }),
  ])
  await izta.queues.pause('stopped')
  await pool.query(
    "update izta.queue set woken_at = izta.now() - interval '5 seconds' where name <> 'in-time'",
  )
  await pool.query("update izta.queue set woken_at = izta.now() + interval '900 ms' where name = 'in-time'")
  const wakeDue = async () =>
    readWaiting(await database.query(wakeDueStatement(0)))
      .filter(({ wake }) => wake)
      .map(({ queue }) => queue)
  expect(await wakeDue()).toEqual(['lost-wake'])
  expect(await wakeDue()).toEqual([])
})

test('pruning takes what has expired, a bounded number at once, and no row that somebody holds', async () => {
  await enqueue(database, newTasks(30, { queue: 'pruned' }))
  const lease = newLease()
  const claimed = await claim(database, 30, { lease, queues: ['pruned'] })
  await settle(
    database,
    lease,
    claimed.map((task, index) => outcome(task, 'finish', { keepSeconds: index < 20 ? 60 : 86_400 })),
  )
  const prune = async (rows: number) => readPruned(await database.query(pruneStatement(rows)))
  expect(await prune(100)).toBe(0)
  await pool.query(
    "update izta.history set expires_at = izta.now() where expires_at < izta.now() + interval '1 hour'",
  )
  const retrying = await connect()
  await retrying.query('begin')
  await retrying.query('select from izta.history where id = $1 for update', [claimed[0]!.id])
  expect(await prune(15)).toBe(15)
  expect(await prune(15)).toBe(4)
  await retrying.query('commit')
  expect(await Promise.all([prune(15), prune(15)])).toEqual(expect.arrayContaining([0, 1]))
  const { rows } = await pool.query("select count(*)::int as left from izta.history where queue = 'pruned'")
  expect(rows).toEqual([{ left: 10 }])
})

test('the prune removes rows of queues that were not used for a day, and none of a definition', async () => {
  await pool.query(
    `insert into izta.queue (name, paused, used_at)
    select name, name = 'old-paused', izta.now() - interval '2 days'
    from unnest('{old,old-paused,old-defined}'::text[]) name`,
  )
  await database.query(registerQueuesStatement(['old-defined']))
  await database.query(pruneStatement(10))
  expect((await names()).filter((name) => name.startsWith('old'))).toEqual(['old-defined', 'old-paused'])
})
