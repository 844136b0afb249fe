// graphile-worker at its fastest: jobs fetched into a local queue, completions sent in batches.
// https://worker.graphile.org/docs/performance shows these options with a local queue of 500 and 24 concurrent jobs;
// on two cores 5,000 and 10 were faster.
import { Logger, makeWorkerUtils, run, runMigrations } from 'graphile-worker'
import { payloadsFrom, type OpenQueue } from '../queue.ts'

const logger = new Logger(() => () => {})

export const openQueue: OpenQueue = ({ url, concurrency = 10 }) => {
  const preset = {
    worker: {
      connectionString: url,
      concurrentJobs: concurrency,
      maxPoolSize: 20,
      localQueue: { size: 5000 },
      completeJobBatchDelay: 0,
      failJobBatchDelay: 0,
    },
  }
  const utils = makeWorkerUtils({ preset, logger })
  return {
    unfinished: 'select exists (select from graphile_worker._private_jobs) as unfinished',
    install: () => runMigrations({ preset, logger }),
    async enqueueMany(from, count) {
      await (
        await utils
      ).addJobs(payloadsFrom(from, count).map((payload) => ({ identifier: 'note', payload })))
    },
    async enqueueOne(n) {
      await (await utils).addJob('note', { n })
    },
    async work(onTask) {
      const taskList = { note: (payload: unknown) => onTask((payload as { n: number }).n) }
      const runner = await run({ preset, logger, taskList, noHandleSignals: true })
      return () => runner.stop()
    },
    close: async () => (await utils).release(),
  }
}
