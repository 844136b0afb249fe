// The first invocation of a new environment: connections are opened, and the database plans each statement.
import { median, type Measure } from '../measure.ts'
import { bareRows } from './bare.ts'
import { beforeAndNow } from './before-and-now.ts'

export const firstInvocation: Measure = {
  name: 'first-invocation',
  title: 'one task in an invocation that opens its own connections',
  async run(bench) {
    const options = { invocations: bench.size(50, 15), tasksEach: 1, fresh: true }
    const rows = await beforeAndNow(bench, 'invocations', options, [
      {
        unit: 'µs backend CPU/invocation',
        valueOf: ({ backendCpuMicros }) => median(backendCpuMicros),
        target: { of: 'ratio', atMost: 0.8 },
      },
      { unit: 'ms/invocation p50', valueOf: ({ ms }) => median(ms) },
    ])
    return [...rows, ...(await bareRows(bench))]
  },
}
