// izta through its public API, as an application would use it; of either source tree.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { z } from 'zod'
import type { Logger } from '../src/index.ts'
import { startNeonEndpoint } from './neon-endpoint.ts'
import { payloadsFrom, type OpenQueue } from './queue.ts'
import type { Tree } from './tree.ts'

interface Payload {
  n: number
}

const payload = z.object({ n: z.number() })
/** Accepts everything: what a drain costs without the check. */
const unchecked: StandardSchemaV1<Payload> = {
  '~standard': { version: 1, vendor: 'bench', validate: (value) => ({ value: value as Payload }) },
}
export const quiet: Logger = { debug() {}, info() {}, warn: console.warn, error: console.error }

export const iztaQueue =
  (tree: Tree): OpenQueue =>
  (options) => {
    const { createIzta, defineJob, startRunner } = tree.core
    const {
      url,
      kept = false,
      checked = true,
      alone = false,
      driver = 'pg',
      host = 'runner',
      concurrency = 4000,
      queues = 1,
    } = options
    const endpoint = driver === 'neon' ? startNeonEndpoint(url) : undefined
    const opened =
      endpoint === undefined
        ? tree.pg.pgDatabase({ connectionString: url, max: 20 })
        : tree.neon.neonDatabase({ connectionString: async () => (await endpoint).url })
    const database = alone ? { ...opened, joinsEnqueues: false } : opened
    const handler: { onTask: (n: number) => void } = { onTask() {} }
    const schema: StandardSchemaV1<Payload> = checked ? payload : unchecked
    const run = ({ n }: Payload) => {
      handler.onTask(n)
      return { n }
    }
    const job = kept
      ? defineJob({ id: 'note', payload: schema, result: schema, run })
      : defineJob({ id: 'note', payload: schema, retention: tree.keepNothing, run })
    const izta = createIzta({ database, jobs: [job], log: quiet })
    return {
      unfinished: 'select exists (select from izta.task) as unfinished',
      async install() {
        await izta.migrate()
      },
      async enqueueMany(from, count) {
        const payloads = payloadsFrom(from, count)
        if (queues === 1) await izta.enqueueMany(job, payloads)
        else await izta.enqueueMany(payloads.map((one) => [job, one, { queue: `queue-${one.n % queues}` }]))
      },
      async enqueueOne(n) {
        await izta.enqueue(job, { n })
      },
      async work(onTask) {
        handler.onTask = onTask
        const runner =
          host === 'runner'
            ? startRunner(izta, { concurrency })
            : await tree.local.startLocalStack({ izta, runners: [{ concurrency }] })
        return () => runner.stop()
      },
      async close() {
        await izta.close()
        await (await endpoint)?.stop()
      },
    }
  }
