// WAL and dead rows that a task causes through its life, from enqueue to settled, and what it leaves on disk.
import { bullmq, graphileWorker, izta, iztaKept, pgBoss, river } from '../contenders.ts'
import type { Measure, Row } from '../measure.ts'

export const rowsAndBytes: Measure = {
  name: 'rows-and-bytes',
  title: 'WAL bytes and dead rows per task through its life, and what it leaves on disk',
  async run(bench) {
    const rows: Row[] = []
    for (const contender of await bench.present([graphileWorker, izta, iztaKept, pgBoss, river, bullmq])) {
      // oxlint-disable-next-line no-await-in-loop -- one run at a time
      const result = await bench.run(contender, 'drain', { tasks: bench.size(50_000, 5000), sized: true })
      rows.push(
        { subject: contender.label, unit: 'WAL bytes/task', values: [result.walBytesPerTask] },
        { subject: contender.label, unit: 'dead rows/task', values: [result.deadRowsPerTask ?? NaN] },
        {
          subject: contender.label,
          unit: 'bytes on disk/task',
          values: [result.storedBytesPerTask ?? NaN],
        },
      )
    }
    return rows
  },
}
