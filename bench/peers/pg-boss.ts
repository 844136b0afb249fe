// pg-boss at its fastest: two loops that fetch and complete 1,000 jobs at a time, without its polling workers.
// https://pgboss.io (insert, fetch, complete)
import { PgBoss } from 'pg-boss'
import { payloadsFrom, type OpenQueue } from '../queue.ts'

const loops = 2
const batchSize = 1000

export const openQueue: OpenQueue = ({ url }) => {
  const boss = new PgBoss({ connectionString: url, max: 20, supervise: false, schedule: false })
  boss.on('error', () => {})
  let started: Promise<unknown> | undefined
  const start = () => (started ??= boss.start())
  return {
    unfinished: `select exists (select from pgboss.job where name = 'note' and state < 'completed') as unfinished`,
    async install() {
      await start()
      await boss.createQueue('note')
    },
    async enqueueMany(from, count) {
      await start()
      await boss.insert(
        'note',
        payloadsFrom(from, count).map((data) => ({ data })),
      )
    },
    async enqueueOne(n) {
      await start()
      await boss.send('note', { n })
    },
    async work(onTask) {
      let stopping = false
      const loop = async () => {
        // oxlint-disable no-await-in-loop -- one batch follows the other
        while (!stopping) {
          const jobs = await boss.fetch<{ n: number }>('note', { batchSize })
          for (const job of jobs) onTask(job.data.n)
          if (jobs.length > 0)
            await boss.complete(
              'note',
              jobs.map((job) => job.id),
            )
        }
      }
      const running = Promise.all(Array.from({ length: loops }, loop))
      return async () => {
        stopping = true
        await running
      }
    },
    close: () => boss.stop({ graceful: false }),
  }
}
