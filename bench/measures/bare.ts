// A plain insert of the same run: what the absolute figures beside it are to be read against.
import type { Bench } from '../bench.ts'
import { bareInsert } from '../contenders.ts'
import type { Row } from '../measure.ts'

export async function bareRows(bench: Bench): Promise<Row[]> {
  const options = { tasks: bench.size(10_000, 2000), perCall: 1, clients: 16 }
  const { perSecond, backendCpuMicrosPerTask } = await bench.run(bareInsert, 'enqueue', options)
  return [
    { subject: bareInsert.label, unit: 'tasks/s', values: [perSecond] },
    { subject: bareInsert.label, unit: 'µs backend CPU/task', values: [backendCpuMicrosPerTask] },
  ]
}
