// From a commit into an idle queue to the handler's start.
import { graphileWorker, izta } from '../contenders.ts'
import { quantile, type Measure, type Row } from '../measure.ts'

const inProcess = { label: 'izta, in process', queue: izta.queue, options: { concurrency: 10 } }
const localStack = {
  label: 'izta, local stack',
  queue: izta.queue,
  options: { concurrency: 10, host: 'local-stack' },
} as const

export const latencyMeasure: Measure = {
  name: 'latency',
  title: 'idle queue: from the enqueue (its commit, its call) to the start of the handler',
  async run(bench) {
    const rows: Row[] = []
    for (const contender of [inProcess, localStack, graphileWorker]) {
      const samples = bench.size(500, 15)
      // oxlint-disable-next-line no-await-in-loop -- one run at a time
      const { afterCommitMs, afterCallMs } = await bench.run(contender, 'latency', { tasks: samples })
      const targets =
        contender !== graphileWorker
          ? ({ p50: { of: 'value', atMost: 10 }, p99: { of: 'value', atMost: 50 } } as const)
          : undefined
      rows.push(
        {
          subject: `${contender.label}, after commit`,
          unit: 'ms p50',
          values: [quantile(afterCommitMs, 0.5)],
          target: targets?.p50,
        },
        {
          subject: `${contender.label}, after commit`,
          unit: 'ms p99',
          values: [quantile(afterCommitMs, 0.99)],
          target: targets?.p99,
        },
        { subject: `${contender.label}, after call`, unit: 'ms p50', values: [quantile(afterCallMs, 0.5)] },
        { subject: `${contender.label}, after call`, unit: 'ms p99', values: [quantile(afterCallMs, 0.99)] },
      )
    }
    return rows
  },
}
