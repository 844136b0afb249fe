// A steady stream of tasks into a queue that is being worked on, both in one process.
import { izta } from '../contenders.ts'
import { median, quantile, type Measure } from '../measure.ts'

const steady = { label: 'izta', queue: izta.queue, options: { concurrency: 100 } }

export const mixedMeasure: Measure = {
  name: 'mixed',
  title: '2,000 tasks a second for 60 s while draining: start delay, and whether the queue grows',
  async run(bench) {
    const perSecond = 2000
    const tasks = Math.round((bench.size(60, 2) * perSecond) / 10) * 10
    const { delaysMs, backlog, serverCpuMicrosPerTask } = await bench.run(steady, 'mixed', {
      tasks,
      perSecond,
    })
    const third = Math.ceil(backlog.length / 3)
    return [
      { subject: 'start delay', unit: 'ms p50', values: [quantile(delaysMs, 0.5)] },
      {
        subject: 'start delay',
        unit: 'ms p99',
        values: [quantile(delaysMs, 0.99)],
        target: { of: 'value', atMost: 100 },
      },
      { subject: 'backlog, first third', unit: 'tasks', values: [median(backlog.slice(0, third))] },
      {
        subject: 'backlog, last third',
        unit: 'tasks',
        values: [median(backlog.slice(-third))],
        target: { of: 'value', atMost: perSecond / 10 },
      },
      { subject: 'enqueue to settled', unit: 'µs server CPU/task', values: [serverCpuMicrosPerTask] },
    ]
  },
}
