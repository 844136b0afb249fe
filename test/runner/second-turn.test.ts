// Two turns on their way at once: when, how large, and what happens when one of them goes wrong.
import { createIzta, DatabaseUnreachableError, defineJob, type Database } from 'izta'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import { startRun } from '../../src/runner/runner.ts'
import { argument } from '../support/arguments.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

const runs: string[] = []
const job = defineJob({
  id: 'note',
  payload: z.number(),
  run(_, ctx) {
    runs.push(ctx.task.id)
  },
})
const writer = createIzta({ database, jobs: [job], log })
beforeEach(async () => {
  runs.splice(0)
  await pool.query('truncate izta.task, izta.history, izta.queue')
})

type Query = Database['query']
type Statement = Parameters<Query>[0]
interface Turn {
  readonly limit: number
  readonly claimed: number
  /** Turns on their way when this one left, itself included. */
  readonly beside: number
}

/** Runs until nothing is due, over a database with something in between; tells of its turns in the order they left. */
async function run(
  concurrency: number,
  meddle: (statement: Statement, send: Query, beside: number) => ReturnType<Query> = (s, send) => send(s),
) {
  const turns: Turn[] = []
  let beside = 0
  const between: Database = {
    async query(statement) {
      if (!statement.text.includes('turn_1')) return meddle(statement, database.query, beside)
      const turn = { limit: Number(argument(statement, 'p_limit')), claimed: 0, beside: ++beside }
      turns.push(turn)
      try {
        const rows = await meddle(statement, (one) => database.query(one), turn.beside)
        turn.claimed = rows.length
        return rows
      } finally {
        beside--
      }
    },
  }
  const config = configOf(createIzta({ database: between, jobs: [job], log }))
  const deadline = deadlineAfter(config.clock, 900_000, config.jobs.values())
  const capacity = new Capacity(concurrency)
  const summary = await startRun({ config, queues: [], capacity, deadline, whenIdle: 'leave', hops: 0 }).done
  return { summary, turns }
}

const enqueue = (count: number) =>
  writer.enqueueMany(
    job,
    Array.from({ length: count }, (_, n) => n),
  )
const leased = async () => (await pool.query('select id from izta.task where lease is not null')).rows
const everyTaskRanOnce = (count: number) => {
  expect(new Set(runs).size).toBe(count)
  expect(runs).toHaveLength(count)
}

test('with a large capacity and more due than fits, a second turn of half of it goes next to the first', async () => {
  await enqueue(2000)
  const { summary, turns } = await run(200)
  expect(summary).toMatchObject({ finished: 2000, more: false })
  everyTaskRanOnce(2000)
  expect(turns[0]).toEqual({ limit: 200, claimed: 200, beside: 1 })
  expect(Math.max(...turns.map(({ beside }) => beside))).toBe(2)
  expect(turns.filter(({ beside }) => beside === 2).map(({ limit }) => limit)).toEqual(
    expect.arrayContaining([100]),
  )
})

test.each([
  ['a small capacity', 2000, 100],
  ['no more due than fits', 150, 200],
])('with %s, one turn is on its way at a time', async (_, count, concurrency) => {
  await enqueue(count)
  const { summary, turns } = await run(concurrency)
  expect(summary).toMatchObject({ finished: count, more: false })
  expect(Math.max(...turns.map(({ beside }) => beside))).toBe(1)
})

test('claims on their way ask for no more than the capacity that is free', async () => {
  await enqueue(1000)
  const held: (() => void)[] = []
  const { turns } = await run(200, async (statement, send, beside) => {
    const rows = await send(statement)
    // The first of two is answered when the second has left.
    if (beside === 2) held.splice(0).forEach((answer) => answer())
    else if (rows.length > 0) {
      await new Promise<void>((answer) => {
        held.push(answer)
        setImmediate(answer)
      })
    }
    return rows
  })
  everyTaskRanOnce(1000)
  for (const [index, turn] of turns.entries()) {
    const asked = turn.limit + (turn.beside === 2 ? (turns[index - 1]?.limit ?? 0) : 0)
    expect(asked).toBeLessThanOrEqual(200)
  }
})

test.each([1, 2])(
  'when the answer of number %i of two turns is lost, what it claimed is found after the other was answered',
  async (which) => {
    await enqueue(1500)
    let isLost = false
    const { summary } = await run(200, async (statement, send, beside) => {
      const rows = await send(statement)
      if (isLost || beside !== which || runs.length < 400) return rows
      isLost = true
      throw new DatabaseUnreachableError('database-unreachable', 'no answer', {
        retryable: true,
        outcome: 'unknown',
      })
    })
    expect(isLost).toBe(true)
    expect(summary).toMatchObject({ finished: 1500, more: false })
    everyTaskRanOnce(1500)
    expect(await leased()).toEqual([])
  },
)

test('answers lost at random with two turns on their way: every task runs once', async () => {
  await enqueue(3000)
  let seed = 11
  const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647
  const { summary } = await run(300, async (statement, send) => {
    const rows = await send(statement)
    if (random() < 0.2) {
      throw new DatabaseUnreachableError('database-unreachable', 'no answer', {
        retryable: true,
        outcome: 'unknown',
      })
    }
    return rows
  })
  expect(summary).toMatchObject({ finished: 3000 })
  everyTaskRanOnce(3000)
  expect(await leased()).toEqual([])
})

test('a database that refuses one of two turns for good ends the run after the other was answered', async () => {
  await enqueue(1000)
  await expect(
    run(200, async (statement, send, beside) => {
      if (beside === 2) throw new TypeError('refused')
      return send(statement)
    }),
  ).rejects.toThrow('refused')
  // What the other had claimed was told to stop, and nothing of it runs any more.
  const before = runs.length
  await new Promise(setImmediate)
  expect(runs).toHaveLength(before)
})
