// Where claims begin to look in a backlog, and that nothing below is left behind.
import { createIzta, defineJob, type Clock, type Database } from 'izta'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Watermarks } from '../../src/runner/claims.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import { startRun } from '../../src/runner/runner.ts'
import type { ClaimedTask } from '../../src/store/turn.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, newTask } from '../store/statements.ts'
import { argument } from '../support/arguments.ts'

const { database, pool } = await testDatabase()
const task = (queue: string, priority: number, dueMs: number) =>
  ({ queue, priority, dueAt: new Date(dueMs) }) as ClaimedTask

function marking() {
  let nowMs = 0
  const clock: Clock = { now: () => nowMs, after: () => () => {} }
  return { watermarks: new Watermarks(clock), wait: (ms: number) => void (nowMs += ms) }
}

test('the first claim looks from the beginning; after a full one the next looks from the last due instant', () => {
  const { watermarks } = marking()
  expect(watermarks.ranges()).toEqual([])
  watermarks.record([], 10, [task('a', 5, 100), task('a', 5, 300), task('a', 5, 200), task('b', 0, 50)], true)
  expect(watermarks.ranges()).toEqual([
    { queue: 'a', lowest: 0, highest: 4, fromMs: undefined },
    { queue: 'a', lowest: 5, highest: 5, fromMs: 299 },
    { queue: 'a', lowest: 6, highest: 9, fromMs: undefined },
    { queue: 'b', lowest: 0, highest: 0, fromMs: 49 },
    { queue: 'b', lowest: 1, highest: 9, fromMs: undefined },
  ])
})

test.each([
  ['after twenty times its cost', 10, 199, 200],
  ['after 5 s at the latest', 2500, 4999, 5000],
])('a full look goes again %s', (_, tookMs, before, after) => {
  const { watermarks, wait } = marking()
  watermarks.record([], tookMs, [task('a', 5, 100)], true)
  wait(before)
  expect(watermarks.ranges()).toHaveLength(3)
  // Claims with watermarks tell nothing of what a full look costs.
  watermarks.record(watermarks.ranges(), 1, [task('a', 5, 100)], true)
  wait(after - before)
  expect(watermarks.ranges()).toEqual([])
})

test('a claim that does not come back full is followed by a full look', () => {
  const { watermarks } = marking()
  watermarks.record([], 10, [task('a', 5, 100)], true)
  watermarks.record(watermarks.ranges(), 10, [task('a', 5, 200)], false)
  expect(watermarks.ranges()).toEqual([])
})

test('a claim takes what is due at its watermark and after, in those priorities only', async () => {
  const at = (ms: number) => new Date(Date.UTC(2020, 0, 1) + ms)
  const [below, exact, above, elsewhere] = [0, 1000, 2000, 0].map((ms, index) =>
    newTask({ queue: 'floor', runAt: at(ms), priority: index === 3 ? 6 : 5 }),
  )
  await enqueue(database, [below!, exact!, above!, elsewhere!])
  const ranges = [
    { queue: 'floor', lowest: 5, highest: 5, fromMs: at(1000).getTime() },
    { queue: 'floor', lowest: 6, highest: 9, fromMs: undefined },
  ]
  const ids = (await claim(database, 10, { queues: ['floor'], ranges })).map(({ id }) => id)
  expect(ids.toSorted()).toEqual([exact!.id, above!.id, elsewhere!.id].toSorted())
  expect((await claim(database, 10, { queues: ['floor'] })).map(({ id }) => id)).toEqual([below!.id])
})

test('a task that becomes due below the watermark is run before the run leaves', async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  const ran: string[] = []
  const job = defineJob({ id: 'note', payload: z.string(), run: (name) => void ran.push(name) })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const writer = createIzta({ database, jobs: [job], log })
  await writer.enqueueMany(
    job,
    Array.from({ length: 30 }, (_, n) => `${n}`),
  )
  let marked = 0
  let isEnqueued = false
  const between: Database = {
    async query(statement) {
      if (typeof argument(statement, 'p_range_queues') === 'string') {
        marked++
        if (!isEnqueued) {
          isEnqueued = true
          await writer.enqueue(job, 'long due', { runAt: new Date(Date.UTC(2020, 0, 1)) })
        }
      }
      return database.query(statement)
    },
  }
  const config = configOf(createIzta({ database: between, jobs: [job], log }))
  const deadline = deadlineAfter(config.clock, 900_000, config.jobs.values())
  const run = startRun({
    config,
    queues: [],
    capacity: new Capacity(10),
    deadline,
    whenIdle: 'leave',
    hops: 0,
  })
  expect(await run.done).toMatchObject({ finished: 31, more: false })
  expect(marked).toBeGreaterThan(0)
  expect(ran).toContain('long due')
})
