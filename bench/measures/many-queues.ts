// What a runner of all queues pays for their number when each has work.
import { before, izta } from '../contenders.ts'
import { median, quantile, type Measure, type Row } from '../measure.ts'

const perClaim = 100
const counts = [1, 20, 100]

export const manyQueues: Measure = {
  name: 'many-queues',
  title:
    'claims of 100 by a runner of all of 1, 20 and 100 queues, the tasks spread over them and ten priorities',
  async run(bench) {
    const rows: Row[] = []
    const stages = counts.map((queues) => ({ claims: bench.size(200, 10), queues, priorities: 10 }))
    for (const contender of [before, izta]) {
      // oxlint-disable-next-line no-await-in-loop -- one run at a time
      const results = (await bench.run(contender, 'claims', { perClaim, stages })).stages
      for (const [index, queues] of counts.entries()) {
        const times = results[index]
        if (times === undefined) continue
        const subject = `${contender.label}, ${queues} ${queues === 1 ? 'queue' : 'queues'}`
        const target =
          queues === 100 && contender === izta ? ({ of: 'value', atMost: 5 } as const) : undefined
        rows.push(
          { subject, unit: 'ms p50', values: [quantile(times.claimMs, 0.5)], target },
          { subject, unit: 'ms p99', values: [quantile(times.claimMs, 0.99)] },
          { subject, unit: 'µs backend CPU/claim', values: [median(times.claimMicros)] },
          { subject, unit: 'buffers', values: [median(times.claimBuffers)] },
        )
      }
    }
    return rows
  },
}
