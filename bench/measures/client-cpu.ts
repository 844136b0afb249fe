// User and system time of the client's process in the drain, and of the server beside it.
import { bullmq, izta, iztaCrate } from '../contenders.ts'
import { compare, drains } from '../interleave.ts'
import type { Measure } from '../measure.ts'
import { comparedRows, serverCpuRows } from '../rows.ts'

export const clientCpu: Measure = {
  name: 'client-cpu',
  title: 'CPU of the client in the drain, with and without the schema check, and of the server',
  async run(bench) {
    const interleaved = (await drains(bench)).filter(
      ({ contender }) => contender !== bullmq && contender !== iztaCrate,
    )
    const compared = compare(interleaved, ({ cpuMicrosPerTask }) => cpuMicrosPerTask)
    return [
      ...comparedRows(compared, 'µs client CPU/task', { [izta.label]: { of: 'ratio', atMost: 0.75 } }),
      ...serverCpuRows(interleaved),
    ]
  },
}
