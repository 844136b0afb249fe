// How fast expired rows of the history go while a runner drains a queue, and how fast a bare delete removes as many.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { z } from 'zod'
import { payloadsFrom } from '../queue.ts'
import { openInstance, untilSettled, type TreeWork } from './instance.ts'
import { copyRows } from './rows.ts'

export interface PruningOptions {
  readonly expired: number
  /** How long is watched at the most. */
  readonly seconds: number
}

export interface PruningResult {
  readonly prunedPerSecond: number
  /** Next to the same drain, in portions of 5,000. */
  readonly bareDeletedPerSecond: number
  readonly drainedPerSecond: number
}

export const pruning: TreeWork<PruningOptions, PruningResult> = async (tree, watcher, options) => {
  const { url, expired, seconds } = options
  let done = 0
  const job = tree.core.defineJob({
    id: 'note',
    payload: z.object({ n: z.number() }),
    run({ n }) {
      done++
      return { n }
    },
  })
  await using instance = await openInstance(tree, { url, jobs: [job], max: 10 })
  const { izta } = instance
  await izta.migrate()
  await izta.enqueue(job, { n: 0 })
  const once = tree.core.startRunner(izta)
  await untilSettled(watcher)
  await once.stop()
  const over = {
    id: 'uuidv7()',
    finished_at: `now() - interval '8 days'`,
    expires_at: `now() - interval '1 day' + n * interval '1 ms'`,
  }
  await copyRows(watcher, 'history', expired, over)
  await watcher.query('create schema bare')
  await watcher.query('create table bare.history (like izta.history including all)')
  await watcher.query('insert into bare.history select * from izta.history where expires_at < now()')
  await watcher.query('vacuum (analyze)')
  await watcher.query('checkpoint')

  let stopped = false
  let enqueued = 0
  const feed = async () => {
    while (!stopped) {
      if (enqueued - done < 5000) {
        await izta.enqueueMany(job, payloadsFrom(enqueued, 1000))
        enqueued += 1000
      } else await sleep(10)
    }
  }
  const feeding = feed()
  const doneBefore = done
  const startedAt = performance.now()
  const secondsSince = () => (performance.now() - startedAt) / 1000
  const runner = tree.core.startRunner(izta, { concurrency: 100, scheduler: true })
  let left = expired
  while (left > 0 && secondsSince() < seconds) {
    await sleep(250)
    left = await countExpired(watcher)
  }
  const prunedPerSecond = (expired - left) / secondsSince()
  const drainedPerSecond = (done - doneBefore) / secondsSince()
  const bareDeletedPerSecond = await bareDelete(watcher, expired)
  stopped = true
  await feeding
  await runner.stop()
  return { prunedPerSecond, bareDeletedPerSecond, drainedPerSecond }
}

async function countExpired(watcher: Client): Promise<number> {
  const { rows } = await watcher.query<{ left: number }>(
    `select count(*)::integer as left from izta.history where expires_at < now() - interval '1 hour'`,
  )
  return rows[0]?.left ?? NaN
}

async function bareDelete(watcher: Client, count: number): Promise<number> {
  const startedAt = performance.now()
  let deleted = 0
  while (deleted < count) {
    const { rowCount } = await watcher.query(
      `delete from bare.history where ctid = any (array(select ctid from bare.history order by expires_at limit 5000))`,
    )
    deleted += rowCount ?? NaN
  }
  return count / ((performance.now() - startedAt) / 1000)
}
