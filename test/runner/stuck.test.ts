// Handlers that ignore their signals, in runners that stay.
import { createIzta, defineJob, startRunner } from 'izta'
import { createTestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import { gatedJob } from '../support/gated-job.ts'
import { program } from '../support/program.ts'
import { silentLog as log } from '../support/silent-log.ts'

const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })
/** On its own time. */
const real = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))

const note = defineJob({ id: 'note', payload: z.number(), result: z.number(), run: (n) => n })

test('stop leaves what does not stop, leased, after the grace time', async () => {
  const { job, started, open } = gatedJob({ obeys: false })
  const izta = createIzta({ database, jobs: [job], log, clock })
  const { id } = await izta.enqueue(job)
  const stuck: unknown[] = []
  const runner = startRunner(izta, { onStuck: (task) => stuck.push(task) })
  await started(1)
  const stopped = runner.stop({ timeoutSeconds: 10 })
  await clock.advance({ seconds: 15 })
  await stopped
  expect(await izta.get(job, id)).toMatchObject({ status: 'running' })
  expect(stuck).toEqual([{ id, job: 'gated' }])
  open()
})

test('a stuck handler costs one place until it ends: the runner goes on, over its terms, and tells', async () => {
  const { job, started, open } = gatedJob({ obeys: false, timeoutSeconds: 60 })
  let atOnce = 0
  let most = 0
  const counted = defineJob({
    id: 'counted',
    async run() {
      most = Math.max(most, ++atOnce)
      await new Promise(setImmediate)
      atOnce--
    },
  })
  const izta = createIzta({ database, jobs: [job, counted], log, clock })
  const { id } = await izta.enqueue(job)
  const told = Promise.withResolvers<unknown>()
  const health: unknown[] = []
  izta.on('runner.health', (event) => health.push(event))
  const runner = startRunner(izta, { concurrency: 3, onStuck: told.resolve })
  await started(1)
  expect(runner.healthy).toBe(true)
  await clock.advance({ seconds: 65 })
  expect(await told.promise).toEqual({ id, job: 'gated' })
  expect(runner.healthy).toBe(false)

  const runSix = async () => {
    most = 0
    let left = 6
    const ended = Promise.withResolvers<void>()
    const off = izta.on('task.finished', () => --left === 0 && ended.resolve())
    await izta.enqueueMany(Array.from({ length: 6 }, () => [counted] as const))
    await ended.promise
    off()
    return most
  }
  expect(await runSix()).toBe(2)
  await clock.advance({ minutes: 13 })
  expect(await runSix()).toBe(2)

  open()
  await new Promise(setImmediate)
  expect(runner.healthy).toBe(true)
  expect(await runSix()).toBe(3)
  expect(health).toEqual([
    { healthy: false, stuck: 1, concurrency: 3 },
    { healthy: true, stuck: 0, concurrency: 3 },
  ])
  await runner.stop()
})

test('lost tasks do not wait for a stuck handler to end', async () => {
  const { job, started, open } = gatedJob({ obeys: false, timeoutSeconds: 60 })
  const izta = createIzta({ database, jobs: [job, note], log, clock })
  await izta.enqueue(job)
  const stuck = Promise.withResolvers<unknown>()
  const runner = startRunner(izta, { onStuck: stuck.resolve })
  await started(1)
  await clock.advance({ seconds: 65 })
  await stuck.promise
  const finished = new Promise<void>((resolve) => void izta.on('task.finished', () => resolve()))
  const { id } = await izta.enqueue(note, 1, { delaySeconds: 1 })
  await pool.query('update izta.task set lease = gen_random_uuid(), claims = 2, losses = 1 where id = $1', [
    id,
  ])
  await clock.advance({ seconds: 4 })
  await finished
  expect(await izta.get(note, id)).toMatchObject({ status: 'finished', losses: 2 })
  open()
  await runner.stop()
})

test('an onStuck that throws does not keep the failed attempt from being settled', async () => {
  const { job, started, open } = gatedJob({ obeys: false, timeoutSeconds: 60 })
  const errors: string[] = []
  const izta = createIzta({
    database,
    jobs: [job],
    clock,
    log: { ...log, error: (message) => errors.push(message) },
  })
  const retried = new Promise<void>((resolve) => void izta.on('task.retried', () => resolve()))
  await izta.enqueue(job)
  const runner = startRunner(izta, {
    onStuck() {
      throw new Error('oh')
    },
  })
  await started(1)
  await clock.advance({ seconds: 65 })
  await retried
  await runner.stop()
  expect(errors).toContain('onStuck threw')
  open()
})

test('exitWhenStuck ends the process with code 1 after everything else has been settled', async () => {
  const { code, output } = await program(
    real.url,
    `
    const stuck = defineJob({ id: 'stuck', timeoutSeconds: 1, maxAttempts: 1, run: () => new Promise(() => {}) })
    const quick = defineJob({ id: 'quick', run: () => {} })
    const clock = {
      now: () => 20 * performance.now(),
      after(ms, callback) {
        const timer = setTimeout(callback, Math.min(ms / 20, 2 ** 31 - 1))
        return () => clearTimeout(timer)
      },
    }
    const izta = createIzta({ database, jobs: [stuck, quick], log, clock })
    await izta.enqueueMany([[stuck], [quick]])
    startRunner(izta, { exitWhenStuck: true, onStuck: ({ job }) => console.log(job) })`,
  )
  expect(output).toBe('stuck\n')
  expect(code).toBe(1)
  const { rows } = await real.pool.query('select job, status from izta.history order by job')
  expect(rows).toEqual([
    { job: 'quick', status: 'finished' },
    { job: 'stuck', status: 'failed' },
  ])
})
