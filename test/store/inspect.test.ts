// Reading over the hot table and the history as if they were one, also while tasks move between them.
import { createIzta, defineJob } from 'izta'
import { expect, test } from 'vitest'
import { nextDueStatement, readNextDue } from '../../src/store/due.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, expireLeases, newLease, newTask, newTasks, outcome, settle } from './statements.ts'

const { database, pool } = await testDatabase()
const job = defineJob({ id: 'job' })
const izta = createIzta({ database, jobs: [job] })
const error = '{"code":"thrown","attempt":1,"class":"Error","message":"no"}'

const nextDue = async (queues = '{}') => readNextDue(await database.query(nextDueStatement(queues)))

test('get never misses a task while it moves to the history and back', async () => {
  const task = newTask({ queue: 'moving' })
  await enqueue(database, [task])
  let moving = true
  const move = async () => {
    for (let round = 0; round < 50; round++) {
      const lease = newLease()
      const [claimed] = await claim(database, 1, { lease, queues: ['moving'] })
      await settle(database, lease, [outcome(claimed!, 'fail', { body: error })])
      await izta.retry(task.id)
    }
    moving = false
  }
  const statuses = new Set<string | undefined>()
  const look = async () => {
    while (moving) statuses.add((await izta.get(job, task.id))?.status)
  }
  await Promise.all([move(), look(), look()])
  expect(statuses).not.toContain(undefined)
  expect(statuses.size).toBeGreaterThan(1)
})

test('get tells another job and an unknown id apart', async () => {
  const task = newTask({ job: 'other' })
  await enqueue(database, [task])
  await expect(izta.get(job, task.id)).rejects.toMatchObject({ code: 'job-mismatch' })
  expect(await izta.get(job, crypto.randomUUID())).toBeUndefined()
})

test('a list goes through both tables, newest first, page by page', async () => {
  const tasks = newTasks(25, { queue: 'listed' })
  await enqueue(database, tasks)
  const lease = newLease()
  const claimed = await claim(database, 12, { lease, queues: ['listed'] })
  await settle(
    database,
    lease,
    claimed.map((task, index) =>
      outcome(task, index % 3 === 0 ? 'fail' : 'finish', { body: index % 3 === 0 ? error : null }),
    ),
  )
  const seen = await Array.fromAsync(izta.list({ queue: 'listed', pageSize: 4 }))
  expect(seen.map(({ id }) => id)).toEqual(tasks.map(({ id }) => id).toReversed())
  const count = async (options: Parameters<typeof izta.list>[0]) =>
    (await Array.fromAsync(izta.list({ queue: 'listed', pageSize: 3, ...options }))).length
  expect(await count({ status: 'failed' })).toBe(4)
  expect(await count({ status: 'finished' })).toBe(8)
  expect(await count({ status: 'pending' })).toBe(13)
  expect(await count({ status: 'running' })).toBe(0)
  expect(await count({ job })).toBe(25)
  expect(await count({ job: 'other' })).toBe(0)
  const ids = tasks.map(({ id }) => id)
  const page = await izta.listPage({ queue: 'listed', pageSize: 20 })
  expect(page.cursor).toBe(ids[5])
  const last = await izta.listPage({ queue: 'listed', cursor: page.cursor! })
  expect(last.tasks.map(({ id }) => id)).toEqual(ids.slice(0, 5).toReversed())
})

test('counts are exact for unfinished tasks and take ended ones since an instant only', async () => {
  await enqueue(database, newTasks(6, { queue: 'counted' }))
  const lease = newLease()
  const [one, two, three, four] = await claim(database, 4, { lease, queues: ['counted'] })
  await settle(database, lease, [
    outcome(one!, 'finish'),
    outcome(two!, 'fail', { body: error }),
    outcome(three!, 'retry', { body: error, delayMs: 60_000 }),
  ])
  const { rows } = await pool.query<{ now: Date }>('select izta.now() as now')
  const unfinished = { pending: 2, running: 1, failing: 1, failed: 0, finished: 0, cancelled: 0 }
  expect((await izta.counts())['counted']).toEqual(unfinished)
  const since = new Date(rows[0]!.now.getTime() - 60_000)
  expect((await izta.counts({ since }))['counted']).toEqual({ ...unfinished, failed: 1, finished: 1 })
  const later = new Date(rows[0]!.now.getTime() + 60_000)
  expect((await izta.counts({ since: later }))['counted']).toEqual(unfinished)
  expect(four?.queue).toBe('counted')
})

test('the next due instant leaves out paused queues and knows the leases of dead runners', async () => {
  await pool.query('truncate izta.task')
  expect(await nextDue()).toBeUndefined()
  await enqueue(database, [
    newTask({ queue: 'sooner', delayMs: 60_000 }),
    newTask({ queue: 'later', priority: 0, delayMs: 600_000 }),
  ])
  expect(await nextDue()).toBeLessThanOrEqual(60_000)
  await izta.queues.pause('sooner')
  expect(await nextDue()).toBeGreaterThan(500_000)
  expect(await nextDue('{sooner}')).toBeUndefined()
  await enqueue(database, [newTask({ queue: 'later' })])
  await claim(database, 1, { queues: ['later'], leaseMs: 300_000 })
  const lease = await nextDue()
  expect(lease).toBeGreaterThan(200_000)
  expect(lease).toBeLessThanOrEqual(300_000)
  await expireLeases(pool)
  expect(await nextDue()).toBeLessThan(0)
})
