// What a runner of all queues pays for their number: a claim looks at each queue and priority.
import { insertTasks, openHotPath, timeClaims } from '../claims.ts'
import { quantile, type Measure, type Row } from '../measure.ts'

const perClaim = 100

export const manyQueues: Measure = {
  name: 'many-queues',
  title: 'claims of 100 by a runner of all of 1, 20 and 100 queues',
  async run(bench) {
    const claims = bench.size(500, 50)
    const rows: Row[] = []
    // oxlint-disable no-await-in-loop -- one case at a time
    for (const queues of [1, 20, 100]) {
      await using database = await bench.server.database()
      await using hotPath = await openHotPath(database.url)
      await insertTasks(hotPath.client, {
        count: (claims + 30) * perClaim,
        queues,
        priorities: 10,
        due: 'now',
      })
      await hotPath.client.query('vacuum (analyze)')
      const { ms, buffers } = await timeClaims(hotPath, { claims, perClaim, queues: [] })
      const target = queues === 100 ? ({ of: 'value', atMost: 5 } as const) : undefined
      rows.push(
        { subject: `${queues} queues`, unit: 'ms p50', values: [quantile(ms, 0.5)], target },
        { subject: `${queues} queues`, unit: 'ms p99', values: [quantile(ms, 0.99)] },
        { subject: `${queues} queues`, unit: 'buffers', values: [quantile(buffers, 0.5)] },
      )
    }
    return rows
  },
}
