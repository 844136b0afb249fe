// Outcomes of a busy run wait for each other for a moment, and those that something may wait for do not.
import { createIzta, defineJob, type Izta } from 'izta'
import { createTestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Pace } from '../../src/runner/pace.ts'
import { startRun } from '../../src/runner/runner.ts'
import { testDatabase } from '../support/database.ts'
import { silentLog as log } from '../support/silent-log.ts'

test('outcomes wait from the first that ended, as long as the shortest handler allows', () => {
  const pace = new Pace()
  pace.ended(1000, 200, false)
  pace.ended(1001, 40, false)
  pace.ended(1002, 90, false)
  expect(pace.state().waiting).toEqual({ firstEndedAtMs: 1000, shortestMs: 40 })
  pace.turnStarted(1005)
  expect(pace.state()).toMatchObject({ lastTurnAtMs: 1005, waiting: undefined })
})

test('one urgent outcome lets none wait', () => {
  const pace = new Pace()
  pace.ended(1000, 200, false)
  pace.ended(1001, 200, true)
  expect(pace.state().waiting).toEqual({ firstEndedAtMs: 1000, shortestMs: 0 })
})

test('claims follow what handlers took lately, urgent or not', () => {
  const pace = new Pace()
  for (let n = 0; n < 100; n++) pace.ended(n, 400, n % 2 === 0)
  expect(pace.state().recentMs).toBeCloseTo(400, 0)
  for (let n = 0; n < 100; n++) pace.ended(n, 10, false)
  expect(pace.state().recentMs).toBeCloseTo(10, 0)
})

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
const gates = new Map<string, PromiseWithResolvers<void>>()
const gateOf = (name: string) => {
  const gate = gates.get(name) ?? Promise.withResolvers<void>()
  gates.set(name, gate)
  return gate
}
let begun: PromiseWithResolvers<void>
let starts: number
const job = defineJob({
  id: 'gated',
  payload: z.string(),
  timeoutSeconds: 600,
  run(name, { signal }) {
    if (++starts === 2) begun.resolve()
    const stopped = new Promise<never>((_, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason as Error)),
    )
    return Promise.race([gateOf(name).promise, stopped])
  },
})
beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  gates.clear()
  begun = Promise.withResolvers()
  starts = 0
})

/** A run with two handlers at work for 2 s: its outcomes may wait for 50 ms. `settled` counts them. */
async function busy(options: { key?: string } = {}) {
  const izta = createIzta({ database, jobs: [job], clock, log })
  const { id } = await izta.enqueue(job, 'ends', options)
  await izta.enqueue(job, 'goes on')
  const config = configOf(izta)
  const deadline = deadlineAfter(clock, 1_800_000, config.jobs.values())
  const run = startRun({
    config,
    queues: [],
    capacity: new Capacity(10),
    deadline,
    whenIdle: 'leave-quietly',
    hops: 0,
  })
  await begun.promise
  // Its claims have found that nothing more is due: no turn but for outcomes and cancellations.
  await nextTurn(izta, () => clock.advance({ milliseconds: 50 }))
  await nextTurn(izta, () => clock.advance({ milliseconds: 50 }))
  await clock.advance({ seconds: 2 })
  const end = async () => {
    gateOf('goes on').resolve()
    await clock.advance({ milliseconds: 50 })
    return run.done
  }
  return { izta, id, run, end, status: async () => (await izta.get(job, id))?.status }
}

/** Resolves when the next turn was answered, and the run has gone on from there. */
async function nextTurn(izta: Izta, cause: () => unknown): Promise<void> {
  const answered = Promise.withResolvers<unknown>()
  const off = izta.on('turn.completed', answered.resolve)
  await new Promise(setImmediate)
  await cause()
  await answered.promise
  off()
  await new Promise(setImmediate)
}

test('an outcome waits for others while another handler runs, and no longer', async () => {
  const { izta, status, end } = await busy()
  let turns = 0
  izta.on('turn.completed', () => void turns++)
  gateOf('ends').resolve()
  await new Promise(setImmediate)
  await clock.advance({ milliseconds: 49 })
  expect([turns, await status()]).toEqual([0, 'running'])
  await nextTurn(izta, () => clock.advance({ milliseconds: 1 }))
  expect([turns, await status()]).toEqual([1, 'finished'])
  expect(await end()).toMatchObject({ finished: 2 })
})

test('outcomes that end meanwhile go with it', async () => {
  const { izta, run } = await busy()
  const settled: number[] = []
  izta.on('turn.completed', (turn) => void settled.push(turn.settled))
  gateOf('ends').resolve()
  await new Promise(setImmediate)
  gateOf('goes on').resolve()
  // Nothing runs any more, so that it goes at once.
  expect(await run.done).toMatchObject({ finished: 2 })
  expect(settled[0]).toBe(2)
})

test.each<[string, (own: Awaited<ReturnType<typeof busy>>) => unknown, { key?: string }]>([
  ['of a task with a key', () => gateOf('ends').resolve(), { key: 'k' }],
  [
    'of a run that drains',
    ({ run }) => {
      gateOf('ends').resolve()
      run.drain()
    },
    {},
  ],
])('an outcome %s is settled without the clock moving', async (_, cause, options) => {
  const own = await busy(options)
  await nextTurn(own.izta, () => cause(own))
  expect(await own.status()).toBe('finished')
  expect(await own.end()).toMatchObject({ finished: 2 })
})

test('the outcome of a cancelled task is settled without the clock moving', async () => {
  const { izta, id, status, end } = await busy()
  expect(await izta.cancel(id)).toEqual({ outcome: 'cancelling' })
  const cancelled = new Promise<void>((resolve) => void izta.on('task.cancelled', () => resolve()))
  await clock.advance({ seconds: 5 })
  await cancelled
  expect(await status()).toBe('cancelled')
  expect(await end()).toMatchObject({ finished: 1, cancelled: 1 })
})
