// Cancel and retry by hand, in races with claims and settles.
import { createIzta, defineJob } from 'izta'
import { describe, expect, test } from 'vitest'
import { testDatabase } from '../support/database.ts'
import {
  claim,
  enqueue,
  expireLeases,
  newLease,
  newTask,
  newTasks,
  onConnection,
  outcome,
  pidOf,
  settle,
  untilBlockedBy,
} from './statements.ts'

const job = defineJob({ id: 'job', retention: { finishedDays: 1, failedDays: 2 } })

for (const isolation of ['read committed', 'repeatable read'] as const) {
  const { database, pool, connect } = await testDatabase({ isolation })
  const izta = createIzta({ database, jobs: [job] })

  async function waitingTask(queue: string) {
    const task = newTask({ queue })
    await enqueue(database, [task])
    return task.id
  }
  async function runningTask(queue: string) {
    const id = await waitingTask(queue)
    const lease = newLease()
    const [task] = await claim(database, 1, { lease, queues: [queue] })
    return { id, lease, task: task! }
  }

  describe(isolation, () => {
    test('a cancel that meets a claim waits for it and marks the running task', async () => {
      const id = await waitingTask('claiming')
      const runner = await connect()
      await runner.query('begin')
      await claim(onConnection(runner), 1, { queues: ['claiming'] })
      const cancelling = izta.cancel(id)
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      expect(await cancelling).toEqual({ outcome: 'cancelling' })
    })

    test('a failing task whose lease has run out becomes due now', async () => {
      const { id, lease, task } = await runningTask('ran-out')
      await settle(database, lease, [outcome(task, 'retry', { body: '{"code":"thrown"}' })])
      await claim(database, 1, { queues: ['ran-out'] })
      await expireLeases(pool)
      expect(await izta.retry(id)).toEqual({ outcome: 'due-now' })
      const [again] = await claim(database, 1, { queues: ['ran-out'] })
      expect(again).toMatchObject({ id, losses: 1 })
    })

    test('a cancel that meets a settle tells how the task has ended', async () => {
      const { id, lease, task } = await runningTask('settling')
      const runner = await connect()
      await runner.query('begin')
      await settle(onConnection(runner), lease, [outcome(task, 'finish')])
      const cancelling = izta.cancel(id)
      await untilBlockedBy(pool, await pidOf(runner))
      await runner.query('commit')
      expect(await cancelling).toEqual({ outcome: 'already-finished' })
    })

    test('a claim skips the task that is just being cancelled', async () => {
      const id = await waitingTask('cancelled')
      const caller = await connect()
      await caller.query('begin')
      await caller.query('delete from izta.task where id = $1', [id])
      expect(await claim(database, 1, { queues: ['cancelled'] })).toEqual([])
      await caller.query('commit')
    })

    test('twenty cancels, claims and retries at once leave the task in one place', async () => {
      const { id, lease, task } = await runningTask('storm')
      await settle(database, lease, [outcome(task, 'fail', { body: '{"code":"thrown"}' })])
      for (let round = 0; round < 5; round++) {
        await Promise.allSettled(
          Array.from({ length: 20 }, async (_, index) => {
            if (index % 3 === 0) return izta.retry(id)
            if (index % 3 === 1) return izta.cancel(id)
            const own = newLease()
            const claimed = await claim(database, 1, { lease: own, queues: ['storm'] })
            return settle(
              database,
              own,
              claimed.map((one) => outcome(one, 'fail', { body: '{"code":"thrown"}' })),
            )
          }),
        )
        const { rows } = await pool.query(
          `select (select count(*)::int from izta.task where id = $1)
            + (select count(*)::int from izta.history where id = $1) as places`,
          [id],
        )
        expect(rows).toEqual([{ places: 1 }])
      }
    })

    test('of ten retries at once one moves the task', async () => {
      const { id, lease, task } = await runningTask('retries')
      await settle(database, lease, [outcome(task, 'fail', { body: '{"code":"thrown"}' })])
      const results = await Promise.allSettled(Array.from({ length: 10 }, () => izta.retry(id)))
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      expect(await claim(database, 10, { queues: ['retries'] })).toHaveLength(1)
    })
  })

  describe(`${isolation}, one at a time`, () => {
    test('a waiting task is cancelled at once and kept as its job says', async () => {
      const id = await waitingTask('waiting')
      expect(await izta.cancel(id)).toEqual({ outcome: 'cancelled' })
      expect(await izta.cancel(id)).toEqual({ outcome: 'already-cancelled' })
      const task = await izta.get(job, id)
      if (task?.status !== 'cancelled') throw new Error(`it is ${task?.status}`)
      expect(task.expiresAt.getTime() - task.finishedAt.getTime()).toBe(2 * 86_400_000)
    })

    test('a task whose runner has died is cancelled at once', async () => {
      const { id, lease, task } = await runningTask('died')
      await expireLeases(pool)
      expect(await izta.cancel(id)).toEqual({ outcome: 'cancelled' })
      expect((await settle(database, lease, [outcome(task, 'finish')])).unsettled).toEqual([id])
      expect(await izta.get(job, id)).toMatchObject({ status: 'cancelled' })
    })

    test('a marked task whose runner dies is claimed with its mark', async () => {
      const { id } = await runningTask('marked')
      await izta.cancel(id)
      await expireLeases(pool)
      expect(await claim(database, 1, { queues: ['marked'] })).toMatchObject([
        { id, cancel: true, losses: 1 },
      ])
    })

    test('a failed task goes back with its id and errors, attempts anew', async () => {
      const { id, lease, task } = await runningTask('failed')
      await settle(database, lease, [outcome(task, 'fail', { body: '{"code":"thrown","message":"first"}' })])
      expect(await izta.retry(id)).toEqual({ outcome: 'requeued' })
      expect(await izta.get(job, id)).toMatchObject({
        status: 'pending',
        attempt: 0,
        losses: 0,
        errors: [{ code: 'thrown', message: 'first' }],
      })
    })

    test('a failing task is due at once', async () => {
      const { id, lease, task } = await runningTask('failing')
      const body = '{"code":"thrown"}'
      await settle(database, lease, [outcome(task, 'retry', { body, delayMs: 3_600_000 })])
      expect(await claim(database, 1, { queues: ['failing'] })).toEqual([])
      expect(await izta.retry(id)).toEqual({ outcome: 'due-now' })
      expect(await claim(database, 1, { queues: ['failing'] })).toMatchObject([{ id, attempt: 1 }])
    })

    test('a finished task goes back only by force, one that kept nothing never', async () => {
      await enqueue(database, newTasks(2, { queue: 'finished' }))
      const lease = newLease()
      const [kept, bare] = await claim(database, 2, { lease, queues: ['finished'] })
      await settle(database, lease, [outcome(kept!, 'finish'), outcome(bare!, 'finish', { keepSeconds: 0 })])
      await expect(izta.retry(kept!.id)).rejects.toMatchObject({ code: 'task-finished' })
      expect(await izta.retry(kept!.id, { force: true })).toEqual({ outcome: 'requeued' })
      await expect(izta.retry(bare!.id, { force: true })).rejects.toMatchObject({ code: 'payload-gone' })
    })

    test('a retry of a task that waits, runs or does not exist says so', async () => {
      const { id } = await runningTask('refused')
      await expect(izta.retry(id)).rejects.toMatchObject({ code: 'task-unfinished' })
      await expect(izta.retry(crypto.randomUUID())).rejects.toMatchObject({ code: 'task-not-found' })
      expect(await izta.cancel(crypto.randomUUID())).toEqual({ outcome: 'not-found' })
    })
  })
}
