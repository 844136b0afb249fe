// Small invocations of the Lambda handler: what they ask of the database, and what its processes spend on them.
import { z } from 'zod'
import { payloadsFrom } from '../queue.ts'
import { backendMeter } from '../server-cpu.ts'
import { openInstance, type TreeWork } from './instance.ts'

export interface InvocationsOptions {
  readonly invocations: number
  /** Tasks that are due when an invocation starts. */
  readonly tasksEach: number
  readonly driver?: 'pg' | 'neon'
  /** Whether each has connections of its own, as in a new environment of the function. @default false */
  readonly fresh?: boolean
}

/** One value an invocation; the enqueue is not in them. */
export interface InvocationsResult {
  readonly statements: number[]
  readonly ms: number[]
  readonly backendCpuMicros: number[]
}

export const invocations: TreeWork<InvocationsOptions, InvocationsResult> = async (
  tree,
  watcher,
  options,
) => {
  const { url, invocations: count, tasksEach, driver, fresh = false } = options
  const job = tree.core.defineJob({ id: 'note', payload: z.object({ n: z.number() }), run() {} })
  const open = () => openInstance(tree, { url, jobs: [job], ...(driver && { driver }) })
  await using producer = await open()
  await using warm = await open()
  await producer.izta.migrate()
  const result: InvocationsResult = { statements: [], ms: [], backendCpuMicros: [] }
  let handler: ReturnType<typeof tree.lambda.createRunnerHandler> | undefined
  // The first ones open connections and plan the statements.
  for (let invocation = fresh ? 0 : -5; invocation < count; invocation++) {
    await producer.izta.enqueueMany(job, payloadsFrom(0, tasksEach))
    // With a meter of its own each invocation begins with the processes that are there now.
    const readMicros = backendMeter(watcher)
    const microsBefore = await readMicros()
    const startedAt = performance.now()
    await using own = fresh ? await open() : undefined
    const { izta, statementMs } = own ?? warm
    const statementsBefore = statementMs.length
    if (own !== undefined || handler === undefined) {
      handler = tree.lambda.createRunnerHandler({ izta, concurrency: 50 })
    }
    await handler({}, { getRemainingTimeInMillis: () => 90_000 })
    const ms = performance.now() - startedAt
    if (invocation < 0) continue
    result.ms.push(ms)
    result.statements.push(statementMs.length - statementsBefore)
    result.backendCpuMicros.push((await readMicros()) - microsBefore)
  }
  return result
}
