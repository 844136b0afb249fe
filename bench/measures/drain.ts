// How fast a full queue becomes empty: no-op tasks, one process, the full API.
import { compare, drains, izta, iztaKept, iztaUnchecked, pgBoss, river } from '../bench.ts'
import { comparedRows, ratioRow, type Measure } from '../measure.ts'

export const drainFinished: Measure = {
  name: 'drain',
  title: '300,000 no-op tasks, one process: finished rows not kept, and with results in history',
  async run(bench) {
    const interleaved = await drains(bench)
    const compared = compare(
      interleaved.filter(({ contender }) => contender !== iztaUnchecked),
      ({ perSecond }) => perSecond,
    )
    return [
      ...comparedRows(compared, 'tasks/s', {
        [izta.label]: { of: 'ratio', atLeast: 2 },
        [iztaKept.label]: { of: 'ratio', atLeast: 1.25 },
      }),
      ...ratioRow(compared, iztaKept.label, pgBoss.label, 'tasks/s', { of: 'ratio', atLeast: 1.5 }),
      ...ratioRow(compared, iztaKept.label, river.label, 'tasks/s', { of: 'ratio', atLeast: 2 }),
    ]
  },
}
