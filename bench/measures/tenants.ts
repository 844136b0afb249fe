// A queue for each tenant: whether a runner of all queues keeps its rate.
import { before, izta, type Contender } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows } from '../rows.ts'

const options = (queues: number) => ({ concurrency: 100, queues })
const one: Contender = { ...izta, label: 'izta, one queue', options: options(1) }
const several: Contender = { ...izta, label: 'izta, 500 queues', options: options(500) }
const many: Contender = { ...izta, label: 'izta, 5,000 queues', options: options(5000) }
/** Slow, and its ratio has no target. */
const then = [
  { ...before, label: 'before, one queue', options: options(1), rounds: 1 },
  { ...before, label: 'before, 500 queues', options: options(500), rounds: 1 },
  { ...before, label: 'before, 5,000 queues', options: options(5000), rounds: 1 },
]

export const tenants: Measure = {
  name: 'tenants',
  title: '20,000 tasks spread over 500 and 5,000 queues, one runner of all queues with 100 places',
  async run(bench) {
    const tasks = { tasks: bench.size(20_000, 5000), limitSeconds: bench.size(30, 5) }
    const interleaved = await interleave(bench, 'drain', tasks, one, [several, many, ...then])
    const compared = compare(interleaved, ({ perSecond }) => perSecond)
    return comparedRows(compared, 'tasks/s', {
      [several.label]: { of: 'ratio', atLeast: 0.7 },
      [many.label]: { of: 'ratio', atLeast: 0.7 },
    })
  },
}
