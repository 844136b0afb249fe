// izta through its public API, as an application would use it.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { z } from 'zod'
import { neonDatabase } from '../../src/adapters/neon.ts'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { startLocalStack } from '../../src/local/index.ts'
import { createIzta, defineJob, startRunner, type Logger } from '../../src/index.ts'
import { startNeonEndpoint } from '../neon-endpoint.ts'
import { payloadsFrom, type OpenQueue } from '../queue.ts'

interface Payload {
  n: number
}

const payload = z.object({ n: z.number() })
/** Accepts everything: what a drain costs without the check. */
const unchecked: StandardSchemaV1<Payload> = {
  '~standard': { version: 1, vendor: 'bench', validate: (value) => ({ value: value as Payload }) },
}
const quiet: Logger = { debug() {}, info() {}, warn: console.warn, error: console.error }

export const openQueue: OpenQueue = (options) => {
  const {
    url,
    kept = false,
    checked = true,
    alone = false,
    driver = 'pg',
    host = 'runner',
    concurrency = 4000,
  } = options
  const endpoint = driver === 'neon' ? startNeonEndpoint(url) : undefined
  const opened =
    endpoint === undefined
      ? pgDatabase({ connectionString: url, max: 20 })
      : neonDatabase({ connectionString: async () => (await endpoint).url })
  const database = alone ? { ...opened, joinsEnqueues: false } : opened
  const handler: { onTask: (n: number) => void } = { onTask() {} }
  const schema: StandardSchemaV1<Payload> = checked ? payload : unchecked
  const run = ({ n }: Payload) => {
    handler.onTask(n)
    return { n }
  }
  const job = kept
    ? defineJob({ id: 'note', payload: schema, result: schema, run })
    : defineJob({ id: 'note', payload: schema, retention: { finished: 'none' }, run })
  const izta = createIzta({ database, jobs: [job], log: quiet })
  return {
    unfinished: 'select exists (select from izta.task) as unfinished',
    async install() {
      await izta.migrate()
    },
    async enqueueMany(from, count) {
      await izta.enqueueMany(job, payloadsFrom(from, count))
    },
    async enqueueOne(n) {
      await izta.enqueue(job, { n })
    },
    async work(onTask) {
      handler.onTask = onTask
      const runner =
        host === 'runner'
          ? startRunner(izta, { concurrency })
          : await startLocalStack({ izta, runners: [{ concurrency }] })
      return () => runner.stop()
    },
    async close() {
      await izta.close()
      await (await endpoint)?.stop()
    },
  }
}
