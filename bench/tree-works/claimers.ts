// Many runners of one queue at once, each with connections of its own, as on many servers.
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { openInstance, type TreeWork } from './instance.ts'
import { copyRows } from './rows.ts'

export interface ClaimersOptions {
  readonly claimers: number
  /** Places of each. */
  readonly concurrency: number
  /** The runners are stopped after so many seconds, or when the tasks are all done. */
  readonly seconds: number
  readonly tasks: number
}

export interface ClaimersResult {
  readonly perSecond: number
  /** How long statements took, 99 of a hundred at the most, and the longest. */
  readonly statementP99Ms: number
  readonly statementMaxMs: number
  readonly lockTimeouts: number
  readonly otherFailures: number
}

export const claimers: TreeWork<ClaimersOptions, ClaimersResult> = async (tree, watcher, options) => {
  const { url, claimers: count, concurrency, seconds, tasks } = options
  let done = 0
  const all = Promise.withResolvers<void>()
  const job = tree.core.defineJob({
    id: 'note',
    payload: z.object({ n: z.number() }),
    retention: { finished: 'none' },
    run() {
      if (++done === tasks) all.resolve()
    },
  })
  await using scope = new AsyncDisposableStack()
  const open = async () => scope.use(await openInstance(tree, { url, jobs: [job], max: 3, mayFail: true }))
  const first = await open()
  await first.izta.migrate()
  await first.izta.enqueue(job, { n: 0 }, { queue: 'default' })
  await copyRows(watcher, 'task', tasks - 1, { id: 'uuidv7()' })
  await watcher.query('vacuum (analyze)')
  await watcher.query('checkpoint')
  const instances = [first]
  while (instances.length < count) instances.push(await open())
  // Each has a connection before the clock starts.
  await Promise.all(instances.map(({ izta }) => izta.get(job, '00000000-0000-7000-8000-000000000000')))
  for (const { statementMs, failures } of instances) statementMs.length = failures.length = 0
  const startedAt = performance.now()
  const runners = instances.map(({ izta }) =>
    tree.core.startRunner(izta, { queues: ['default'], concurrency }),
  )
  const over = new AbortController()
  await Promise.race([all.promise, sleep(seconds * 1000, undefined, { signal: over.signal })])
  over.abort()
  const [ended, took] = [done, (performance.now() - startedAt) / 1000]
  const ms = instances.flatMap(({ statementMs }) => statementMs).toSorted((a, b) => a - b)
  const failures = instances.flatMap((instance) => instance.failures)
  const lockTimeouts = failures.filter((message) => /lock timeout|55P03/.test(message)).length
  await Promise.all(runners.map((runner) => runner.stop({ timeoutSeconds: 0 })))
  return {
    perSecond: ended / took,
    statementP99Ms: ms[Math.floor(ms.length * 0.99)] ?? NaN,
    statementMaxMs: ms.at(-1) ?? NaN,
    lockTimeouts,
    otherFailures: failures.length - lockTimeouts,
  }
}
