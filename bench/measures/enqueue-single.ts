// Enqueue one task a call from 16 clients of one process.
import { graphileWorker, interleave, izta, pgBoss } from '../bench.ts'
import { comparedRows, ratioRow, type Measure } from '../measure.ts'

export const enqueueSingle: Measure = {
  name: 'enqueue-single',
  title: '16 clients, one task a call',
  async run(bench) {
    const contenders = await bench.present([izta, pgBoss])
    const options = { tasks: bench.size(40_000, 400), perCall: 1, clients: 16 }
    const compared = await interleave(
      bench,
      'enqueue',
      options,
      graphileWorker,
      contenders,
      ({ perSecond }) => perSecond,
    )
    return [
      ...comparedRows(compared, 'tasks/s', { [izta.label]: { of: 'ratio', atLeast: 1.5 } }),
      ...ratioRow(compared, izta.label, pgBoss.label, 'tasks/s', { of: 'ratio', atLeast: 1.5 }),
    ]
  },
}
