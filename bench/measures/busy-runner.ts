// What a task costs the database in a runner whose places are all taken.
import type { Measure, Row } from '../measure.ts'
import { bareRows } from './bare.ts'
import { beforeAndNow } from './before-and-now.ts'

const cases = [
  { concurrency: 50, handlerMs: 200, cpuAtMost: 0.3, rateAtLeast: 0.95 },
  { concurrency: 10, handlerMs: 200, cpuAtMost: 0.6, rateAtLeast: 0.97 },
  { concurrency: 50, handlerMs: 20, cpuAtMost: 0.6, rateAtLeast: 0.97 },
  { concurrency: 50, handlerMs: 1000, cpuAtMost: 0.6, rateAtLeast: 0.97 },
] as const

export const busyRunner: Measure = {
  name: 'busy-runner',
  title: 'a runner with all places taken by handlers that wait: CPU of the database per task, and the rate',
  async run(bench) {
    const rows: Row[] = []
    for (const { concurrency, handlerMs, cpuAtMost, rateAtLeast } of cases) {
      const tasks = Math.round((concurrency * 1000 * bench.size(10, 3)) / handlerMs)
      // oxlint-disable-next-line no-await-in-loop -- one case at a time
      const ofCase = await beforeAndNow(
        bench,
        'busy',
        { tasks, concurrency, handlerMs },
        [
          {
            unit: 'µs backend CPU/task',
            valueOf: ({ backendCpuMicrosPerTask }) => backendCpuMicrosPerTask,
            target: { of: 'ratio', atMost: cpuAtMost },
          },
          {
            unit: 'tasks/s',
            valueOf: ({ perSecond }) => perSecond,
            target: { of: 'ratio', atLeast: rateAtLeast },
          },
          { unit: 'statements/task', valueOf: ({ statementsPerTask }) => statementsPerTask },
        ],
        `${concurrency} places × ${handlerMs} ms`,
      )
      rows.push(...ofCase)
    }
    return [...rows, ...(await bareRows(bench))]
  },
}
