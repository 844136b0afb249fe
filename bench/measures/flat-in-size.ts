// Whether a claim costs the same beside millions of future tasks and history rows.
import {
  insertHistory,
  insertTasks,
  openHotPath,
  timeClaims,
  type ClaimTimes,
  type HotPath,
} from '../claims.ts'
import type { Bench } from '../bench.ts'
import { median, quantile, type Measure, type Row } from '../measure.ts'

interface Case {
  readonly future: number
  readonly history: number
  /** Of the due tasks; future ones have all ten. */
  readonly priorities: number
}

const perClaim = 100

export const flatInSize: Measure = {
  name: 'flat-in-size',
  title: 'claims of 100 beside future tasks and history rows, 1 and 10 priorities',
  async run(bench) {
    const { largest } = bench
    const timed: { readonly one: Case; readonly times: ClaimTimes }[] = []
    const time = async (hotPath: HotPath, rows: Omit<Case, 'priorities'>) => {
      for (const priorities of [1, 10]) {
        const one = { ...rows, priorities }
        bench.log(`  ${nameOf(one)}`)
        timed.push({ one, times: await timeCase(bench, hotPath, priorities) })
        if (rows.history === 0) await hotPath.client.query('truncate izta.history')
      }
    }
    // The rows are filled in once, and each size is looked at on the way.
    {
      await using database = await bench.server.database()
      await using hotPath = await openHotPath(database.url)
      await time(hotPath, { future: 0, history: 0 })
      const fill = (count: number) =>
        insertTasks(hotPath.client, { count, queues: 1, priorities: 10, due: 'future' })
      await fill(largest / 10)
      await time(hotPath, { future: largest / 10, history: 0 })
      await fill(largest - largest / 10)
      await time(hotPath, { future: largest, history: 0 })
    }
    {
      await using database = await bench.server.database()
      await using hotPath = await openHotPath(database.url)
      await insertHistory(hotPath, largest)
      await time(hotPath, { future: 0, history: largest })
    }
    return timed.flatMap(({ one, times }) => {
      const empty = timed.find((other) => other.one.priorities === one.priorities)
      return empty === undefined ? [] : describe(one, times, empty.times)
    })
  },
}

async function timeCase(bench: Bench, hotPath: HotPath, priorities: number): Promise<ClaimTimes> {
  const claims = bench.size(500, 50)
  await insertTasks(hotPath.client, { count: (claims + 30) * perClaim, queues: 1, priorities, due: 'now' })
  await hotPath.client.query('vacuum (analyze)')
  await hotPath.client.query('checkpoint')
  const times = await timeClaims(hotPath, { claims, perClaim, queues: ['queue-0'] })
  await hotPath.client.query(`delete from izta.task where run_at <= now() or lease is not null`)
  return times
}

const nameOf = ({ future, history, priorities }: Case) =>
  `${millions(future)} future, ${millions(history)} history, ${priorities} prio`

function describe(one: Case, { ms, buffers }: ClaimTimes, empty: ClaimTimes): Row[] {
  const isEmpty = one.future + one.history === 0
  const row = (unit: string, value: number, of: number): Row =>
    isEmpty
      ? { subject: nameOf(one), unit, values: [value] }
      : {
          subject: nameOf(one),
          unit,
          values: [value],
          ratio: { to: 'empty', values: [value / of] },
          target: { of: 'ratio', atMost: 1.25 },
        }
  return [
    row('ms p50', quantile(ms, 0.5), quantile(empty.ms, 0.5)),
    row('ms p99', quantile(ms, 0.99), quantile(empty.ms, 0.99)),
    row('buffers', median(buffers), median(empty.buffers)),
  ]
}

const millions = (count: number) =>
  count === 0 ? '0' : count >= 1e6 ? `${count / 1e6} M` : `${count / 1e3} k`
