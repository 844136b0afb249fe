// Whether a long drain leaves anything behind in the runner's process.
import { before, izta } from '../contenders.ts'
import type { Measure, Row } from '../measure.ts'

export const memoryMeasure: Measure = {
  name: 'memory',
  title: 'resident memory of a runner that drains 1,000,000 tasks with concurrency 100',
  async run(bench) {
    const tasks = Math.round(bench.size(1_000_000, 10_000) / 100) * 100
    const target = bench.quick ? undefined : ({ of: 'value', atMost: 1 } as const)
    const rows: Row[] = []
    let residentBefore = NaN
    for (const contender of [before, izta]) {
      const steady = { ...contender, options: { concurrency: 100 } }
      // oxlint-disable-next-line no-await-in-loop -- one run at a time
      const { rssMegabytes } = await bench.run(steady, 'memory', { tasks })
      const resident = rssMegabytes.at(-1) ?? NaN
      // The heap finds its size in the first half.
      const later = rssMegabytes.slice(rssMegabytes.length / 2)
      const [end, growth] = [`${contender.label}, at the end`, `${contender.label}, slope of the second half`]
      const values = [slope(later) * (100_000 / (tasks / 100))]
      if (contender === before) {
        residentBefore = resident
        rows.push({ subject: end, unit: 'MB', values: [resident] })
        rows.push({ subject: growth, unit: 'MB/100,000 tasks', values })
      } else {
        rows.push(
          {
            subject: end,
            unit: 'MB',
            values: [resident],
            ratio: { to: before.label, values: [resident / residentBefore] },
            target: { of: 'ratio', atMost: 1.05 },
          },
          { subject: growth, unit: 'MB/100,000 tasks', values, target },
        )
      }
    }
    return rows
  },
}

/** Least squares, per step. */
function slope(values: readonly number[]): number {
  const meanX = (values.length - 1) / 2
  const meanY = values.reduce((sum, value) => sum + value, 0) / values.length
  let above = 0
  let below = 0
  for (const [x, y] of values.entries()) {
    above += (x - meanX) * (y - meanY)
    below += (x - meanX) ** 2
  }
  return above / below
}
