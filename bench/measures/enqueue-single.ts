// Enqueue one task a call from 16 clients of one process.
import { graphileWorker, izta, iztaAlone, pgBoss } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, ratioRow, serverCpuRows } from '../rows.ts'

export const enqueueSingle: Measure = {
  name: 'enqueue-single',
  title: '16 clients of one process, one task a call',
  async run(bench) {
    const contenders = await bench.present([izta, iztaAlone, pgBoss])
    const options = { tasks: bench.size(20_000, 400), perCall: 1, clients: 16 }
    const interleaved = await interleave(bench, 'enqueue', options, graphileWorker, contenders)
    const compared = compare(interleaved, ({ perSecond }) => perSecond)
    return [
      ...comparedRows(compared, 'tasks/s', { [izta.label]: { of: 'ratio', atLeast: 1.5 } }),
      ...ratioRow(compared, izta.label, pgBoss.label, 'tasks/s', { of: 'ratio', atLeast: 1.5 }),
      ...serverCpuRows(interleaved),
    ]
  },
}
