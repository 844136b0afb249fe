// User and system time of the client's process in the drain, and of the server beside it.
import { graphileWorker, interleave, izta, iztaKept, pgBoss, river } from '../bench.ts'
import { comparedRows, type Measure } from '../measure.ts'

const unchecked = { label: 'izta, no schema check', queue: 'izta', options: { checked: false } } as const

export const clientCpu: Measure = {
  name: 'client-cpu',
  title: 'CPU of the client in the drain, with and without the schema check, and of the server',
  async run(bench) {
    const contenders = await bench.present([izta, unchecked, iztaKept, pgBoss, river])
    const options = { tasks: bench.size(300_000, 5000) }
    const server = new Map<string, number[]>()
    const compared = await interleave(
      bench,
      'drain',
      options,
      graphileWorker,
      contenders,
      (result, { label }) => {
        const { cpuMicrosPerTask, serverCpuMicrosPerTask } = result
        if (serverCpuMicrosPerTask !== undefined && Number.isFinite(serverCpuMicrosPerTask)) {
          server.set(label, [...(server.get(label) ?? []), serverCpuMicrosPerTask])
        }
        return cpuMicrosPerTask
      },
    )
    return [
      ...comparedRows(compared, 'µs client CPU/task', { [izta.label]: { of: 'ratio', atMost: 0.75 } }),
      ...[...server].map(([subject, values]) => ({ subject, unit: 'µs server CPU/task', values })),
    ]
  },
}
