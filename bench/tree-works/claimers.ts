// Many runners of one queue at once, each with connections of its own, as on many servers.
import { setTimeout as sleep } from 'node:timers/promises'
import { z } from 'zod'
import { openInstance, type TreeWork } from './instance.ts'
import { copyRows } from './rows.ts'

export interface ClaimersOptions {
  readonly claimers: number
  /** Places of each. */
  readonly concurrency: number
  /** How long is measured, once every runner has had two claims: the first ones plan the statements of a connection. */
  readonly seconds: number
  readonly tasks: number
}

export interface ClaimersResult {
  readonly perSecond: number
  /** How long statements took, 99 of a hundred at the most. */
  readonly statementP99Ms: number
  readonly lockTimeouts: number
  readonly otherFailures: number
}

const longestWarmUpMs = 20_000

export const claimers: TreeWork<ClaimersOptions, ClaimersResult> = async (tree, watcher, options) => {
  const { url, claimers: count, concurrency, seconds, tasks } = options
  let done = 0
  let warm = 0
  const allWarm = Promise.withResolvers<void>()
  await using scope = new AsyncDisposableStack()
  const open = async () => {
    let own = 0
    const job = tree.core.defineJob({
      id: 'note',
      payload: z.object({ n: z.number() }),
      retention: tree.keepNothing,
      run() {
        done++
        if (++own === 2 * concurrency && ++warm === count) allWarm.resolve()
      },
    })
    return { job, ...scope.use(await openInstance(tree, { url, jobs: [job], max: 3, mayFail: true })) }
  }
  const first = await open()
  await first.izta.migrate()
  await first.izta.enqueue(first.job, { n: 0 }, { queue: 'default' })
  await copyRows(watcher, 'task', tasks - 1, { id: 'uuidv7()' })
  await watcher.query('vacuum (analyze)')
  await watcher.query('checkpoint')
  const instances = [first]
  while (instances.length < count) instances.push(await open())
  const runners = instances.map(({ izta }) =>
    tree.core.startRunner(izta, { queues: ['default'], concurrency }),
  )
  const over = new AbortController()
  const { signal } = over
  await Promise.race([allWarm.promise, sleep(longestWarmUpMs, undefined, { signal })])
  over.abort()
  for (const { statementMs, failures } of instances) statementMs.length = failures.length = 0
  const [doneBefore, startedAt] = [done, performance.now()]
  while (done < tasks && performance.now() - startedAt < seconds * 1000) await sleep(50)
  const [ended, took] = [done - doneBefore, (performance.now() - startedAt) / 1000]
  const ms = instances.flatMap(({ statementMs }) => statementMs).toSorted((a, b) => a - b)
  const failures = instances.flatMap((instance) => instance.failures)
  const lockTimeouts = failures.filter((message) => /lock timeout|55P03/.test(message)).length
  await Promise.all(runners.map((runner) => runner.stop({ timeoutSeconds: 0 })))
  return {
    perSecond: ended / took,
    statementP99Ms: ms[Math.floor(ms.length * 0.99)] ?? NaN,
    lockTimeouts,
    otherFailures: failures.length - lockTimeouts,
  }
}
