// What many small invocations of the Lambda runner ask of the database.
import { median, type Measure, type Row } from '../measure.ts'
import { bareRows } from './bare.ts'
import { beforeAndNow } from './before-and-now.ts'

const cases = [
  { what: '1 task', tasksEach: 1, driver: 'pg', cpu: { of: 'ratio', atMost: 0.5 } },
  { what: '20 tasks', tasksEach: 20, driver: 'pg', cpu: { of: 'ratio', atMost: 0.65 } },
  { what: '20 tasks, Neon HTTP', tasksEach: 20, driver: 'neon', cpu: undefined },
] as const

export const smallInvocations: Measure = {
  name: 'small-invocations',
  title: 'invocations of the Lambda handler with 1 and 20 tasks: statements, duration, CPU of the database',
  async run(bench) {
    const rows: Row[] = []
    for (const { what, tasksEach, driver, cpu } of cases) {
      // oxlint-disable-next-line no-await-in-loop -- one case at a time
      const ofCase = await beforeAndNow(
        bench,
        'invocations',
        { invocations: bench.size(200, 30), tasksEach, driver },
        [
          {
            unit: 'µs backend CPU/invocation',
            valueOf: ({ backendCpuMicros }) => median(backendCpuMicros),
            target: cpu,
          },
          {
            unit: 'statements/invocation',
            valueOf: ({ statements }) => median(statements),
            target: { of: 'ratio', atMost: 1.05 },
          },
          { unit: 'ms/invocation p50', valueOf: ({ ms }) => median(ms) },
        ],
        what,
      )
      rows.push(...ofCase)
    }
    return [...rows, ...(await bareRows(bench))]
  },
}
