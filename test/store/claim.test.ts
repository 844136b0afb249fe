// The claim: which tasks, in which order, how many, and never the same one twice.
import { describe, expect, test } from 'vitest'
import { setQueuePausedStatement } from '../../src/store/queues.ts'
import { testDatabase } from '../support/database.ts'
import {
  claim,
  countingErrors,
  enqueue,
  expireLeases,
  newLease,
  newTask,
  newTasks,
  onConnection,
  outcome,
  settle,
  turn,
} from './statements.ts'

for (const isolation of ['read committed', 'repeatable read'] as const) {
  const { database, pool } = await testDatabase({ isolation })

  describe(isolation, () => {
    test('ten runners at once claim each task once', async () => {
      const tasks = newTasks(200, { queue: 'shared' })
      await enqueue(database, tasks)
      const seen: string[] = []
      const work = async () => {
        const lease = newLease()
        for (;;) {
          const claimed = await claim(database, 7, { lease, queues: ['shared'] })
          if (claimed.length === 0) return
          seen.push(...claimed.map((task) => task.id))
        }
      }
      await Promise.all(Array.from({ length: 10 }, work))
      expect(seen.toSorted()).toEqual(tasks.map(({ id }) => id).toSorted())
    })

    test('runners that settle and claim what the others have lost neither deadlock nor settle it twice', async () => {
      const counted = countingErrors(database)
      await enqueue(database, newTasks(60, { queue: 'stolen' }))
      let ends = 0
      for (let round = 0; round < 5; round++) {
        const leases = [newLease(), newLease(), newLease()]
        const held = await Promise.all(
          leases.map((lease) => claim(database, 20, { lease, queues: ['stolen'] })),
        )
        await expireLeases(pool)
        // Each sends what it holds in an order of its own, and takes what the others had.
        const replies = await Promise.all(
          leases.map((lease, index) => {
            const outcomes = held[index]!.map((task) => outcome(task, 'retry', { body: '{"code":"thrown"}' }))
            const mixed = index % 2 === 0 ? outcomes : outcomes.toReversed()
            return turn(counted, { lease, limit: 20, queues: ['stolen'], outcomes: mixed })
          }),
        )
        ends += held.flat().length - replies.flatMap((reply) => reply.unsettled).length
        await expireLeases(pool)
      }
      expect(counted.states.filter((state) => state !== '40001')).toEqual([])
      const { rows } = await pool.query(
        "select sum(attempt)::int as attempts, count(*)::int as count from izta.task where queue = 'stolen'",
      )
      expect(rows).toEqual([{ attempts: ends, count: 60 }])
    })
  })
}

const { database, pool, connect } = await testDatabase()

test('a claim skips what another one is about to take, and takes the rest', async () => {
  const tasks = newTasks(4, { queue: 'skip' })
  await enqueue(database, tasks)
  const other = await connect()
  await other.query('begin')
  const theirs = await claim(onConnection(other), 2, { queues: ['skip'] })
  const ours = await claim(database, 10, { queues: ['skip'] })
  await other.query('commit')
  expect([...theirs, ...ours].map(({ id }) => id).toSorted()).toEqual(tasks.map(({ id }) => id))
  expect(ours).toHaveLength(2)
})

test('queues take turns, and within a queue priority comes first, then the due instant', async () => {
  const aMinuteAgo = Date.now() - 60_000
  const at = (ms: number) => new Date(aMinuteAgo + ms)
  const tasks = [
    newTask({ queue: 'a', priority: 5, runAt: at(1) }),
    newTask({ queue: 'b', priority: 0, runAt: at(4) }),
    newTask({ queue: 'b', priority: 0, runAt: at(3) }),
    newTask({ queue: 'a', priority: 9, runAt: at(0) }),
    newTask({ queue: 'a', priority: 1, runAt: at(2) }),
  ]
  await enqueue(database, tasks)
  const order: string[] = []
  let afterQueue = 'b'
  for (let n = 0; n < tasks.length; n++) {
    const [task] = await claim(database, 1, { queues: ['a', 'b'], afterQueue })
    order.push(task!.id)
    afterQueue = task!.queue
  }
  expect(order).toEqual([4, 2, 0, 1, 3].map((index) => tasks[index]!.id))
})

test('a claim gives each queue its share, and what one of them leaves to the others', async () => {
  await enqueue(database, [
    ...newTasks(100, { queue: 'share-full', priority: 0 }),
    ...newTasks(3, { queue: 'share-thin' }),
    ...newTasks(8, { queue: 'share-third' }),
  ])
  const claimed = await claim(database, 24, { queues: ['share-full', 'share-thin', 'share-third'] })
  const counts = Map.groupBy(claimed, ({ queue }) => queue)
  expect([...counts].map(([queue, tasks]) => `${queue} ${tasks.length}`).toSorted()).toEqual([
    'share-full 13',
    'share-thin 3',
    'share-third 8',
  ])
})

test('no queue starves next to one that is always full, also if each claim is the first of its runner', async () => {
  await enqueue(database, [...newTasks(200, { queue: 'full' }), newTask({ queue: 'thin' })])
  let claims = 0
  for (;;) {
    const [task] = await claim(database, 1, { queues: ['full', 'thin'] })
    claims++
    if (task!.queue === 'thin') break
  }
  // One in 2^60 runs is unlucky enough.
  expect(claims).toBeLessThan(60)
})

test('a runner of all queues finds every queue but the paused ones', async () => {
  const separate = await connect()
  await separate.query('begin; delete from izta.task; delete from izta.queue')
  const only = onConnection(separate)
  await enqueue(only, [newTask({ queue: 'one' }), newTask({ queue: 'two' }), newTask({ queue: 'stopped' })])
  await only.query(setQueuePausedStatement('stopped', true))
  expect((await claim(only, 10)).map(({ queue }) => queue).toSorted()).toEqual(['one', 'two'])
  await only.query(setQueuePausedStatement('stopped', false))
  expect((await claim(only, 10)).map(({ queue }) => queue)).toEqual(['stopped'])
  await separate.query('rollback')
})

test('tasks that run in a queue end after it was paused, their retries wait', async () => {
  await enqueue(database, newTasks(2, { queue: 'pausing' }))
  const lease = newLease()
  const [first, second] = await claim(database, 2, { lease, queues: ['pausing'] })
  await database.query(setQueuePausedStatement('pausing', true))
  const { unsettled, claimed } = await turn(database, {
    lease,
    limit: 10,
    queues: ['pausing'],
    outcomes: [outcome(first!, 'finish'), outcome(second!, 'release')],
  })
  expect({ unsettled, claimed }).toEqual({ unsettled: [], claimed: [] })
})

test('a claim brings back no more bytes than asked for, but always one task', async () => {
  const mebibyte = JSON.stringify('x'.repeat(1024 * 1024 - 2))
  const tasks = newTasks(6, { queue: 'large', payload: mebibyte })
  await enqueue(database, tasks)
  const request = { queues: ['large'], replyBytes: 2.5 * 1024 * 1024 }
  const first = await claim(database, 100, request)
  expect(first.map(({ id }) => id).toSorted()).toEqual(tasks.slice(0, 2).map(({ id }) => id))
  expect(await claim(database, 100, { ...request, replyBytes: 1 })).toHaveLength(1)
  // What did not fit was not touched, and is claimed next.
  expect(await claim(database, 100, { ...request, replyBytes: 64 * 1024 * 1024 })).toHaveLength(3)
})

test('one task beyond the limit of bytes does not ride along with small ones', async () => {
  const at = (ms: number) => new Date(Date.now() - 60_000 + ms)
  const small = newTask({ queue: 'riding', runAt: at(0) })
  const huge = newTask({ queue: 'riding', runAt: at(1), payload: JSON.stringify('x'.repeat(5000)) })
  await enqueue(database, [small, huge])
  const request = { queues: ['riding'], replyBytes: 4000 }
  expect((await claim(database, 10, request)).map(({ id }) => id)).toEqual([small.id])
  expect((await claim(database, 10, request)).map(({ id }) => id)).toEqual([huge.id])
})

test('an expired lease is a loss, and the task is claimed again with its true due instant', async () => {
  const task = newTask({ queue: 'loss' })
  await enqueue(database, [task])
  const [first] = await claim(database, 1, { queues: ['loss'] })
  expect(await claim(database, 1, { queues: ['loss'] })).toEqual([])
  await expireLeases(pool)
  const [second] = await claim(database, 1, { queues: ['loss'] })
  expect(first).toMatchObject({ id: task.id, losses: 0, claims: 1, attempt: 0 })
  expect(second).toMatchObject({ id: task.id, losses: 1, claims: 2, attempt: 0, dueAt: first!.dueAt })
})

test('a counter at its end does not fail the claim of the neighbours', async () => {
  await enqueue(database, newTasks(2, { queue: 'counter' }))
  const [task] = await claim(database, 1, { queues: ['counter'] })
  await pool.query('update izta.task set losses = 32767 where id = $1', [task!.id])
  await expireLeases(pool)
  expect(await claim(database, 2, { queues: ['counter'] })).toHaveLength(2)
})

test('an empty claim clears the mark of its queues and leaves those of others', async () => {
  await enqueue(database, [newTask({ queue: 'left' }), newTask({ queue: 'stays' })])
  await claim(database, 10, { queues: ['left'] })
  const marks = async () => {
    const { rows } = await pool.query<{ name: string }>(
      "select name from izta.queue where woken_at > '-infinity' and name in ('left', 'stays') order by name",
    )
    return rows.map(({ name }) => name)
  }
  expect(await marks()).toEqual(['left', 'stays'])
  await claim(database, 10, { queues: ['left'] })
  expect(await marks()).toEqual(['stays'])
  expect((await enqueue(database, [newTask({ queue: 'left' })])).wake).toEqual(['left'])
})

test('a turn that only settles leaves the mark', async () => {
  await enqueue(database, [newTask({ queue: 'settling' })])
  const lease = newLease()
  const [task] = await claim(database, 1, { lease, queues: ['settling'] })
  await settle(database, lease, [outcome(task!, 'finish')])
  const { rows } = await pool.query(
    "select woken_at > '-infinity' as marked from izta.queue where name = 'settling'",
  )
  expect(rows).toEqual([{ marked: true }])
})

test('a claim holds one of the eight locks for claims until it commits', async () => {
  await enqueue(database, [newTask({ queue: 'line' })])
  const client = await connect()
  await client.query('begin')
  expect(await claim(onConnection(client), 1, { queues: ['line'] })).toHaveLength(1)
  const { rows } = await client.query(
    `select ((classid::bigint << 32) + objid::bigint) / 8 = 'izta.task'::regclass::oid::bigint as "forClaims"
    from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()`,
  )
  await client.query('rollback')
  expect(rows).toEqual([{ forClaims: true }])
})
