// From a commit into an idle queue to the handler's start.
import { graphileWorker, izta } from '../contenders.ts'
import { quantile, type Measure, type Row } from '../measure.ts'
import { beforeAndNow } from './before-and-now.ts'

const concurrency = 10
const others = [
  { label: 'izta, local stack', queue: izta.queue, options: { concurrency, host: 'local-stack' } } as const,
  { ...graphileWorker, options: { concurrency } },
]

export const latencyMeasure: Measure = {
  name: 'latency',
  title: 'idle queue: from the enqueue (its commit, its call) to the start of the handler',
  async run(bench) {
    const options = { tasks: bench.size(100, 15) }
    const rows: Row[] = await beforeAndNow(
      bench,
      'latency',
      options,
      [
        {
          unit: 'ms p50, after commit',
          valueOf: ({ afterCommitMs }) => quantile(afterCommitMs, 0.5),
          target: { of: 'ratio', atMost: 1.05 },
        },
        {
          unit: 'ms p99, after commit',
          valueOf: ({ afterCommitMs }) => quantile(afterCommitMs, 0.99),
          target: { of: 'value', atMost: 50 },
        },
        {
          unit: 'ms p50, after call',
          valueOf: ({ afterCallMs }) => quantile(afterCallMs, 0.5),
          target: { of: 'ratio', atMost: 1.05 },
        },
        { unit: 'ms p99, after call', valueOf: ({ afterCallMs }) => quantile(afterCallMs, 0.99) },
      ],
      'in process',
      { concurrency },
    )
    for (const contender of others) {
      // oxlint-disable-next-line no-await-in-loop -- one run at a time
      const { afterCommitMs, afterCallMs } = await bench.run(contender, 'latency', options)
      const row = (unit: string, ms: readonly number[], share: number): Row => ({
        subject: contender.label,
        unit,
        values: [quantile(ms, share)],
      })
      rows.push(
        row('ms p50, after commit', afterCommitMs, 0.5),
        row('ms p99, after commit', afterCommitMs, 0.99),
        row('ms p50, after call', afterCallMs, 0.5),
        row('ms p99, after call', afterCallMs, 0.99),
      )
    }
    return rows
  },
}
