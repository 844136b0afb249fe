// What the drain costs over Neon's HTTP protocol, on loopback.
import { izta } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows } from '../rows.ts'

const overHttp = { label: 'izta, Neon HTTP', queue: 'izta', options: { driver: 'neon' } } as const
const overTcp = { ...izta, label: 'izta, TCP' }

export const drainHttp: Measure = {
  name: 'drain-http',
  title: 'the drain over the Neon HTTP protocol on loopback, against TCP',
  async run(bench) {
    const options = { tasks: bench.size(100_000, 5000) }
    const interleaved = await interleave(bench, 'drain', options, overTcp, [overHttp])
    const compared = compare(interleaved, ({ perSecond }) => perSecond)
    return comparedRows(compared, 'tasks/s', { [overHttp.label]: { of: 'ratio', atLeast: 0.6 } })
  },
}
