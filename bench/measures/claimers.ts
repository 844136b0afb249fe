// Many runners at one queue: whether they hold each other up.
import { before, izta } from '../contenders.ts'
import type { Measure, Row } from '../measure.ts'

const concurrency = 100

export const claimersMeasure: Measure = {
  name: 'claimers',
  title: `50 and 200 runners with ${concurrency} places each, all at one queue`,
  async run(bench) {
    const rows: Row[] = []
    // oxlint-disable no-await-in-loop -- one run at a time
    for (const contender of [before, izta]) {
      const few = []
      const many = []
      const run = async (claimers: number) => {
        const options = {
          claimers,
          concurrency,
          seconds: bench.size(10, 6),
          tasks: bench.size(500_000, 300_000),
        }
        const result = await bench.run(contender, 'claimers', options)
        bench.log(`  ${contender.label}, ${claimers} runners: ${Math.round(result.perSecond)}/s`)
        return result
      }
      for (let round = 0; round < (contender === izta ? bench.rounds : 1); round++) {
        few.push(await run(50))
        many.push(await run(200))
      }
      const [rateOfFew, rateOfMany] = [few, many].map((runs) => runs.map(({ perSecond }) => perSecond))
      const hasTarget = contender === izta
      const subject = (count: number) => `${contender.label}, ${count} runners`
      rows.push(
        { subject: subject(50), unit: 'tasks/s', values: rateOfFew ?? [] },
        {
          subject: subject(200),
          unit: 'tasks/s',
          values: rateOfMany ?? [],
          ratio: {
            to: '50 runners',
            values: (rateOfMany ?? []).map((rate, round) => rate / (rateOfFew?.[round] ?? NaN)),
          },
          target: hasTarget ? { of: 'ratio', atLeast: 0.95 } : undefined,
        },
        ...[
          { count: 50, runs: few },
          { count: 200, runs: many },
        ].flatMap(({ count, runs }): Row[] => [
          {
            subject: subject(count),
            unit: 'ms/statement p99',
            values: runs.map(({ statementP99Ms }) => statementP99Ms),
            target: hasTarget && count === 200 ? { of: 'value', atMost: 3000 } : undefined,
          },
          {
            subject: subject(count),
            unit: 'lock timeouts',
            values: [runs.reduce((sum, { lockTimeouts }) => sum + lockTimeouts, 0)],
            target: hasTarget && count === 200 ? { of: 'value', atMost: 0 } : undefined,
          },
          {
            subject: subject(count),
            unit: 'other failed statements',
            values: [runs.reduce((sum, { otherFailures }) => sum + otherFailures, 0)],
          },
        ]),
      )
    }
    return rows
  },
}
