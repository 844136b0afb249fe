// The work a queue is measured with; each runs in a process of its own, so CPU and memory are the queue's.
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import type { Queue } from './queue.ts'
import { backendMeter, serverCpuMicros } from './server-cpu.ts'

export interface WorkOptions {
  readonly tasks: number
  /** Tasks in one enqueue call. @default 1000 */
  readonly perCall?: number
  /** Enqueue calls at once. @default 1 */
  readonly clients?: number
  /** Tasks enqueued per second, in the mixed work. */
  readonly perSecond?: number
  /** Whether a transaction elsewhere holds back the removal of dead rows. */
  readonly pinned?: boolean
  /** When a drain is given up; its rate is then that of the tasks until there. @default never */
  readonly limitSeconds?: number
  /** Whether to look at what stays on disk. */
  readonly sized?: boolean
}

export interface DrainResult {
  readonly perSecond: number
  readonly enqueuedPerSecond: number
  /** User and system time of this process, per task. */
  readonly cpuMicrosPerTask: number
  /** Of the whole server; of queues that are written in TypeScript, on Linux. */
  readonly serverCpuMicrosPerTask?: number
  /** From before the enqueue until the last task was settled. */
  readonly walBytesPerTask: number
}

/** How fast a full queue becomes empty: from the moment the runner is ready until no unfinished task is left. */
export async function drain(queue: Queue, database: Client, options: WorkOptions): Promise<DrainResult> {
  const { tasks, pinned = false, limitSeconds } = options
  // Dirty pages of the run before are not this one's.
  await database.query('checkpoint')
  const walStart = await walPosition(database)
  const enqueued = await fill(queue, options)
  await database.query('vacuum (analyze)')
  await using _pin = pinned ? await pin(database) : undefined
  let seen = 0
  const all = Promise.withResolvers<void>()
  const serverCpu = await serverCpuMicros(database)
  const cpu = process.cpuUsage()
  const stop = await queue.work(() => {
    if (++seen === tasks) all.resolve()
  })
  const startedAt = performance.now()
  const limit = new AbortController()
  const given =
    limitSeconds === undefined ? [] : [sleep(limitSeconds * 1000, 'over', { signal: limit.signal })]
  const isOver = (await Promise.race([all.promise, ...given])) === 'over'
  limit.abort()
  if (!isOver) await untilEmpty(queue, database)
  const done = seen
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  const serverMicros = (await serverCpuMicros(database)) - serverCpu
  const walBytes = (await walPosition(database)) - walStart
  await stop()
  return {
    perSecond: done / seconds,
    enqueuedPerSecond: enqueued.perSecond,
    cpuMicrosPerTask: (user + system) / done,
    serverCpuMicrosPerTask: serverMicros / done,
    walBytesPerTask: walBytes / done,
  }
}

export interface EnqueueResult {
  readonly perSecond: number
  readonly cpuMicrosPerTask: number
  /** Of the whole server, and of the processes that serve the connections alone. */
  readonly serverCpuMicrosPerTask: number
  readonly backendCpuMicrosPerTask: number
}

export async function enqueue(queue: Queue, database: Client, options: WorkOptions): Promise<EnqueueResult> {
  const readMicros = backendMeter(database)
  const [serverCpu, backendCpu] = [await serverCpuMicros(database), await readMicros()]
  const filled = await fill(queue, options)
  const backendMicros = (await readMicros()) - backendCpu
  const serverMicros = (await serverCpuMicros(database)) - serverCpu
  return {
    ...filled,
    serverCpuMicrosPerTask: serverMicros / options.tasks,
    backendCpuMicrosPerTask: backendMicros / options.tasks,
  }
}

async function fill(
  queue: Queue,
  { tasks, perCall = 1000, clients = 1 }: WorkOptions,
): Promise<Pick<EnqueueResult, 'perSecond' | 'cpuMicrosPerTask'>> {
  // The first call of a connection pays for opening it.
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  let next = 0
  const client = async () => {
    // oxlint-disable no-await-in-loop -- one call follows the other
    while (next < tasks) {
      const from = next
      const count = Math.min(perCall, tasks - from)
      next += count
      if (perCall === 1) await queue.enqueueOne(from)
      else await queue.enqueueMany(from, count)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return { perSecond: tasks / seconds, cpuMicrosPerTask: (user + system) / tasks }
}

export interface LatencyResult {
  /** From the moment the caller knows of the commit, and from its call, to the handler's start. */
  readonly afterCommitMs: number[]
  readonly afterCallMs: number[]
}

/** One task at a time into an idle queue. */
export async function latency(queue: Queue, _: Client, { tasks }: WorkOptions): Promise<LatencyResult> {
  let started = Promise.withResolvers<number>()
  const stop = await queue.work(() => started.resolve(performance.now()))
  const afterCommitMs: number[] = []
  const afterCallMs: number[] = []
  for (let n = -5; n < tasks; n++) {
    // Idle again, and at a random point of any polling interval.
    await sleep(100 + Math.random() * 60)
    started = Promise.withResolvers()
    const calledAt = performance.now()
    const committed = queue.enqueueOne(n).then(() => performance.now())
    const [committedAt, startedAt] = await Promise.all([committed, started.promise])
    if (n < 0) continue
    afterCommitMs.push(Math.max(0, startedAt - committedAt))
    afterCallMs.push(startedAt - calledAt)
  }
  await stop()
  return { afterCommitMs, afterCallMs }
}

export interface MixedResult {
  readonly delaysMs: number[]
  /** Tasks enqueued and not started, ten times a second. */
  readonly backlog: number[]
  /** From the enqueue until settled. */
  readonly serverCpuMicrosPerTask: number
}

/** Enqueues at a steady rate while the runner works. */
export async function mixed(queue: Queue, database: Client, options: WorkOptions): Promise<MixedResult> {
  const { tasks, perSecond = 2000 } = options
  const perCall = 10
  const startedAt = new Map<number, number>()
  const committedAt = new Map<number, number>()
  const all = Promise.withResolvers<void>()
  const stop = await queue.work((n) => {
    startedAt.set(n, performance.now())
    if (startedAt.size === tasks) all.resolve()
  })
  const serverCpu = await serverCpuMicros(database)
  const backlog: number[] = []
  const sampling = setInterval(() => backlog.push(committedAt.size - startedAt.size), 100)
  const calls: Promise<void>[] = []
  const beganAt = performance.now()
  for (let from = 0; from < tasks; from += perCall) {
    const dueMs = (from / perSecond) * 1000 - (performance.now() - beganAt)
    if (dueMs > 0) await sleep(dueMs)
    const call = queue.enqueueMany(from, perCall).then(() => {
      for (let n = from; n < from + perCall; n++) committedAt.set(n, performance.now())
    })
    calls.push(call)
  }
  await Promise.all(calls)
  await all.promise
  clearInterval(sampling)
  await stop()
  const serverMicros = (await serverCpuMicros(database)) - serverCpu
  const delaysMs = [...startedAt].map(([n, at]) => Math.max(0, at - (committedAt.get(n) ?? at)))
  return { delaysMs, backlog, serverCpuMicrosPerTask: serverMicros / tasks }
}

export interface MemoryResult {
  /** Resident megabytes after each hundredth of the tasks. */
  readonly rssMegabytes: number[]
}

/** What a long drain leaves in memory; filled in portions, so that the filling leaves nothing either. */
export async function memory(queue: Queue, database: Client, { tasks }: WorkOptions): Promise<MemoryResult> {
  const rssMegabytes: number[] = []
  const portion = tasks / 100
  await fill(queue, { tasks })
  let seen = 0
  const all = Promise.withResolvers<void>()
  const stop = await queue.work(() => {
    if (++seen % portion === 0) rssMegabytes.push(process.memoryUsage.rss() / 1024 / 1024)
    if (seen === tasks) all.resolve()
  })
  await all.promise
  await untilEmpty(queue, database)
  await stop()
  return { rssMegabytes }
}

async function untilEmpty(queue: Queue, database: Client): Promise<void> {
  for (;;) {
    const { rows } = await database.query<{ unfinished: boolean }>(queue.unfinished)
    if (rows[0]?.unfinished === false) return
    await sleep(5)
  }
}

async function walPosition(database: Client): Promise<number> {
  const { rows } = await database.query<{ bytes: string }>(
    `select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') as bytes`,
  )
  return Number(rows[0]?.bytes)
}

/** A transaction that reads and stays: no dead row that it could see may go. */
async function pin({ host, port, user, password, database }: Client): Promise<AsyncDisposable> {
  const client = new Client({
    host,
    port,
    user,
    ...(typeof password !== 'string' ? {} : { password }),
    database: database ?? '',
  })
  await client.connect()
  await client.query('begin isolation level repeatable read')
  await client.query('select count(*) from pg_class')
  return { [Symbol.asyncDispose]: () => client.end() }
}
