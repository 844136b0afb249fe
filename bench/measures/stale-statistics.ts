// Whether a settle keeps its cost when the planner's statistics come from an empty table and the table is large.
import type { Bench } from '../bench.ts'
import { before, izta, type Contender } from '../contenders.ts'
import { median, type Measure, type Row } from '../measure.ts'
import type { StageResult } from '../tree-works/claims.ts'

const perClaim = 20
const future = 100_000

const units: readonly (readonly [string, (result: StageResult) => number[]])[] = [
  ['µs backend CPU/settle', ({ settleMicros }) => settleMicros],
  ['buffers/settle', ({ settleBuffers }) => settleBuffers],
]

export const staleStatistics: Measure = {
  name: 'stale-statistics',
  title: `settles of ${perClaim} next to ${future.toLocaleString('en')} future tasks, statistics from 0 rows and from 1`,
  async run(bench) {
    const rows: Row[] = []
    for (const outcome of ['finish', 'retry'] as const) {
      for (const analysedAt of [0, 1] as const) {
        const what = `${outcome}, statistics from ${analysedAt} ${analysedAt === 1 ? 'row' : 'rows'}`
        // oxlint-disable no-await-in-loop -- one run at a time
        rows.push(
          ...(await settles(bench, before, 1, outcome, analysedAt, what)),
          ...(await settles(bench, izta, bench.rounds, outcome, analysedAt, what)),
        )
      }
    }
    return rows
  },
}

async function settles(
  bench: Bench,
  contender: Contender,
  rounds: number,
  outcome: 'finish' | 'retry',
  analysedAt: 0 | 1,
  what: string,
): Promise<Row[]> {
  // Before, a settle can take seconds.
  const claims = contender === before ? bench.size(10, 4) : bench.size(30, 15)
  const [warm, first] = [{ claims }, { claims: Math.ceil(claims / 2), fresh: true }]
  const options = {
    perClaim,
    outcome,
    analysedAt,
    stages: [warm, first, { ...warm, futureTasks: future }, first],
  }
  const results: StageResult[][] = []
  for (let round = 0; round < rounds; round++) {
    const { stages } = await bench.run(contender, 'claims', options)
    results.push(stages)
    bench.log(`  ${contender.label}, ${what}`)
  }
  const pair = (small: number, large: number, session: string): Row[] =>
    units.flatMap(([unit, valuesOf]) => {
      const subject = `${contender.label}, ${what}${session}`
      const values = (stage: number) =>
        results.map((stages) => median(stages[stage] === undefined ? [] : valuesOf(stages[stage])))
      const ratios = values(large).map((value, round) => value / (values(small)[round] ?? NaN))
      return [
        { subject: `${subject}, small table`, unit, values: values(small) },
        {
          subject: `${subject}, large table`,
          unit,
          values: values(large),
          ratio: { to: 'small table', values: ratios },
          target: contender === izta ? { of: 'ratio', atMost: 1.3 } : undefined,
        },
      ]
    })
  return [...pair(0, 2, ''), ...pair(1, 3, ', new session')]
}
