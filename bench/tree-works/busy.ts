// A runner whose places are all taken, by handlers that wait.
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { payloadsFrom } from '../queue.ts'
import { backendMeter } from '../server-cpu.ts'
import { openInstance, untilSettled, type TreeWork } from './instance.ts'

export interface BusyOptions {
  readonly tasks: number
  readonly concurrency: number
  /** Mean duration; single handlers take half to one and a half times as long. */
  readonly handlerMs: number
}

export interface BusyResult {
  readonly perSecond: number
  readonly backendCpuMicrosPerTask: number
  readonly cpuMicrosPerTask: number
  readonly statementsPerTask: number
}

export const busy: TreeWork<BusyOptions, BusyResult> = async (tree, watcher, options) => {
  const { url, tasks, concurrency, handlerMs } = options
  let ended = 0
  let expected = 4 * concurrency
  let all = Promise.withResolvers<void>()
  const job = tree.core.defineJob({
    id: 'wait',
    payload: z.object({ n: z.number() }),
    async run({ n }) {
      await sleep(n < 0 ? 5 : handlerMs * (0.5 + shareOf(n)))
      if (++ended === expected) all.resolve()
    },
  })
  await using instance = await openInstance(tree, { url, jobs: [job] })
  const { izta, statementMs } = instance
  await izta.migrate()
  // The first statements of a connection are planned, which costs what many tasks cost.
  await izta.enqueueMany(job, payloadsFrom(-expected, expected))
  const first = tree.core.startRunner(izta, { concurrency })
  await all.promise
  await untilSettled(watcher)
  await first.stop()
  ended = 0
  expected = tasks
  all = Promise.withResolvers()
  for (let from = 0; from < tasks; from += 1000) {
    await izta.enqueueMany(job, payloadsFrom(from, Math.min(1000, tasks - from)))
  }
  await watcher.query('vacuum (analyze)')
  await watcher.query('checkpoint')
  const readMicros = backendMeter(watcher)
  const statementsBefore = statementMs.length
  const microsBefore = await readMicros()
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  const runner = tree.core.startRunner(izta, { concurrency })
  await all.promise
  await untilSettled(watcher)
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const micros = (await readMicros()) - microsBefore
  const statements = statementMs.length - statementsBefore
  await runner.stop()
  return {
    perSecond: tasks / seconds,
    backendCpuMicrosPerTask: micros / tasks,
    cpuMicrosPerTask: (user + system) / tasks,
    statementsPerTask: statements / tasks,
  }
}

/** From 0 to 1, spread evenly, and the same in each run: https://en.wikipedia.org/wiki/Low-discrepancy_sequence */
const shareOf = (n: number) => (n * 0.618_033_988_749_895) % 1
