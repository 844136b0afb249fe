// Whether expired rows of the history go as fast as tasks end.
import { before, izta } from '../contenders.ts'
import type { Measure, Row } from '../measure.ts'
import type { PruningResult } from '../tree-works/pruning.ts'

export const pruningMeasure: Measure = {
  name: 'pruning',
  title:
    'expired history rows removed next to a drain, in a window of 30 s, and by a bare delete next to the same drain',
  async run(bench) {
    const options = { expired: bench.size(200_000, 60_000), seconds: bench.size(30, 12) }
    const rows: Row[] = []
    // oxlint-disable no-await-in-loop -- one run at a time
    for (const contender of [before, izta]) {
      const results: PruningResult[] = []
      for (let round = 0; round < (contender === izta ? bench.rounds : 1); round++) {
        results.push(await bench.run(contender, 'pruning', options))
        bench.log(`  ${contender.label}: ${Math.round(results.at(-1)?.prunedPerSecond ?? NaN)} rows/s`)
      }
      const bare = results.map(({ bareDeletedPerSecond }) => bareDeletedPerSecond)
      const pruned = results.map(({ prunedPerSecond }) => prunedPerSecond)
      rows.push(
        { subject: `${contender.label}, bare delete`, unit: 'rows/s', values: bare },
        {
          subject: `${contender.label}, pruning`,
          unit: 'rows/s',
          values: pruned,
          ratio: { to: 'bare delete', values: pruned.map((rate, round) => rate / (bare[round] ?? NaN)) },
          target:
            contender === izta
              ? { of: 'ratio', atLeast: 0.5, or: { of: 'value', atLeast: 5000 } }
              : undefined,
        },
        {
          subject: `${contender.label}, the drain next to it`,
          unit: 'tasks/s',
          values: results.map(({ drainedPerSecond }) => drainedPerSecond),
        },
      )
    }
    return rows
  },
}
