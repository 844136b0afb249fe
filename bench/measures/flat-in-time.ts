// The drain while a transaction elsewhere keeps dead rows from being removed.
import { before, izta } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, ratioRow } from '../rows.ts'

const pinned = { ...izta, label: 'izta, xmin pinned', options: { pinned: true } }
const beforePinned = { ...before, label: 'before, xmin pinned', options: { pinned: true } }

export const flatInTime: Measure = {
  name: 'flat-in-time',
  title: 'drain of 500,000 while a transaction elsewhere holds the xmin horizon',
  async run(bench) {
    const options = { tasks: bench.size(500_000, 5000) }
    const compared = compare(
      await interleave(bench, 'drain', options, izta, [pinned, beforePinned]),
      ({ perSecond }) => perSecond,
    )
    return [
      ...comparedRows(compared, 'tasks/s', { [pinned.label]: { of: 'ratio', atLeast: 0.9 } }),
      ...ratioRow(compared, pinned.label, beforePinned.label, 'tasks/s', { of: 'ratio', atLeast: 1 / 1.05 }),
    ]
  },
}
