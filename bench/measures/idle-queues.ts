// Whether a claim costs what is due, not the number of queues that exist.
import { before, izta } from '../contenders.ts'
import { median, type Measure, type Row } from '../measure.ts'
import type { StageResult } from '../tree-works/claims.ts'
import { bareRows } from './bare.ts'

const perClaim = 10
const idle = [0, 1000, 20_000]

export const idleQueues: Measure = {
  name: 'idle-queues',
  title: `claims of ${perClaim} by a runner of all queues, next to idle ones; warm, and as the first of a process`,
  async run(bench) {
    const rows: Row[] = []
    const stages = idle.flatMap((count, index) => [
      { claims: bench.size(20, 4), idleQueues: count - (idle[index - 1] ?? 0) },
      { claims: bench.size(10, 3), fresh: true },
    ])
    for (const contender of [before, izta]) {
      const results: StageResult[][] = []
      // oxlint-disable no-await-in-loop -- one run at a time
      for (let round = 0; round < (contender === izta ? bench.rounds : 1); round++) {
        results.push((await bench.run(contender, 'claims', { perClaim, stages })).stages)
        bench.log(`  ${contender.label}`)
      }
      const describe = (unit: string, valuesOf: (result: StageResult) => number[], isTarget: boolean) => {
        const values = (stage: number) =>
          results.map((all) => median(all[stage] === undefined ? [] : valuesOf(all[stage])))
        for (const [index, count] of idle.entries()) {
          for (const first of [0, 1]) {
            const here = values(2 * index + first)
            const ratios = here.map((value, round) => value / (values(first)[round] ?? NaN))
            rows.push({
              subject: `${contender.label}, ${count.toLocaleString('en')} idle${first === 1 ? ', first claim' : ''}`,
              unit,
              values: here,
              ratio: index === 0 ? undefined : { to: 'one queue', values: ratios },
              target: isTarget && index > 0 && contender === izta ? { of: 'ratio', atMost: 1.25 } : undefined,
            })
          }
        }
      }
      describe('µs backend CPU/claim', ({ claimMicros }) => claimMicros, true)
      describe('ms p50', ({ claimMs }) => claimMs, false)
    }
    return [...rows, ...(await bareRows(bench))]
  },
}
