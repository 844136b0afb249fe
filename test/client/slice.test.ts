// The whole way of a task through the public API: define, enqueue, run, read back.
import { createIzta, defineJob, startRunner } from 'izta'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { testDatabase } from '../support/database.ts'

const { database } = await testDatabase()

const divide = defineJob({
  id: '74f642fe-d07b-4ba9-a29f-a1be75dcb3b3',
  name: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  async run({ numerator, denominator }, ctx) {
    if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' }, { retry: false })
    return numerator / denominator
  },
})

const log = { debug() {}, info() {}, warn() {}, error() {} }
const izta = createIzta({ database, jobs: [divide], log })

test('an enqueued task is run and its result read back', async () => {
  const { id, created } = await izta.enqueue(divide, { numerator: 1, denominator: 2 })
  expect(created).toBe(true)
  await using _runner = startRunner(izta)
  const task = await izta.wait(divide, id, { timeoutSeconds: 10 })
  expect(task).toMatchObject({ status: 'finished', result: 0.5, attempt: 1, errors: [] })
})

test('a declared error ends the task and is read back typed', async () => {
  await using _runner = startRunner(izta)
  const { id } = await izta.enqueue(divide, { numerator: 1, denominator: 0 })
  const task = await izta.wait(divide, id, { timeoutSeconds: 10 })
  expect(task).toMatchObject({ status: 'failed', code: 'declared', error: { code: 'divide-by-zero' } })
})
