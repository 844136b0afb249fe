// At most one unfinished task per job and key, whoever enqueues at once; and waiting for the one holder only.
import { createIzta, defineJob, IztaError } from 'izta'
import { describe, expect, test } from 'vitest'
import { systemClock } from '../../src/clock.ts'
import { throughGate } from '../../src/db/gated.ts'
import { repeat } from '../../src/db/run.ts'
import { enqueueOnlyStatement, readEnqueueReply } from '../../src/store/enqueue.ts'
import { triggerScheduleStatement } from '../../src/store/schedules.ts'
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

for (const isolation of ['read committed', 'repeatable read'] as const) {
  const { database, pool, connect } = await testDatabase({ isolation })
  const note = defineJob({ id: 'note' })
  const izta = createIzta({ database, jobs: [note] })

  async function held(key: string) {
    const client = await connect()
    await client.query('begin')
    const task = newTask({ job: 'note', key })
    await onConnection(client).query(enqueueOnlyStatement([task]))
    return { client, task, pid: await pidOf(client) }
  }

  /** A connection whose open transaction settles the one task of the queue. */
  async function settling(queue: string) {
    const lease = newLease()
    const [task] = await claim(database, 1, { lease, queues: [queue] })
    const client = await connect()
    await client.query('begin')
    await settle(onConnection(client), lease, [outcome(task!, 'finish')])
    return client
  }

  async function tables(id: string): Promise<string[]> {
    const { rows } = await pool.query<{ name: string }>(
      `select 'task' as name from izta.task where id = $1 union all select 'history' from izta.history where id = $1`,
      [id],
    )
    return rows.map(({ name }) => name)
  }

  describe(isolation, () => {
    test('an enqueue whose key is held by an open transaction returns its task after the commit', async () => {
      const { client, task, pid } = await held('commit')
      const waiting = izta.enqueue(note, undefined, { key: 'commit' })
      await untilBlockedBy(pool, pid)
      await client.query('commit')
      expect(await waiting).toEqual({ id: task.id, created: false, status: 'pending' })
    })

    test('an enqueue whose key is held by an open transaction makes the task after the rollback', async () => {
      const { client, task, pid } = await held('rollback')
      const waiting = izta.enqueue(note, undefined, { key: 'rollback' })
      await untilBlockedBy(pool, pid)
      await client.query('rollback')
      const { id, created } = await waiting
      expect({ created, own: id !== task.id }).toEqual({ created: true, own: true })
    })

    test('while one enqueue waits for a key, others of the queue go on, and so do turns', async () => {
      const { client, pid } = await held('slow')
      const waiting = izta.enqueue(note, undefined, { key: 'slow' })
      await untilBlockedBy(pool, pid)
      await izta.enqueue(note, undefined, { key: 'other' })
      await izta.enqueue(note)
      const lease = newLease()
      const claimed = await claim(database, 100, { lease })
      await settle(
        database,
        lease,
        claimed.map((task) => outcome(task, 'finish')),
      )
      await client.query('commit')
      await waiting
    })

    test('a repeat that waits for the settling of its own task makes no second one', async () => {
      const task = newTask({ queue: 'settling' })
      await enqueue(database, [task])
      const runner = await settling('settling')
      const repeated = newTask({ queue: 'settling' })
      const waiting = enqueue(database, [repeated, task])
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      expect((await waiting).refused).toEqual([{ index: 1, id: task.id, status: 'finished' }])
      expect(await tables(task.id)).toEqual(['history'])
      expect(await tables(repeated.id)).toEqual(['task'])
    })

    test('a child with the id of a task that has ended, or is being settled, is not made', async () => {
      const [ended, ending] = [newTask({ queue: 'ended' }), newTask({ queue: 'ending' })]
      await enqueue(database, [ended, ending])
      await (await settling('ended')).query('commit')
      const runner = await settling('ending')
      await enqueue(database, [newTask({ queue: 'parent' })])
      const lease = newLease()
      const [parent] = await claim(database, 1, { lease, queues: ['parent'] })
      const fresh = newTask({ queue: 'fresh', idWasGiven: true })
      const children = [fresh, { ...ended, idWasGiven: true }, { ...ending, idWasGiven: true }]
      const waiting = settle(database, lease, [outcome(parent!, 'finish', { children })])
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      const { skipped, unsettled } = await waiting
      expect(skipped.map((child) => child.id)).toEqual([ended.id, ending.id])
      expect(unsettled).toEqual([])
      expect(await tables(ended.id)).toEqual(['history'])
      expect(await tables(ending.id)).toEqual(['history'])
      expect(await tables(fresh.id)).toEqual(['task'])
    })

    test('a repeated trigger makes no second task while the first is being settled', async () => {
      await pool.query(`insert into izta.schedule (name, job, payload, queue, priority, max_attempts, rule, missed,
          overlap, hash, made_until, plan_at, created_at, updated_at)
        values ('nightly', 'note', 'null', 'triggered', 5, 3, '{}', 'once', 'allow', '', now(), now(), now(), now())`)
      const { id } = newTask()
      const trigger = () =>
        repeat(throughGate(database), systemClock, () => triggerScheduleStatement('nightly', id))
      await trigger()
      const runner = await settling('triggered')
      const waiting = trigger()
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      await waiting
      expect(await tables(id)).toEqual(['history'])
    })

    test('an enqueue statement with the id of a task that is being settled makes no second one', async () => {
      const task = newTask({ queue: 'settling-too' })
      await enqueue(database, [task])
      const runner = await settling('settling-too')
      const application = await connect()
      await application.query('begin')
      const waiting = onConnection(application)
        .query(enqueueOnlyStatement([task]))
        .then(
          (rows) => readEnqueueReply(rows).refused,
          (error: unknown) => (error as { code?: string }).code,
        )
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      // Under repeatable read the application's transaction has to begin anew, as with any other conflict.
      expect(await waiting).toEqual(
        isolation === 'read committed' ? [{ index: 0, id: task.id, status: 'finished' }] : '40001',
      )
      await application.query('commit')
      expect(await tables(task.id)).toEqual(['history'])
    })

    test('of a hundred enqueues at once with one key, one makes the task and all are told of it', async () => {
      const all = await Promise.all(
        Array.from({ length: 100 }, () => izta.enqueue(note, undefined, { key: 'crowd', queue: 'crowd' })),
      )
      expect(new Set(all.map(({ id }) => id)).size).toBe(1)
      expect(all.filter(({ created }) => created)).toHaveLength(1)
    })

    test('a key twice in one call makes one task, and the second is told of the first', async () => {
      const [first, second, third] = await izta.enqueueMany([
        [note, undefined, { key: 'twice' }],
        [note, undefined, { key: 'twice' }],
        [note, undefined, { key: 'else' }],
      ])
      expect([first?.created, second?.created, third?.created]).toEqual([true, false, true])
      expect(second?.id).toBe(first?.id)
    })

    test('a keyed child waits for an open transaction that holds its key, and no other settle does', async () => {
      const { client, task, pid } = await held('child')
      const lease = newLease()
      await enqueue(database, newTasks(2, { queue: 'parents' }))
      const [parent, other] = await claim(database, 2, { lease, queues: ['parents'] })
      const child = newTask({ job: 'note', key: 'child' })
      const waiting = settle(database, lease, [outcome(parent!, 'finish', { children: [child] })])
      await untilBlockedBy(pool, pid)
      expect((await settle(database, lease, [outcome(other!, 'finish')])).unsettled).toEqual([])
      await client.query('commit')
      const { skipped, unsettled } = await waiting
      // Under repeatable read the repeat finds the holder; the settle itself took effect once.
      expect({ skipped, unsettled }).toEqual({
        skipped: [{ id: child.id, job: 'note', key: 'child' }],
        unsettled: [],
      })
      expect(await izta.get(note, task.id)).toMatchObject({ status: 'pending' })
    })

    test('children of two parents with the same keys in opposite orders do not deadlock', async () => {
      const counted = countingErrors(database)
      const keys = Array.from({ length: 40 }, (_, index) => `sibling-${index}`)
      for (let round = 0; round < 5; round++) {
        const lease = newLease()
        await enqueue(database, newTasks(4, { queue: 'siblings' }))
        const parents = await claim(database, 4, { lease, queues: ['siblings'] })
        const children = (order: readonly string[]) =>
          order.map((key) => newTask({ queue: 'offspring', job: `round-${round}`, key }))
        const replies = await Promise.all(
          parents.map((parent, index) =>
            settle(counted, lease, [
              outcome(parent, 'finish', { children: children(index % 2 === 0 ? keys : keys.toReversed()) }),
            ]),
          ),
        )
        expect(replies.reduce((sum, { skipped }) => sum + skipped.length, 0)).toBe(3 * keys.length)
      }
      expect(counted.states.filter((state) => state !== '40001')).toEqual([])
      const { rows } = await pool.query(
        "select count(*)::int as count from izta.task where queue = 'offspring'",
      )
      expect(rows).toEqual([{ count: 200 }])
    })
  })

  describe(`${isolation}, one at a time`, () => {
    test("a key until 'started' frees when the task is claimed, another one holds it then", async () => {
      const facts = { key: 'started', keyUntil: 'started', queue: 'started' } as const
      const first = await izta.enqueue(note, undefined, facts)
      expect(await izta.enqueue(note, undefined, facts)).toMatchObject({ id: first.id, created: false })
      const lease = newLease()
      const [running] = await claim(database, 1, { lease, queues: ['started'] })
      const second = await izta.enqueue(note, undefined, facts)
      expect(second.created).toBe(true)
      // Back to waiting: the key has gone to the other one.
      await settle(database, lease, [outcome(running!, 'release')])
      expect(await izta.enqueue(note, undefined, facts)).toMatchObject({ id: second.id, created: false })
    })

    test("a key until 'finished' is held through retries and frees at each kind of end", async () => {
      for (const kind of ['finish', 'fail', 'drop', 'cancel'] as const) {
        const facts = { key: kind, queue: 'ends' }
        const { id } = await izta.enqueue(note, undefined, facts)
        const lease = newLease()
        const [once] = await claim(database, 1, { lease, queues: ['ends'] })
        await settle(database, lease, [outcome(once!, 'retry', { body: '{"code":"thrown"}' })])
        expect(await izta.enqueue(note, undefined, facts)).toEqual({ id, created: false, status: 'failing' })
        const [twice] = await claim(database, 1, { lease, queues: ['ends'] })
        expect(await izta.enqueue(note, undefined, facts)).toEqual({ id, created: false, status: 'running' })
        await settle(database, lease, [
          outcome(twice!, kind, { body: kind === 'finish' ? null : '{"code":"thrown"}' }),
        ])
        const next = await izta.enqueue(note, undefined, facts)
        expect(next.created).toBe(true)
        await izta.cancel(next.id)
      }
    })

    test('the same key of two jobs is no conflict', async () => {
      const { refused } = await enqueue(database, [
        newTask({ job: 'a', key: 'k' }),
        newTask({ job: 'b', key: 'k' }),
      ])
      expect(refused).toEqual([])
    })

    test('a retried task whose key is held by now names the holder and stays where it was', async () => {
      const { id } = await izta.enqueue(note, undefined, { key: 'retried', queue: 'retried' })
      const lease = newLease()
      const [task] = await claim(database, 1, { lease, queues: ['retried'] })
      await settle(database, lease, [outcome(task!, 'fail', { body: '{"code":"thrown"}' })])
      const holder = await izta.enqueue(note, undefined, { key: 'retried', queue: 'retried' })
      const refused = await izta.retry(id).catch((error: unknown) => error)
      expect(IztaError.is(refused) && refused).toMatchObject({ code: 'key-taken', holderId: holder.id })
      expect(await izta.get(note, id)).toMatchObject({ status: 'failed' })
    })

    test("a retried task with a key until 'started' holds it again, unless it is held by now", async () => {
      const facts = { key: 'again', keyUntil: 'started', queue: 'again' } as const
      const failOne = async () => {
        const lease = newLease()
        const [task] = await claim(database, 1, { lease, queues: ['again'] })
        await settle(database, lease, [outcome(task!, 'fail', { body: '{"code":"thrown"}' })])
      }
      const first = await izta.enqueue(note, undefined, facts)
      await failOne()
      const second = await izta.enqueue(note, undefined, facts)
      expect(second.created).toBe(true)
      const refused = await izta.retry(first.id).catch((error: unknown) => error)
      expect(IztaError.is(refused) && refused).toMatchObject({ code: 'key-taken', holderId: second.id })
      await failOne()
      expect(await izta.retry(first.id)).toEqual({ outcome: 'requeued' })
      expect(await izta.enqueue(note, undefined, facts)).toMatchObject({ id: first.id, created: false })
      await failOne()
      expect((await izta.enqueue(note, undefined, facts)).created).toBe(true)
    })

    test('a retry whose key is held by an open transaction waits for it alone', async () => {
      const { id } = await izta.enqueue(note, undefined, { key: 'open', queue: 'open' })
      const lease = newLease()
      const [task] = await claim(database, 1, { lease, queues: ['open'] })
      await settle(database, lease, [outcome(task!, 'fail', { body: '{"code":"thrown"}' })])
      const { client, pid } = await held('open')
      const waiting = izta.retry(id)
      await untilBlockedBy(pool, pid)
      await client.query('rollback')
      expect(await waiting).toEqual({ outcome: 'requeued' })
    })
  })

  test(`a keyed child of a task that is not settled is not made (${isolation})`, async () => {
    await enqueue(database, [newTask({ queue: 'lost' })])
    const [parent] = await claim(database, 1, { lease: newLease(), queues: ['lost'] })
    const child = newTask({ job: 'note', key: 'orphan' })
    const { unsettled, skipped } = await turn(database, {
      lease: newLease(),
      outcomes: [outcome(parent!, 'finish', { children: [child] })],
    })
    expect({ unsettled, skipped }).toEqual({ unsettled: [parent!.id], skipped: [] })
    expect(await izta.get(note, child.id)).toBeUndefined()
  })
}
