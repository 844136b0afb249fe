// What a task costs the database at a billion a day: an enqueue that travels alone, and its part of a busy runner.
import { before, beforeAlone, izta, iztaAlone } from '../contenders.ts'
import { compare, interleave, type Compared } from '../interleave.ts'
import type { Measure, Row } from '../measure.ts'
import { busyCase, busyConcurrencies, workload } from '../model.ts'
import { comparedRows } from '../rows.ts'
import { bareRows } from './bare.ts'

export const growthModel: Measure = {
  name: 'growth-model',
  title:
    'what the model of growth is made of: a busy runner with handlers of 500 ms, and an enqueue of one task',
  async run(bench) {
    const rows: Row[] = []
    let largest: readonly Compared[] = []
    for (const concurrency of busyConcurrencies) {
      const handlerMs = workload.taskSeconds * 1000
      const tasks = Math.round((concurrency * 1000 * bench.size(10, 4)) / handlerMs)
      const [then, now] = [before, izta].map((one) => ({
        ...one,
        label: `${one.label}, ${busyCase(concurrency)}`,
      }))
      if (then === undefined || now === undefined) continue
      // oxlint-disable-next-line no-await-in-loop -- one case at a time
      const runs = await interleave(bench, 'busy', { tasks, concurrency, handlerMs }, then, [now])
      largest = compare(runs, ({ backendCpuMicrosPerTask }) => backendCpuMicrosPerTask)
      const statements = compare(runs, ({ statementsPerTask }) => statementsPerTask)
      rows.push(
        ...comparedRows(largest, 'µs backend CPU/task', {}, before.label),
        ...comparedRows(statements, 'statements/task', {}, before.label),
      )
    }
    const options = { tasks: bench.size(10_000, 2000), perCall: 1, clients: 16 }
    const enqueues = compare(
      await interleave(bench, 'enqueue', options, beforeAlone, [iztaAlone]),
      ({ backendCpuMicrosPerTask }) => backendCpuMicrosPerTask,
    )
    const sums = [0, 1].map((index) =>
      (largest[index]?.values ?? []).map((micros, round) => micros + (enqueues[index]?.values[round] ?? NaN)),
    )
    const [ofThen = [], ofNow = []] = sums
    return [
      ...rows,
      ...comparedRows(enqueues, 'µs backend CPU/task', {}, before.label),
      { subject: 'before, 1 G tasks a day', unit: 'µs backend CPU/task', values: ofThen },
      {
        subject: 'izta, 1 G tasks a day',
        unit: 'µs backend CPU/task',
        values: ofNow,
        ratio: { to: before.label, values: ofNow.map((micros, round) => micros / (ofThen[round] ?? NaN)) },
        target: { of: 'value', atMost: 1000 },
      },
      ...(await bareRows(bench)),
    ]
  },
}
