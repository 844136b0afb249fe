// Keys and ids that several calls want at once: every order of their steps, at every isolation level.
import { describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { readRetryReply, retryStatement } from '../../src/store/retry.ts'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import type { NewTask } from '../../src/job/prepare.ts'
import { claim, enqueue, newLease, newTask, newTasks, outcome, settle } from '../store/statements.ts'
import {
  cancelOf,
  claimIds,
  enqueueCall,
  failure,
  queue,
  refusals,
  takeTurn,
  unsettled,
  type Reply,
} from './calls.ts'
import { isolations, isolationTester, type Call, type Found } from './interleaving.ts'

const keyed = (facts: Partial<NewTask> = {}) => newTask({ queue, job: 'keyed', key: 'key', ...facts })
const holders = (tasks: ReadonlyMap<string, Found>, key = 'key') =>
  [...tasks.values()].filter((task) => task.key === key && task.holdsKey).map(({ id }) => id)
/** The refusal names the holder, or nobody where it changed hands within the call. */
const named = (reply: unknown) => refusals(reply)[0]?.id

for (const isolation of isolations) {
  const { database, run } = await isolationTester(isolation)

  /** A running task with the key, and another task that wants it. */
  async function holderRuns(facts: Partial<NewTask> = {}) {
    const holder = keyed(facts)
    await enqueue(database, [holder])
    const lease = newLease()
    const [held] = await claim(database, 1, { lease, queues: [queue] })
    return { lease, held: held!, wanting: keyed(facts) }
  }

  describe(isolation, () => {
    test('of two enqueues with one key one makes its task, and the other is told', async () => {
      await run({
        setup: async () => [keyed(), keyed()] as const,
        sessions: {
          one: (db, tasks) => enqueueCall(db, [tasks[0]]),
          two: (db, tasks) => enqueueCall(db, [tasks[1]]),
        },
        async check([one, two], { tasks, replies, precedes }) {
          const made = holders(tasks)
          expect(made).toHaveLength(1)
          const [winner, loser] = made[0] === one.id ? (['one', 'two'] as const) : (['two', 'one'] as const)
          expect(refusals(replies[winner])).toEqual([])
          expect(refusals(replies[loser])).toHaveLength(1)
          expect(named(replies[loser])).toBeOneOf([null, made[0]])
          if (precedes('one', 'two')) expect([made, named(replies['two'])]).toEqual([[one.id], one.id])
          if (precedes('two', 'one')) expect([made, named(replies['one'])]).toEqual([[two.id], two.id])
        },
      })
    })

    test('an enqueue beside one that is rolled back makes its task', async () => {
      await run({
        setup: async () => [keyed(), keyed()] as const,
        sessions: {
          application: (db, tasks) => db.query(enqueueOnlyStatement([tasks[0]])),
          enqueue: (db, tasks) => enqueueCall(db, [tasks[1]]),
        },
        rollBack: ['application'],
        async check([, mine], { tasks, replies }) {
          expect([...tasks.keys()]).toEqual([mine.id])
          expect(refusals(replies['enqueue'])).toEqual([])
        },
      })
    })

    test('three enqueues of two keys each, in a circle, make each key once and block each other never', async () => {
      const pair = (first: string, second: string) => [keyed({ key: first }), keyed({ key: second })]
      await run({
        orders: 24,
        setup: async () => ({ one: pair('a', 'b'), two: pair('b', 'c'), three: pair('c', 'a') }),
        sessions: {
          one: (db, { one }) => enqueueCall(db, one),
          two: (db, { two }) => enqueueCall(db, two),
          three: (db, { three }) => enqueueCall(db, three),
        },
        async check(_, { tasks, replies }) {
          for (const key of ['a', 'b', 'c']) expect(holders(tasks, key)).toHaveLength(1)
          expect(tasks.size).toBe(3)
          expect(Object.values(replies).flatMap(refusals)).toHaveLength(3)
        },
      })
    })

    test.for(['finish', 'fail', 'retry'] as const)(
      'an enqueue beside the settle (%s) of the holder never makes a second holder',
      async (kind) => {
        await run({
          setup: () => holderRuns(),
          sessions: {
            settle: (db, { lease, held }) =>
              takeTurn(db, { lease, outcomes: [outcome(held, kind, { body: failure, delayMs: 60_000 })] }),
            enqueue: (db, { wanting }) => enqueueCall(db, [wanting]),
          },
          async check({ held, wanting }, { tasks, replies, precedes }) {
            expect(unsettled(replies['settle'])).toEqual([])
            const made = refusals(replies['enqueue']).length === 0
            expect(holders(tasks)).toEqual(made ? [wanting.id] : kind === 'retry' ? [held.id] : [])
            if (kind === 'retry') expect(made).toBe(false)
            else if (precedes('settle', 'enqueue')) expect(made).toBe(true)
            if (precedes('enqueue', 'settle')) expect(named(replies['enqueue'])).toBe(held.id)
          },
        })
      },
    )

    test("a key until 'started' has one holder while a claim frees it and an enqueue wants it", async () => {
      await run({
        setup: async () => {
          const holder = keyed({ keyUntil: 'started' })
          await enqueue(database, [holder])
          return { holder, wanting: keyed({ keyUntil: 'started' }) }
        },
        sessions: {
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 1 }),
          enqueue: (db, { wanting }) => enqueueCall(db, [wanting]),
        },
        async check({ holder, wanting }, { tasks, replies, precedes }) {
          const made = refusals(replies['enqueue']).length === 0
          expect(holders(tasks)).toEqual(made ? [wanting.id] : [])
          expect(claimIds(replies['claim'])).toEqual([holder.id])
          if (precedes('claim', 'enqueue')) expect(made).toBe(true)
        },
      })
    })

    test('a retry beside an enqueue of its key: one of them holds it, the other stays as it was', async () => {
      const retry = async (db: Database, id: string) =>
        readRetryReply(await db.query(retryStatement(id, false))).outcome ?? 'taken'
      await run({
        setup: async () => {
          const { lease, held, wanting } = await holderRuns()
          await settle(database, lease, [outcome(held, 'fail', { body: failure })])
          return { held, wanting }
        },
        sessions: {
          retry: (db, { held }) => retry(db, held.id),
          enqueue: (db, { wanting }) => enqueueCall(db, [wanting]),
        },
        async check({ held, wanting }, { tasks, replies }) {
          const made = refusals(replies['enqueue']).length === 0
          expect([made, replies['retry']]).toBeOneOf([
            [true, 'taken'],
            [false, 'requeued'],
          ])
          expect(holders(tasks)).toEqual([made ? wanting.id : held.id])
          expect(tasks.get(held.id)?.status).toBe(made ? 'failed' : 'waiting')
        },
      })
    })

    for (const rolledBack of [false, true]) {
      test(`a keyed child beside an application that ${rolledBack ? 'rolls its' : 'commits a'} task of the key${rolledBack ? ' back' : ''}`, async () => {
        await run({
          setup: async () => {
            const lease = newLease()
            await enqueue(database, newTasks(1, { queue }))
            const [parent] = await claim(database, 1, { lease, queues: [queue] })
            return { lease, parent: parent!, child: keyed(), theirs: keyed() }
          },
          sessions: {
            settle: (db, { lease, parent, child }) =>
              takeTurn(db, { lease, outcomes: [outcome(parent, 'finish', { children: [child] })] }),
            application: (db, { theirs }) => db.query(enqueueOnlyStatement([theirs])),
          },
          rollBack: rolledBack ? ['application'] : [],
          async check({ parent, child, theirs }, { tasks, replies, precedes }) {
            expect(tasks.get(parent.id)?.status).toBe('finished')
            expect(unsettled(replies['settle'])).toEqual([])
            const skipped = (replies['settle'] as Reply).skipped.map(({ id }) => id)
            const [holder] = holders(tasks)
            expect(holders(tasks)).toHaveLength(1)
            expect(skipped).toEqual(holder === child.id ? [] : [child.id])
            if (rolledBack || precedes('settle', 'application')) expect(holder).toBe(child.id)
            else if (precedes('application', 'settle')) expect(holder).toBe(theirs.id)
          },
        })
      })
    }

    test('two parents with children of the same keys in opposite orders make each once', async () => {
      const settleOne =
        (n: number): Call<Awaited<ReturnType<typeof setup>>> =>
        (db, { lease, parents, keys }) => {
          const children = (n === 0 ? keys : keys.toReversed()).map((key) => keyed({ key }))
          return takeTurn(db, { lease, outcomes: [outcome(parents[n]!, 'finish', { children })] })
        }
      async function setup() {
        const lease = newLease()
        await enqueue(database, newTasks(2, { queue }))
        const parents = await claim(database, 2, { lease, queues: [queue] })
        return { lease, parents, keys: ['a', 'b', 'c'] }
      }
      await run({
        setup,
        sessions: { one: settleOne(0), two: settleOne(1) },
        async check({ keys, parents }, { tasks, replies }) {
          for (const key of keys) expect(holders(tasks, key)).toHaveLength(1)
          for (const { id } of parents) expect(tasks.get(id)?.status).toBe('finished')
          const skipped = Object.values(replies).flatMap((reply) => (reply as Reply).skipped)
          expect(skipped).toHaveLength(3)
        },
      })
    })

    test.for(['finish', 'fail'] as const)(
      'a repeated enqueue beside the settle (%s) of its own task makes no second one',
      async (kind) => {
        await run({
          setup: () => holderRuns({ key: undefined, keyUntil: undefined }),
          sessions: {
            settle: (db, { lease, held }) =>
              takeTurn(db, { lease, outcomes: [outcome(held, kind, { body: failure })] }),
            repeat: (db, { held }) =>
              enqueueCall(db, [keyed({ id: held.id, key: undefined, keyUntil: undefined })]),
          },
          async check({ held }, { tasks, replies }) {
            expect([...tasks.values()]).toMatchObject([
              { id: held.id, status: kind === 'finish' ? 'finished' : 'failed' },
            ])
            expect(refusals(replies['repeat'])).toMatchObject([{ index: 0, id: held.id }])
          },
        })
      },
    )

    test('a repeated enqueue beside the cancel of its own task makes no second one', async () => {
      await run({
        setup: async () => {
          const task = newTask({ queue })
          await enqueue(database, [task])
          return task
        },
        sessions: {
          cancel: (db, { id }) => cancelOf(id)(db, undefined),
          repeat: (db, task) => enqueueCall(db, [task]),
        },
        async check({ id }, { tasks, replies }) {
          expect([...tasks.values()]).toMatchObject([{ id, status: 'cancelled' }])
          expect(replies['cancel']).toBe('cancelled')
          expect(refusals(replies['repeat'])).toMatchObject([{ index: 0, id }])
        },
      })
    })

    test('the two copies of one enqueue make one task, also beside its cancel', async () => {
      const copy: Call<NewTask> = (db, task) => enqueueCall(db, [task])
      await run({
        orders: 24,
        setup: async () => newTask({ queue }),
        sessions: { first: copy, second: copy, cancel: (db, { id }) => cancelOf(id)(db, undefined) },
        async check({ id }, { tasks, replies }) {
          expect([...tasks.keys()]).toEqual([id])
          expect(tasks.get(id)?.status).toBe(replies['cancel'] === 'cancelled' ? 'cancelled' : 'waiting')
          expect([...refusals(replies['first']), ...refusals(replies['second'])]).toHaveLength(1)
        },
      })
    })

    test('of eight enqueues of one key at once one makes its task', async () => {
      const call: Call<unknown> = (db) => enqueueCall(db, [keyed()])
      await run({
        orders: 3,
        setup: async () => undefined,
        sessions: { a: call, b: call, c: call, d: call, e: call, f: call, g: call, h: call },
        async check(_, { tasks, replies }) {
          expect(tasks.size).toBe(1)
          expect(Object.values(replies).filter((reply) => refusals(reply).length === 0)).toHaveLength(1)
        },
      })
    })
  })
}
