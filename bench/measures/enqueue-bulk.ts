// Enqueue in calls of 1,000 through the API, with the schema check.
import { before, graphileWorker, izta, pgBoss } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, ratioRow, serverCpuRows } from '../rows.ts'

export const enqueueBulk: Measure = {
  name: 'enqueue-bulk',
  title: '100,000 tasks in calls of 1,000',
  async run(bench) {
    const contenders = await bench.present([izta, before, pgBoss])
    const options = { tasks: bench.size(100_000, 10_000) }
    const interleaved = await interleave(bench, 'enqueue', options, graphileWorker, contenders)
    const compared = compare(interleaved, ({ perSecond }) => perSecond)
    return [
      ...comparedRows(compared, 'tasks/s', { [izta.label]: { of: 'ratio', atLeast: 2 } }),
      ...ratioRow(compared, izta.label, pgBoss.label, 'tasks/s', { of: 'ratio', atLeast: 2 }),
      ...serverCpuRows(interleaved),
    ]
  },
}
