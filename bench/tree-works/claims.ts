// Single claims and single settles, each of a known number of tasks, in tables of the caller's making. All through the
// Lambda handler: an invocation claims what is due, its handlers wait for each other, and then end together.
import type { Client } from 'pg'
import { z } from 'zod'
import { backendMeter } from '../server-cpu.ts'
import { openInstance, type TreeWork } from './instance.ts'
import { copyRows, futureTasks } from './rows.ts'

export interface ClaimsOptions {
  readonly perClaim: number
  /** How the tasks end. @default 'finish' */
  readonly outcome?: 'finish' | 'retry'
  /**
   * Analyses the tables when they hold so many rows, and never again: statistics as a queue has them that was
   * empty when autoanalyze looked.
   * @default analysed at each stage
   */
  readonly analysedAt?: 0 | 1
  /** One after the other in the same database: rows stay, and so do the warm connections. */
  readonly stages: readonly Stage[]
}

export interface Stage {
  readonly claims: number
  /** Whether each claim has connections of its own, as the first of a process has. @default false */
  readonly fresh?: boolean
  /** Queues that the due tasks are spread over. @default 1 */
  readonly queues?: number
  /** Priorities of the due tasks. @default 1 */
  readonly priorities?: number
  /** What is added before the stage. @default 0 each */
  readonly futureTasks?: number
  readonly history?: number
  readonly idleQueues?: number
}

/** One value a claim. */
export interface StageResult {
  /** Of the statements that were answered until the last handler had started. */
  readonly claimMs: number[]
  readonly claimMicros: number[]
  /** Shared buffers that its statements touched. */
  readonly claimBuffers: number[]
  /** From the end of the handlers to the end of the invocation: the settle and what follows it. */
  readonly settleMicros: number[]
  readonly settleBuffers: number[]
}

export interface ClaimsResult {
  readonly stages: StageResult[]
}

export const claims: TreeWork<ClaimsOptions, ClaimsResult> = async (tree, watcher, options) => {
  const { url, perClaim, outcome = 'finish', analysedAt } = options
  const wave = createWave(perClaim, outcome)
  const job = tree.core.defineJob({
    id: 'note',
    payload: z.object({ n: z.number() }),
    maxAttempts: 100,
    backoff: { firstSeconds: 86_400, jitter: 'none', maxSeconds: 86_400 },
    run: wave.run,
  })
  const open = () => openInstance(tree, { url, jobs: [job], mayFail: outcome === 'retry' })
  await using warm = await open()
  const { izta } = warm
  await izta.migrate()
  await watcher.query('create extension if not exists pg_stat_statements')

  async function enqueueDue({ queues = 1, priorities = 1 }: Stage): Promise<void> {
    const items = Array.from({ length: perClaim }, (_, n) => {
      const priority = (n * 7 + Math.floor(n / queues)) % priorities
      return [job, { n }, { queue: `queue-${n % queues}`, priority }] as const
    })
    await izta.enqueueMany(items)
  }
  const addFutureTask = () => izta.enqueue(job, { n: 0 }, { queue: 'queue-0', delaySeconds: 86_400 })
  const handlerOf = (instance: typeof warm) =>
    tree.lambda.createRunnerHandler({ izta: instance.izta, concurrency: perClaim, lingerSeconds: 0 })
  const warmHandler = handlerOf(warm)

  async function claim(stage: Stage, isFresh: boolean, result: StageResult): Promise<void> {
    await enqueueDue(stage)
    await using own = isFresh ? await open() : undefined
    const { statementMs } = own ?? warm
    const handler = own === undefined ? warmHandler : handlerOf(own)
    const readMicros = backendMeter(watcher)
    const [microsBefore, buffersBefore] = [await readMicros(), await readBuffers(watcher)]
    const statementsBefore = statementMs.length
    wave.begin()
    const invocation = handler({}, { getRemainingTimeInMillis: () => 90_000 })
    // An invocation that ends first has claimed too little.
    await Promise.race([wave.allStarted(), invocation])
    const ms = statementMs.slice(statementsBefore).reduce((sum, value) => sum + value, 0)
    const [micros, buffers] = [await readMicros(), await readBuffers(watcher)]
    wave.release()
    await invocation
    result.claimMs.push(ms)
    result.claimMicros.push(micros - microsBefore)
    result.claimBuffers.push(buffers - buffersBefore)
    result.settleMicros.push((await readMicros()) - micros)
    result.settleBuffers.push((await readBuffers(watcher)) - buffers)
  }

  const unused: StageResult = emptyResult()
  // Rows to copy, and connections whose plans were made when the tables were small.
  await claim({ claims: 1 }, false, unused)
  if (analysedAt !== undefined) await freezeStatistics(watcher, analysedAt === 1 ? addFutureTask : undefined)
  await claim({ claims: 1 }, false, unused)
  const stages: StageResult[] = []
  for (const stage of options.stages) {
    await addRows(watcher, stage, addFutureTask)
    if (analysedAt === undefined) await watcher.query('vacuum (analyze)')
    await watcher.query('checkpoint')
    const result = emptyResult()
    for (let n = stage.fresh ? 0 : -3; n < stage.claims; n++) {
      await claim(stage, stage.fresh ?? false, n < 0 ? unused : result)
    }
    stages.push(result)
  }
  return { stages }
}

const emptyResult = (): StageResult => ({
  claimMs: [],
  claimMicros: [],
  claimBuffers: [],
  settleMicros: [],
  settleBuffers: [],
})

/** Handlers that start one by one and end together. */
function createWave(size: number, outcome: 'finish' | 'retry') {
  let started = 0
  let all = Promise.withResolvers<void>()
  let gate = Promise.withResolvers<void>()
  return {
    begin() {
      started = 0
      all = Promise.withResolvers()
      gate = Promise.withResolvers()
    },
    async run() {
      if (++started === size) all.resolve()
      await gate.promise
      if (outcome === 'retry') throw new Error('once more')
    },
    async allStarted() {
      await all.promise
    },
    release() {
      if (started !== size) throw new Error(`a claim of ${size} brought ${started}`)
      gate.resolve()
    },
  }
}

/** Analyses the empty tables, with one more task in them if there is one, and leaves it at that. */
async function freezeStatistics(
  watcher: Client,
  addTask: (() => Promise<unknown>) | undefined,
): Promise<void> {
  for (const table of ['task', 'history', 'queue']) {
    await watcher.query(`alter table izta.${table} set (autovacuum_enabled = false)`)
  }
  await watcher.query('truncate izta.task, izta.history')
  await watcher.query('vacuum')
  await addTask?.()
  await watcher.query('analyze izta.task, izta.history, izta.queue')
}

async function addRows(
  watcher: Client,
  { futureTasks: future = 0, history = 0, idleQueues = 0 }: Stage,
  addTask: () => Promise<unknown>,
): Promise<void> {
  if (future > 0) await addTask()
  await copyRows(watcher, 'task', future, futureTasks)
  await copyRows(watcher, 'history', history, { id: 'uuidv7()' })
  await copyRows(watcher, 'queue', idleQueues, {
    name: `'idle-' || n || '-' || md5(random()::text)`,
    woken_at: `'-infinity'`,
  })
}

async function readBuffers(watcher: Client): Promise<number> {
  const { rows } = await watcher.query<{ buffers: number }>(
    `select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 as buffers from pg_stat_statements s
     join pg_database d on d.oid = s.dbid and d.datname = current_database()
     where s.query like '%izta.%'`,
  )
  return rows[0]?.buffers ?? NaN
}
