// After a lost answer: finding what the claim took, and handing back what nobody runs.
import { createIzta, defineJob } from 'izta'
import { expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { DatabaseUnreachableError } from '../../src/errors.ts'
import {
  heldStatement,
  readHeld,
  readReleased,
  releaseHeldStatement,
  type LeaseRange,
} from '../../src/store/recover.ts'
import { testDatabase } from '../support/database.ts'
import {
  claim,
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
const silent = { debug() {}, info() {}, warn() {}, error() {} }
const job = defineJob({ id: 'job' })

const held = async (range: LeaseRange) => readHeld(await database.query(heldStatement(range)))
const release = async (range: LeaseRange) => readReleased(await database.query(releaseHeldStatement(range)))

/** Applies the first statement, does what others do meanwhile, and loses the answer. */
function losingTheFirst(meanwhile: () => Promise<void>): Database {
  let calls = 0
  return {
    async query(statement) {
      const rows = await database.query(statement)
      if (calls++ > 0) return rows
      await meanwhile()
      throw new DatabaseUnreachableError('database-unreachable', 'The answer was lost.', {
        retryable: true,
        outcome: 'unknown',
      })
    },
  }
}

async function runToEnd(queue: string): Promise<void> {
  const lease = newLease()
  const claimed = await claim(database, 10, { lease, queues: [queue] })
  await settle(
    database,
    lease,
    claimed.map((task) => outcome(task, 'finish')),
  )
}

test('what a lost claim took is found by its lease', async () => {
  const lease = newLease()
  await enqueue(database, [
    ...newTasks(3, { queue: 'found', priority: 0 }),
    ...newTasks(2, { queue: 'found', priority: 9 }),
  ])
  const claimed = await claim(database, 10, { lease, leaseMs: 900_000, queues: ['found'] })
  await claim(database, 10, { lease: newLease(), leaseMs: 900_000 })
  const range = { lease, leaseMs: 890_000, except: [] }
  expect((await held(range)).toSorted((a, b) => a.id.localeCompare(b.id))).toEqual(
    claimed
      .toSorted((a, b) => a.id.localeCompare(b.id))
      .map((task) => ({ ...task, waitedMs: expect.any(Number) })),
  )
  expect(await held({ ...range, lease: newLease() })).toEqual([])
  expect(await held({ ...range, except: claimed.slice(1).map(({ id }) => id) })).toHaveLength(1)
})

test('all but the running ones are handed back as they were', async () => {
  const lease = newLease()
  const tasks = newTasks(4, { queue: 'back' })
  await enqueue(database, tasks)
  const claimed = await claim(database, 4, { lease, queues: ['back'] })
  const range = { lease, leaseMs: 60_000, except: [claimed[0]!.id] }
  expect((await release(range)).toSorted()).toEqual(
    claimed
      .slice(1)
      .map(({ id }) => id)
      .toSorted(),
  )
  expect(await release(range)).toEqual([])
  const again = await claim(database, 4, { queues: ['back'] })
  expect(again.map(({ losses, attempt, claims }) => ({ losses, attempt, claims }))).toEqual(
    Array.from({ length: 3 }, () => ({ losses: 0, attempt: 0, claims: 2 })),
  )
  // What still runs keeps its lease, and settles.
  expect((await settle(database, lease, [outcome(claimed[0]!, 'finish')])).unsettled).toEqual([])
})

test('after a lost answer the settles are repeated without harm, and the rest of what is held is found', async () => {
  const tasks = newTasks(3, { queue: 'ambiguous' })
  await enqueue(database, tasks)
  const lease = newLease()
  const [first] = await claim(database, 1, { lease, queues: ['ambiguous'] })
  const request = { lease, queues: ['ambiguous'], outcomes: [outcome(first!, 'finish')] }
  const { claimed: lost } = await turn(database, { ...request, limit: 2 })
  // Nobody has read that answer: the same outcomes again, and no claim.
  await turn(database, { ...request, limit: 0 })
  const found = await held({ lease, leaseMs: 60_000, except: [first!.id] })
  expect(found.map(({ id }) => id).toSorted()).toEqual(lost.map(({ id }) => id).toSorted())
  expect(found).toHaveLength(2)
  const { rows } = await pool.query(
    "select count(*)::int as count from izta.history where queue = 'ambiguous'",
  )
  expect(rows).toEqual([{ count: 1 }])
})

test('a late copy of a claim takes tasks for the same lease, where they are found and handed back', async () => {
  await enqueue(database, newTasks(4, { queue: 'late' }))
  const lease = newLease()
  const request = { lease, queues: ['late'], leaseMs: 60_000 }
  const known = await claim(database, 2, request)
  await claim(database, 2, request)
  const except = known.map(({ id }) => id)
  expect(await release({ ...request, except })).toHaveLength(2)
  expect(await claim(database, 4, { queues: ['late'] })).toHaveLength(2)
})

test('a lost enqueue that was applied and has finished meanwhile is not made again', async () => {
  const lossy = losingTheFirst(() => runToEnd('lost'))
  const izta = createIzta({ database: lossy, jobs: [job], log: silent })
  const { id, created } = await izta.enqueue(job, undefined, { queue: 'lost' })
  expect(created).toBe(true)
  expect(await izta.get(job, id)).toMatchObject({ status: 'finished' })
  expect(await claim(database, 10, { queues: ['lost'] })).toEqual([])
})

test('a lost enqueue whose key has passed on meanwhile is told of its own task', async () => {
  const lossy = losingTheFirst(async () => {
    await runToEnd('passed')
    await enqueue(database, [newTask({ queue: 'passed', key: 'passed' })])
  })
  const izta = createIzta({ database: lossy, jobs: [job], log: silent })
  const { id, created } = await izta.enqueue(job, undefined, { queue: 'passed', key: 'passed' })
  expect(created).toBe(true)
  expect(await izta.get(job, id)).toMatchObject({ status: 'finished' })
})

test('an enqueue that was given up while it still ran is found, also when it has ended before the next look', async () => {
  // The first copy is still uncommitted when the second waits for it; the task has run before the third.
  const first = await connect()
  let calls = 0
  const racing: Database = {
    async query(statement) {
      calls++
      if (calls === 1) {
        await first.query('begin')
        await onConnection(first).query(statement)
        throw new DatabaseUnreachableError('database-unreachable', 'Too slow.', {
          retryable: true,
          outcome: 'unknown',
        })
      }
      if (calls > 2) return database.query(statement)
      const waiting = database.query(statement)
      await untilBlockedBy(pool, await pidOf(first))
      await first.query('commit')
      const rows = await waiting
      await runToEnd('racing')
      return rows
    },
  }
  const izta = createIzta({ database: racing, jobs: [job], log: silent })
  const { id, created } = await izta.enqueue(job, undefined, { queue: 'racing' })
  expect(created).toBe(true)
  expect(await izta.get(job, id)).toMatchObject({ status: 'finished' })
  expect(await claim(database, 10, { queues: ['racing'] })).toEqual([])
})
