// BullMQ on its PostgreSQL backend. https://docs.bullmq.io/guide/postgresql
import { createPostgresBackend, Queue, Worker } from 'bullmq'
import { payloadsFrom, type OpenQueue } from '../queue.ts'

export const openQueue: OpenQueue = ({ url, concurrency = 10 }) => {
  const options = { connection: { connectionString: url, max: concurrency + 2, migrate: true } }
  const queue = new Queue(
    'note',
    { ...options, defaultJobOptions: { removeOnComplete: true } },
    createPostgresBackend,
  )
  return {
    // Deleted when they complete, as the other queues of this comparison do.
    unfinished: 'select exists (select from bullmq.job) as unfinished',
    async install() {
      await queue.waitUntilReady()
    },
    async enqueueMany(from, count) {
      await queue.addBulk(payloadsFrom(from, count).map((data) => ({ name: 'note', data })))
    },
    async enqueueOne(n) {
      await queue.add('note', { n })
    },
    async work(onTask) {
      const handler = async (job: { data: { n: number } }) => onTask(job.data.n)
      const worker = new Worker('note', handler, { ...options, concurrency }, createPostgresBackend)
      await worker.waitUntilReady()
      return () => worker.close()
    },
    close: () => queue.close(),
  }
}
