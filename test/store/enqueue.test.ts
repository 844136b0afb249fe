// Enqueue as SQL: all or nothing, safe to repeat, and a wake that is neither lost nor waits for strangers.
import { createIzta, defineJob } from 'izta'
import { describe, expect, test } from 'vitest'
import { defaults } from '../../src/defaults.ts'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import type { NewTask } from '../../src/job/prepare.ts'
import { registerQueuesStatement, setQueuePausedStatement } from '../../src/store/queues.ts'
import { testDatabase } from '../support/database.ts'
import {
  claim,
  countingErrors,
  enqueue,
  newLease,
  newTask,
  newTasks,
  onConnection,
  outcome,
  pidOf,
  settle,
  turn,
  untilBlockedBy,
} from './statements.ts'

const { database, pool, connect } = await testDatabase()
const deep = defaults.nestingLimit

async function stored(id: string): Promise<{ task: number; history: number }> {
  const { rows } = await pool.query<{ task: number; history: number }>(
    `select (select count(*)::int from izta.task where id = $1) as task,
      (select count(*)::int from izta.history where id = $1) as history`,
    [id],
  )
  return rows[0]!
}

async function runToEnd(queue: string, keepSeconds = 3600): Promise<void> {
  const lease = newLease()
  const claimed = await claim(database, 10, { lease, queues: [queue] })
  await settle(
    database,
    lease,
    claimed.map((task) => outcome(task, 'finish', { keepSeconds })),
  )
}

test('a repeated enqueue makes nothing while the task waits, runs, or has finished', async () => {
  const task = newTask({ queue: 'repeat' })
  await enqueue(database, [task])
  expect((await enqueue(database, [task])).refused).toEqual([{ index: 0, id: task.id, status: 'pending' }])
  const lease = newLease()
  const [running] = await claim(database, 1, { lease, queues: ['repeat'] })
  expect((await enqueue(database, [task])).refused).toEqual([{ index: 0, id: task.id, status: 'running' }])
  await settle(database, lease, [outcome(running!, 'finish')])
  expect((await enqueue(database, [task])).refused).toEqual([{ index: 0, id: task.id, status: 'finished' }])
  expect(await stored(task.id)).toEqual({ task: 0, history: 1 })
})

test('the bare row of a task that keeps nothing stops a repeat as well', async () => {
  const task = newTask({ queue: 'bare' })
  await enqueue(database, [task])
  await runToEnd('bare', 0)
  expect((await enqueue(database, [task])).refused).toEqual([{ index: 0, id: task.id, status: 'finished' }])
  expect(await stored(task.id)).toEqual({ task: 0, history: 1 })
})

test('a repeat is told of its own ended task, not of a later one with its key', async () => {
  const first = newTask({ queue: 'own', key: 'own' })
  await enqueue(database, [first])
  await runToEnd('own')
  await enqueue(database, [newTask({ queue: 'own', key: 'own' })])
  const { refused } = await enqueue(database, [first])
  expect(refused).toEqual([{ index: 0, id: first.id, status: 'finished' }])
})

test('one bad task of a call keeps all of it out', async () => {
  const [good, bad] = [newTask(), newTask({ payload: '{' })]
  await expect(enqueue(database, [good, bad])).rejects.toMatchObject({ code: 'data-refused' })
  expect(await stored(good.id)).toEqual({ task: 0, history: 0 })
})

test('NUL in a text is refused, not cut off', async () => {
  await expect(enqueue(database, [newTask({ key: 'a\0b' })])).rejects.toMatchObject({ code: 'data-refused' })
})

test.for([
  ['quotes, backslashes and braces', '{"a":"\\"{},\\\\NULL\\n"}'],
  ['the escape of NUL', '"\\u0000"'],
  ['a lone surrogate', '"\\ud800 and \\udc00"'],
  ['numbers beyond a double', '[1e400,-1e-400,123456789012345678901234567890]'],
  ['5,000 arrays in each other', `${'['.repeat(5000)}${']'.repeat(5000)}`],
  ['5,000 objects in each other', `${'{"a":'.repeat(5000)}1${'}'.repeat(5000)}`],
  ['as many levels as payloads may have', `${'[{"a":'.repeat(deep / 2)}1${'}]'.repeat(deep / 2)}`],
  ['a text that means null in an array literal', '"NULL"'],
  ['white space', ' { "b" : 1 ,\n "a" : 2 } '],
])('JSON is stored and claimed byte for byte: %s', async ([, payload]) => {
  const task = newTask({ queue: 'verbatim', payload: payload! })
  await enqueue(database, [task])
  const lease = newLease()
  const claimed = await claim(database, 10, { lease, queues: ['verbatim'] })
  expect(claimed.map((one) => one.payload)).toEqual([payload])
  await settle(database, lease, [outcome(claimed[0]!, 'finish', { body: payload! })])
  const { rows } = await pool.query('select payload::text, result::text from izta.history where id = $1', [
    task.id,
  ])
  expect(rows).toEqual([{ payload, result: payload }])
})

test('two bulk calls that share keys and ids in opposite orders do not deadlock', async () => {
  const counted = countingErrors(database)
  const keys = Array.from({ length: 50 }, (_, index) => `mixed-${index}`)
  for (let round = 0; round < 5; round++) {
    const calls = [keys, keys.toReversed(), keys, keys.toReversed()].map((order) =>
      enqueue(
        counted,
        order.map((key) => newTask({ queue: 'mixed', job: `round-${round}`, key })),
      ),
    )
    const replies = await Promise.all(calls)
    expect(replies.reduce((sum, { refused }) => sum + refused.length, 0)).toBe(150)
  }
  expect(counted.states).toEqual([])
})

test('only the first enqueue within a second wakes a runner', async () => {
  expect(await enqueue(database, [newTask({ queue: 'once' })])).toMatchObject({ wake: ['once'] })
  expect(await enqueue(database, [newTask({ queue: 'once' })])).toMatchObject({ wake: [] })
  await pool.query("update izta.queue set woken_at = izta.now() - interval '2 seconds' where name = 'once'")
  expect(await enqueue(database, [newTask({ queue: 'once' })])).toMatchObject({ wake: ['once'] })
  const { rows } = await pool.query(
    "select woken_at > izta.now() - interval '1 second' as fresh from izta.queue where name = 'once'",
  )
  expect(rows).toEqual([{ fresh: true }])
})

test('a task of the future wakes nobody and tells its instant', async () => {
  const runAt = new Date(Date.now() + 3_600_000)
  const { wake, laterAt } = await enqueue(database, [newTask({ queue: 'future', runAt })])
  expect({ wake, laterAt }).toEqual({ wake: [], laterAt: runAt })
})

test('one call for queues of every kind wakes those that are due and were not woken, and makes the new ones', async () => {
  await pool.query(`insert into izta.queue (name, paused, woken_at) values
    ('of-stale', false, '-infinity'), ('of-fresh', false, now()), ('of-paused', true, '-infinity'),
    ('of-future', false, '-infinity')`)
  const at = (queue: string, delayMs = 0) => newTask({ queue, delayMs })
  const before = Date.now()
  const reply = await enqueue(database, [
    at('of-stale'),
    at('of-fresh'),
    at('of-paused'),
    at('of-future', 50_000),
    at('of-new'),
    at('of-new', 90_000),
    at('of-new-future', 70_000),
  ])
  expect(reply.wake.toSorted()).toEqual(['of-new', 'of-stale'])
  expect(Math.abs((reply.laterAt?.getTime() ?? 0) - before - 50_000)).toBeLessThan(10_000)
  const { rows } = await pool.query(`
    select name, paused, woken_at > '-infinity' as woken from izta.queue where name like 'of-%' order by name`)
  expect(rows.map(({ name, paused, woken }) => [name, paused, woken])).toEqual([
    ['of-fresh', false, true],
    ['of-future', false, false],
    ['of-new', false, true],
    ['of-new-future', false, false],
    ['of-paused', true, false],
    ['of-stale', false, true],
  ])
})

test('a new queue whose only task is of the future is not marked as woken', async () => {
  const reply = await enqueue(database, [newTask({ queue: 'only-later', delayMs: 60_000 })])
  expect(reply.wake).toEqual([])
  const { rows } = await pool.query(
    `select woken_at = '-infinity' as clear from izta.queue where name = 'only-later'`,
  )
  expect(rows).toEqual([{ clear: true }])
})

test('a mark that somebody has locked counts as old and is not waited for', async () => {
  await database.query(registerQueuesStatement(['locked']))
  await pool.query("update izta.queue set woken_at = izta.now() - interval '2 seconds' where name = 'locked'")
  const stranger = await connect()
  await stranger.query("begin; select from izta.queue where name = 'locked' for update")
  expect(await enqueue(database, [newTask({ queue: 'locked' })])).toMatchObject({ wake: ['locked'] })
  expect(await claim(database, 10, { queues: ['locked'] })).toHaveLength(1)
  // An empty claim clears the mark, or leaves it when it is locked.
  expect(await claim(database, 10, { queues: ['locked'] })).toEqual([])
  await stranger.query('rollback')
})

test('an enqueue that waited for a key wakes a runner, since the one it saw may have left meanwhile', async () => {
  await enqueue(database, [newTask({ queue: 'waited' })])
  await pool.query("update izta.queue set woken_at = izta.now() + interval '1 minute' where name = 'waited'")
  const stranger = await connect()
  await stranger.query('begin')
  await onConnection(stranger).query(enqueueOnlyStatement([newTask({ queue: 'waited', key: 'waited' })]))
  const waiting = enqueue(database, [newTask({ queue: 'waited', key: 'waited' })])
  await untilBlockedBy(pool, await pidOf(stranger))
  await stranger.query('select pg_sleep(0.05)')
  await stranger.query('rollback')
  expect(await waiting).toMatchObject({ refused: [], wake: ['waited'] })
})

test('a paused queue takes tasks and wakes nobody', async () => {
  await database.query(setQueuePausedStatement('paused', true))
  expect(await enqueue(database, [newTask({ queue: 'paused' })])).toMatchObject({ refused: [], wake: [] })
  expect(await claim(database, 10, { queues: ['paused'] })).toEqual([])
})

test('an open transaction with an enqueue statement holds nobody up in its queue', async () => {
  const job = defineJob({ id: 'invoice', queue: 'open' })
  const izta = createIzta({ database, jobs: [job] })
  await enqueue(database, [newTask({ queue: 'open' })])
  const application = await connect()
  const { id, text, values, read } = izta.enqueueStatement(job)
  await application.query('begin')
  expect(read(await application.query(text, values))).toEqual({ id, created: true, status: 'pending' })
  const lease = newLease()
  const claimed = await claim(database, 10, { lease, queues: ['open'] })
  expect(claimed).toHaveLength(1)
  await settle(database, lease, [outcome(claimed[0]!, 'finish')])
  await enqueue(database, [newTask({ queue: 'open' })])
  await turn(database, { queues: ['open'], limit: 10 })
  await turn(database, { queues: ['open'], limit: 10 })
  await izta.queues.pause('open')
  await izta.queues.resume('open')
  await application.query('commit')
  expect((await claim(database, 10, { queues: ['open'] })).map((task) => task.id)).toEqual([id])
})

test('a rolled back enqueue statement leaves nothing', async () => {
  const application = await connect()
  const task = newTask()
  await application.query('begin')
  await onConnection(application).query(enqueueOnlyStatement([task]))
  await application.query('rollback')
  expect(await stored(task.id)).toEqual({ task: 0, history: 0 })
})

test('ten thousand tasks go in with one call', async () => {
  const tasks = newTasks(10_000, { queue: 'many', payload: '{"n":1}' })
  expect((await enqueue(database, tasks)).refused).toEqual([])
  const { refused } = await enqueue(database, tasks)
  expect(refused).toHaveLength(10_000)
})

describe('what tasks of one call have in common is sent once', () => {
  const instants = [new Date('2040-01-01T00:00:00Z'), new Date('2041-01-01T00:00:00Z')] as const
  test.each<[string, Partial<NewTask>[]]>([
    ['nothing', [{}, {}, {}]],
    ['queue', [{ queue: 'a.b' }, { queue: 'a.b' }, { queue: 'c' }]],
    ['job', [{ job: 'x' }, { job: 'y' }, { job: 'y' }]],
    ['priority', [{ priority: 0 }, { priority: 0 }, { priority: 9 }]],
    ['most attempts', [{ maxAttempts: 1 }, { maxAttempts: 1 }, { maxAttempts: 7 }]],
    ['delay', [{ delayMs: 60_000 }, { delayMs: 60_000 }, { delayMs: 0 }]],
    ['instant of the first alone', [{ runAt: instants[0] }, {}, {}]],
    ['instant of the last alone', [{}, {}, { runAt: instants[1] }]],
    ['instant of all', [{ runAt: instants[0] }, { runAt: instants[0] }, { runAt: instants[0] }]],
    ['key of the first alone', [{ key: 'k 1', keyUntil: 'started' }, {}, {}]],
    ['key of the second alone', [{}, { key: 'k 2', keyUntil: 'finished' }, {}]],
    ['trace of all', [{ trace: 't' }, { trace: 't' }, { trace: 't' }]],
    ['trace of the last alone', [{}, {}, { trace: 't' }]],
  ])('unless it differs: %s', async (_, facts) => {
    const tasks = facts.map((one) => newTask(one))
    expect(await enqueue(database, tasks)).toMatchObject({ refused: [] })
    const { rows } = await pool.query(
      `select id, queue, job, priority, max_attempts, extract(epoch from run_at - created_at)::float8 as seconds,
        run_at, key, key_until, trace
      from izta.task where id = any ($1) order by id`,
      [tasks.map(({ id }) => id)],
    )
    expect(rows).toEqual(
      tasks.map((task) => ({
        id: task.id,
        queue: task.queue,
        job: task.job,
        priority: task.priority,
        max_attempts: task.maxAttempts,
        seconds: task.runAt === undefined ? task.delayMs / 1000 : expect.any(Number),
        run_at: task.runAt ?? expect.any(Date),
        key: task.key ?? null,
        key_until: task.keyUntil ?? null,
        trace: task.trace ?? null,
      })),
    )
  })
})

test.for([0, 1, 2])('a bulk that repeats an ended task makes the others: number %i by id', async (place) => {
  const queue = `among-${place}`
  const ids = newTasks(3).map(({ id }) => id)
  const ended = newTask({ queue, id: ids[place]! })
  await enqueue(database, [ended])
  await runToEnd(queue)
  // In no order: ids that callers have chosen have none.
  const tasks = [ids[2]!, ids[0]!, ids[1]!].map((id) => newTask({ id, queue }))
  const { refused } = await enqueue(database, tasks)
  expect(refused).toEqual([
    { index: tasks.findIndex(({ id }) => id === ended.id), id: ended.id, status: 'finished' },
  ])
  const { rows } = await pool.query('select id from izta.task where queue = $1', [queue])
  expect(rows).toHaveLength(2)
})

test.for([1, 2])(
  'a repeat of ended tasks wakes no runner and tells no instant: %i of them',
  async (count) => {
    const queue = `ended-${count}`
    const tasks = newTasks(count, { queue })
    await enqueue(database, tasks)
    await runToEnd(queue)
    await pool.query('delete from izta.queue where name = $1', [queue])
    expect(await enqueue(database, tasks)).toMatchObject({ wake: [], laterAt: undefined })
    const runAt = new Date(Date.now() + 3_600_000)
    expect(
      await enqueue(database, [
        ...tasks.map((task) => ({ ...task, runAt })),
        newTask({ queue: `other-${count}` }),
      ]),
    ).toMatchObject({
      wake: [`other-${count}`],
      laterAt: undefined,
    })
    const { rows } = await pool.query('select from izta.queue where name = $1', [queue])
    expect(rows).toEqual([])
  },
)
