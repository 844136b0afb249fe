// How fast a full queue becomes empty: no-op tasks, one process, the full API.
import { izta, iztaKept, iztaUnchecked, pgBoss, river } from '../contenders.ts'
import { compare, drains } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, ratioRow } from '../rows.ts'

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
        [izta.label]: { of: 'ratio', atLeast: 1.3 },
        [iztaKept.label]: { of: 'ratio', atLeast: 1.25 },
      }),
      ...ratioRow(compared, iztaKept.label, pgBoss.label, 'tasks/s', { of: 'ratio', atLeast: 1.5 }),
      ...ratioRow(compared, iztaKept.label, river.label, 'tasks/s', { of: 'ratio', atLeast: 2 }),
    ]
  },
}
