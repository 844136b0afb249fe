// Enqueue one task a call, each in a call of its own: what many processes with few tasks do.
import { bareInsert, beforeAlone, iztaAlone } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, ratioRow } from '../rows.ts'

export const enqueueAlone: Measure = {
  name: 'enqueue-alone',
  title:
    'one task a call over 16 connections, each alone, next to a bare prepared insert with the same indexes',
  async run(bench) {
    const options = { tasks: bench.size(10_000, 3000), perCall: 1, clients: 16 }
    const interleaved = await interleave(bench, 'enqueue', options, beforeAlone, [iztaAlone, bareInsert])
    const unit = 'µs backend CPU/task'
    const micros = compare(interleaved, ({ backendCpuMicrosPerTask }) => backendCpuMicrosPerTask)
    return [
      ...comparedRows(micros, unit, { [iztaAlone.label]: { of: 'ratio', atMost: 0.6 } }),
      ...ratioRow(micros, iztaAlone.label, bareInsert.label, unit, { of: 'ratio', atMost: 1.6 }),
      ...comparedRows(
        compare(interleaved, ({ perSecond }) => perSecond),
        'tasks/s',
      ),
    ]
  },
}
