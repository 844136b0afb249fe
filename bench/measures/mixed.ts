// A steady stream of tasks into a queue that is being worked on, both in one process.
import { median, quantile, type Measure } from '../measure.ts'
import { beforeAndNow } from './before-and-now.ts'

const perSecond = 2000

export const mixedMeasure: Measure = {
  name: 'mixed',
  title: '2,000 tasks a second for 20 s while draining: start delay, and whether the queue grows',
  run(bench) {
    const tasks = Math.round((bench.size(20, 2) * perSecond) / 10) * 10
    const third = (backlog: readonly number[]) => Math.ceil(backlog.length / 3)
    return beforeAndNow(
      bench,
      'mixed',
      { tasks, perSecond },
      [
        {
          unit: 'ms start delay p50',
          valueOf: ({ delaysMs }) => quantile(delaysMs, 0.5),
          target: { of: 'ratio', atMost: 1.05 },
        },
        {
          unit: 'ms start delay p99',
          valueOf: ({ delaysMs }) => quantile(delaysMs, 0.99),
          target: { of: 'value', atMost: 100 },
        },
        {
          unit: 'tasks waiting, first third',
          valueOf: ({ backlog }) => median(backlog.slice(0, third(backlog))),
        },
        {
          unit: 'tasks waiting, last third',
          valueOf: ({ backlog }) => median(backlog.slice(-third(backlog))),
          target: { of: 'value', atMost: perSecond / 10 },
        },
        {
          unit: 'µs server CPU/task',
          valueOf: ({ serverCpuMicrosPerTask }) => serverCpuMicrosPerTask,
          target: { of: 'ratio', atMost: 1.05 },
        },
      ],
      '',
      { concurrency: 100 },
    )
  },
}
