// Whether a long drain leaves anything behind in the runner's process.
import { izta } from '../contenders.ts'
import type { Measure } from '../measure.ts'

const steady = { label: 'izta', queue: izta.queue, options: { concurrency: 100 } }

export const memoryMeasure: Measure = {
  name: 'memory',
  title: 'resident memory of a runner that drains 1,000,000 tasks with concurrency 100',
  async run(bench) {
    const tasks = Math.round(bench.size(1_000_000, 10_000) / 100) * 100
    const { rssMegabytes } = await bench.run(steady, 'memory', { tasks })
    // The heap finds its size in the first half.
    const later = rssMegabytes.slice(rssMegabytes.length / 2)
    const target = bench.quick ? undefined : ({ of: 'value', atMost: 1 } as const)
    return [
      { subject: 'resident at the end', unit: 'MB', values: [rssMegabytes.at(-1) ?? NaN] },
      {
        subject: 'slope of the second half',
        unit: 'MB/100,000 tasks',
        values: [slope(later) * (100_000 / (tasks / 100))],
        target,
      },
    ]
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
