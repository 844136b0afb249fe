// Whether a claim costs the same beside millions of future tasks and history rows.
import { insertHistory, insertTasks, openHotPath, timeClaims, type ClaimTimes } from '../claims.ts'
import type { Bench } from '../bench.ts'
import { median, quantile, type Measure, type Row } from '../measure.ts'

interface Case {
  readonly future: number
  readonly history: number
  readonly priorities: number
}

const perClaim = 100

export const flatInSize: Measure = {
  name: 'flat-in-size',
  title: 'claims of 100 beside future tasks and history rows, 1 and 10 priorities',
  async run(bench) {
    const { largest } = bench
    const rows: Row[] = []
    // oxlint-disable no-await-in-loop -- one case at a time
    for (const priorities of [1, 10]) {
      const cases: Case[] = [
        { future: 0, history: 0, priorities },
        { future: largest / 10, history: 0, priorities },
        { future: largest, history: 0, priorities },
        { future: 0, history: largest, priorities },
      ]
      let empty: ClaimTimes | undefined
      for (const one of cases) {
        const times = await timeCase(bench, one)
        empty ??= times
        rows.push(...describe(one, times, empty))
      }
    }
    return rows
  },
}

async function timeCase(bench: Bench, { future, history, priorities }: Case): Promise<ClaimTimes> {
  bench.log(`  ${future} future tasks, ${history} history rows, ${priorities} priorities`)
  const claims = bench.size(500, 50)
  await using database = await bench.server.database()
  await using hotPath = await openHotPath(database.url)
  const { client } = hotPath
  await insertTasks(client, { count: future, queues: 1, priorities, due: 'future' })
  await insertHistory(hotPath, history)
  await insertTasks(client, { count: (claims + 30) * perClaim, queues: 1, priorities, due: 'now' })
  await client.query('vacuum (analyze)')
  return await timeClaims(hotPath, { claims, perClaim, queues: ['queue-0'] })
}

function describe(
  { future, history, priorities }: Case,
  { ms, buffers }: ClaimTimes,
  empty: ClaimTimes,
): Row[] {
  const subject = `${millions(future)} future, ${millions(history)} history, ${priorities} prio`
  const isEmpty = future + history === 0
  const row = (unit: string, value: number, of: number): Row =>
    isEmpty
      ? { subject, unit, values: [value] }
      : {
          subject,
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
