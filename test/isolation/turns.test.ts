// Turns beside turns, cancels, recoveries and pauses: every order of their steps, at every isolation level.
import { describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { setQueuePausedStatement } from '../../src/store/queues.ts'
import { heldStatement, readHeld, readReleased, releaseHeldStatement } from '../../src/store/recover.ts'
import type { OutcomeKind } from '../../src/store/turn.ts'
import { claim as claimNow, enqueue, expireLeases, newLease, newTasks, outcome } from '../store/statements.ts'
import { cancelOf, claimIds, failure, queue, takeTurn, unsettled, type Reply } from './calls.ts'
import { isolations, isolationTester, type Call, type Found } from './interleaving.ts'

for (const isolation of isolations) {
  const { database, pool, run } = await isolationTester(isolation)

  /** Due tasks of which some are leased already. */
  async function tasksAndLease({ due = 0, leased = 0, expired = false } = {}) {
    const lease = newLease()
    await enqueue(database, newTasks(leased, { queue }))
    const held = await claimNow(database, leased, { lease, queues: [queue] })
    if (expired) await expireLeases(pool)
    const waiting = newTasks(due, { queue })
    await enqueue(database, waiting)
    return {
      lease,
      held,
      waiting: waiting.map(({ id }) => id),
      ids: [...held, ...waiting].map(({ id }) => id),
    }
  }
  const only = (tasks: ReadonlyMap<string, Found>, { held }: { held: readonly { id: string }[] }) =>
    tasks.get(held[0]!.id)!

  describe(isolation, () => {
    test('two claims never take one task, and none is left over', async () => {
      const sessions = {
        one: (db: Database) => takeTurn(db, { lease: newLease(), limit: 2 }),
        two: (db: Database) => takeTurn(db, { lease: newLease(), limit: 2 }),
      }
      await run({
        setup: () => tasksAndLease({ due: 3 }),
        sessions,
        async check({ ids }, { tasks, replies }) {
          const taken = [...claimIds(replies['one']), ...claimIds(replies['two'])]
          expect(new Set(taken).size).toBe(taken.length)
          for (const id of ids) expect(tasks.get(id)?.claims).toBe(taken.includes(id) ? 1 : 0)
          const rest = await claimNow(database, 10, { queues: [queue] })
          expect([...taken, ...rest.map(({ id }) => id)].toSorted()).toEqual(ids.toSorted())
        },
      })
    })

    test('two claims of one lease at once never take one task', async () => {
      const call: Call<{ lease: string }> = (db, { lease }) => takeTurn(db, { lease, limit: 2 })
      await run({
        setup: () => tasksAndLease({ due: 3 }),
        sessions: { one: call, two: call },
        async check({ ids, lease }, { tasks, replies }) {
          const taken = [...claimIds(replies['one']), ...claimIds(replies['two'])]
          expect(new Set(taken).size).toBe(taken.length)
          for (const id of ids) {
            expect(tasks.get(id)).toMatchObject(
              taken.includes(id) ? { claims: 1, lease } : { claims: 0, lease: null },
            )
          }
        },
      })
    })

    test.for(['finish', 'retry', 'release', 'fail'] as const)(
      'an expired lease either settles (%s) or loses its task to another claim',
      async (kind) => {
        await run({
          setup: () => tasksAndLease({ leased: 1, expired: true }),
          sessions: {
            settle: (db, { lease, held }) =>
              takeTurn(db, {
                lease,
                outcomes: [outcome(held[0]!, kind, { body: failure, delayMs: 60_000 })],
              }),
            claim: (db) => takeTurn(db, { lease: newLease(), limit: 1 }),
          },
          async check(world, { tasks, replies, precedes }) {
            const task = only(tasks, world)
            const lost = unsettled(replies['settle']).length === 1
            const [taken] = (replies['claim'] as Reply).claimed
            if (lost) expect(task).toMatchObject({ status: 'leased', claims: 2, losses: 1, attempt: 0 })
            else if (kind === 'finish' || kind === 'fail')
              expect(task).toMatchObject({ attempt: 1, claims: 1 })
            else if (kind === 'retry')
              expect(task).toMatchObject({ status: 'waiting', attempt: 1, losses: 0 })
            // What was released may be claimed as if it had never run.
            else expect(task).toMatchObject({ attempt: 0, losses: 0, claims: taken === undefined ? 1 : 2 })
            if (kind !== 'release') expect(taken === undefined).toBe(!lost)
            if (precedes('settle', 'claim')) expect(lost).toBe(false)
            if (precedes('claim', 'settle')) expect(lost).toBe(true)
          },
        })
      },
    )

    test.for([
      ['finish', 'finish'],
      ['finish', 'retry'],
      ['release', 'finish'],
      ['retry', 'retry'],
    ] as const)('of two settles of one claim one takes effect: %s and %s', async (kinds) => {
      const settle =
        (kind: OutcomeKind): Call<Awaited<ReturnType<typeof tasksAndLease>>> =>
        (db, { lease, held }) =>
          takeTurn(db, { lease, outcomes: [outcome(held[0]!, kind, { body: failure })] })
      await run({
        setup: () => tasksAndLease({ leased: 1 }),
        sessions: { one: settle(kinds[0]), two: settle(kinds[1]) },
        async check(world, { tasks, replies }) {
          const effective = kinds.filter((_, n) => unsettled(replies[n === 0 ? 'one' : 'two']).length === 0)
          expect(effective).toHaveLength(1)
          const [kind] = effective
          expect(only(tasks, world)).toMatchObject({
            status: kind === 'finish' ? 'finished' : 'waiting',
            attempt: kind === 'release' ? 0 : 1,
            claims: 1,
          })
        },
      })
    })

    test('settles of the same tasks in opposite orders settle each once and never block each other for good', async () => {
      type World = Awaited<ReturnType<typeof tasksAndLease>>
      const settle =
        (turned: boolean): Call<World> =>
        (db, { lease, held }) => {
          const outcomes = held.map((task, n) =>
            outcome(task, n === 0 ? 'finish' : n === 1 ? 'retry' : 'cancel', { body: failure }),
          )
          return takeTurn(db, { lease, outcomes: turned ? outcomes.toReversed() : outcomes })
        }
      await run({
        setup: () => tasksAndLease({ leased: 3 }),
        sessions: { one: settle(false), two: settle(true) },
        async check({ held }, { tasks, replies }) {
          const without = [...unsettled(replies['one']), ...unsettled(replies['two'])]
          expect(without.toSorted()).toEqual(held.map(({ id }) => id).toSorted())
          expect(held.map(({ id }) => tasks.get(id)?.status)).toEqual(['finished', 'waiting', 'cancelled'])
        },
      })
    })

    test.for(['finish', 'retry', 'release'] as const)(
      'a lease settles (%s) in one call and claims in another at once',
      async (kind) => {
        await run({
          setup: () => tasksAndLease({ leased: 1, due: 1 }),
          sessions: {
            settle: (db, { lease, held }) =>
              takeTurn(db, { lease, outcomes: [outcome(held[0]!, kind, { body: failure })] }),
            claim: (db, { lease }) => takeTurn(db, { lease, limit: 2 }),
          },
          async check({ held, waiting, lease }, { tasks, replies, precedes }) {
            expect(unsettled(replies['settle'])).toEqual([])
            const [id] = held.map((task) => task.id)
            const again = (replies['claim'] as Reply).claimed.find((task) => task.id === id)
            expect(claimIds(replies['claim'])).toContain(waiting[0])
            expect(tasks.get(waiting[0]!)).toMatchObject({ lease, claims: 1 })
            // It was its own for all the time, so that nobody has lost it.
            const attempt = kind === 'release' ? 0 : 1
            if (again === undefined) expect(tasks.get(id!)).toMatchObject({ attempt, losses: 0, claims: 1 })
            else {
              expect(again).toMatchObject({ attempt, losses: 0, claims: 2 })
              expect(tasks.get(id!)).toMatchObject({ attempt, losses: 0, claims: 2 })
            }
            if (kind === 'finish') expect(again).toBeUndefined()
            else if (precedes('settle', 'claim')) expect(again).toBeDefined()
          },
        })
      },
    )

    test.for(['finish', 'retry', 'fail', 'release'] as const)(
      'a cancel beside the settle (%s) does what it says',
      async (kind) => {
        await run({
          setup: async () => {
            const world = await tasksAndLease({ leased: 1 })
            return { ...world, cancel: cancelOf(world.held[0]!.id) }
          },
          sessions: {
            settle: (db, { lease, held }) =>
              takeTurn(db, {
                lease,
                outcomes: [outcome(held[0]!, kind, { body: failure, delayMs: 60_000 })],
              }),
            cancel: (db, world) => world.cancel(db, undefined),
          },
          async check(world, { tasks, replies, precedes }) {
            const { status } = only(tasks, world)
            const said = replies['cancel']
            expect(unsettled(replies['settle'])).toEqual([])
            const ended = kind === 'finish' ? 'finished' : 'failed'
            if (kind === 'finish') {
              expect(status).toBe('finished')
              expect(said).toBeOneOf(['cancelling', 'already-finished'])
            } else if (kind === 'fail') {
              expect([said, status]).toBeOneOf([
                ['cancelling', 'cancelled'],
                ['already-failed', 'failed'],
              ])
            } else {
              expect(status).toBe('cancelled')
              expect(said).toBeOneOf(['cancelling', 'cancelled'])
            }
            if (precedes('cancel', 'settle')) expect(said).toBe('cancelling')
            if (precedes('settle', 'cancel')) {
              expect(said).toBe(kind === 'finish' || kind === 'fail' ? `already-${ended}` : 'cancelled')
            }
          },
        })
      },
    )

    test('a cancel beside a claim ends the task, or its runner is told', async () => {
      await run({
        setup: async () => {
          const world = await tasksAndLease({ due: 1 })
          return { ...world, cancel: cancelOf(world.ids[0]!) }
        },
        sessions: {
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 1 }),
          cancel: (db, world) => world.cancel(db, undefined),
        },
        async check({ ids }, { tasks, replies, precedes }) {
          const [id] = ids
          const taken = claimIds(replies['claim']).length === 1
          if (replies['cancel'] === 'cancelled') {
            expect([taken, tasks.get(id!)?.status]).toEqual([false, 'cancelled'])
          } else {
            expect([replies['cancel'], taken]).toEqual(['cancelling', true])
            expect(tasks.get(id!)).toMatchObject({ status: 'leased', cancel: true })
            const { cancel } = await takeTurn(database, { lease: tasks.get(id!)!.lease!, watch: [id!] })
            expect(cancel).toEqual([id])
          }
          if (precedes('claim', 'cancel')) expect(replies['cancel']).toBe('cancelling')
        },
      })
    })

    test('a cancel beside a claim of an expired lease ends the task, or marks it for its new runner', async () => {
      await run({
        setup: async () => {
          const world = await tasksAndLease({ leased: 1, expired: true })
          return { ...world, cancel: cancelOf(world.ids[0]!) }
        },
        sessions: {
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 1 }),
          cancel: (db, world) => world.cancel(db, undefined),
        },
        async check(world, { tasks, replies }) {
          const { status, cancel, losses } = only(tasks, world)
          expect([replies['cancel'], claimIds(replies['claim']).length, status, cancel, losses]).toBeOneOf([
            ['cancelled', 0, 'cancelled', false, 0],
            ['cancelling', 1, 'leased', true, 1],
          ])
        },
      })
    })

    test('what a lease hands back it has not settled, and what it settles it does not hand back', async () => {
      await run({
        setup: () => tasksAndLease({ leased: 1 }),
        sessions: {
          settle: (db, { lease, held }) =>
            takeTurn(db, {
              lease,
              outcomes: [outcome(held[0]!, 'retry', { body: failure, delayMs: 60_000 })],
            }),
          release: async (db, { lease }) => {
            const range = { lease, leaseMs: 60_000, except: [] }
            return readReleased(await db.query(releaseHeldStatement(range)))
          },
        },
        async check(world, { tasks, replies }) {
          const released = (replies['release'] as string[]).length
          expect([unsettled(replies['settle']).length, released]).toBeOneOf([
            [0, 0],
            [1, 1],
          ])
          expect(only(tasks, world)).toMatchObject({ status: 'waiting', attempt: 1 - released, losses: 0 })
        },
      })
    })

    test('what is handed back beside a claim is claimed once, as a loss or as never run', async () => {
      await run({
        setup: () => tasksAndLease({ leased: 2, expired: true }),
        sessions: {
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 2 }),
          release: async (db, { lease }) => {
            const range = { lease, leaseMs: 0, except: [] }
            return readReleased(await db.query(releaseHeldStatement(range)))
          },
        },
        async check({ held }, { tasks, replies, precedes }) {
          const released = replies['release'] as string[]
          const taken = claimIds(replies['claim'])
          for (const { id } of held) {
            const isTaken = taken.includes(id)
            expect(tasks.get(id)).toMatchObject({
              status: isTaken ? 'leased' : 'waiting',
              claims: isTaken ? 2 : 1,
              losses: isTaken && !released.includes(id) ? 1 : 0,
            })
            expect(isTaken || released.includes(id)).toBe(true)
          }
          if (precedes('claim', 'release')) expect([taken.length, released.length]).toEqual([2, 0])
          if (precedes('release', 'claim')) expect([taken.length, released.length]).toEqual([2, 2])
        },
      })
    })

    test('what a lease holds is what its own claim beside it took, in whole or not at all', async () => {
      await run({
        setup: () => tasksAndLease({ due: 2 }),
        sessions: {
          claim: (db, { lease }) => takeTurn(db, { lease, limit: 2 }),
          held: async (db, { lease }) => {
            const range = { lease, leaseMs: 60_000, except: [] }
            return readHeld(await db.query(heldStatement(range))).map(({ id }) => id)
          },
        },
        async check({ ids }, { replies, precedes }) {
          expect(claimIds(replies['claim']).toSorted()).toEqual(ids.toSorted())
          const held = (replies['held'] as string[]).toSorted()
          expect(held).toBeOneOf([[], ids.toSorted()])
          if (precedes('claim', 'held')) expect(held).toEqual(ids.toSorted())
        },
      })
    })

    test('after a pause has committed no claim begins that takes anything', async () => {
      await run({
        setup: () => tasksAndLease({ due: 2 }),
        sessions: {
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 2 }),
          pause: (db) => db.query(setQueuePausedStatement(queue, true)),
        },
        async check(_, { replies, precedes }) {
          if (precedes('pause', 'claim')) expect(claimIds(replies['claim'])).toEqual([])
          if (precedes('claim', 'pause')) expect(claimIds(replies['claim'])).toHaveLength(2)
          expect(await claimNow(database, 2, { queues: [queue] })).toEqual([])
          expect(await claimNow(database, 2)).toEqual([])
        },
      })
    })

    test('eight claims at once share what is due', async () => {
      const call = (db: Database) => takeTurn(db, { lease: newLease(), limit: 2 })
      await run({
        orders: 3,
        setup: () => tasksAndLease({ due: 10, leased: 2, expired: true }),
        sessions: { a: call, b: call, c: call, d: call, e: call, f: call, g: call, h: call },
        async check({ ids }, { tasks, replies }) {
          const taken = Object.values(replies).flatMap(claimIds)
          expect(new Set(taken).size).toBe(taken.length)
          const rest = (await claimNow(database, 100, { queues: [queue] })).map(({ id }) => id)
          expect([...taken, ...rest].toSorted()).toEqual(ids.toSorted())
          for (const id of taken) expect(tasks.get(id)?.status).toBe('leased')
        },
      })
    })

    test('settles, claims, a cancel, a hand back and a pause at once leave each task in one place', async () => {
      type World = Awaited<ReturnType<typeof tasksAndLease>>
      const settle =
        (n: number, kind: OutcomeKind): Call<World> =>
        (db, { lease, held }) =>
          takeTurn(db, { lease, limit: 1, outcomes: [outcome(held[n]!, kind, { body: failure })] })
      await run<World>({
        orders: 4,
        setup: () => tasksAndLease({ leased: 4, due: 2 }),
        sessions: {
          finish: settle(0, 'finish'),
          retry: settle(1, 'retry'),
          release: settle(2, 'release'),
          again: settle(0, 'retry'),
          claim: (db) => takeTurn(db, { lease: newLease(), limit: 4 }),
          cancel: (db, { held }) => cancelOf(held[1]!.id)(db, undefined),
          'hand back': (db, { lease, held }) => {
            const except = held.slice(0, 3).map(({ id }) => id)
            return db.query(releaseHeldStatement({ lease, leaseMs: 60_000, except }))
          },
          pause: (db) => db.query(setQueuePausedStatement(queue, true)),
        },
        async check({ ids, held }, { tasks, replies }) {
          expect([...tasks.keys()].toSorted()).toEqual(ids.toSorted())
          const outcomes = [unsettled(replies['finish']), unsettled(replies['again'])]
          expect(outcomes.toSorted((a, b) => a.length - b.length)).toEqual([[], [held[0]!.id]])
          for (const task of tasks.values()) expect(task.losses).toBe(0)
        },
      })
    })
  })
}
