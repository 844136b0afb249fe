// One run: processes, database, faults, and the independent reader that checks the invariants meanwhile and after.
import { join } from 'node:path'
import { drain, iztaNow, loseAsleep, loseSome, recoverySince, type Recovery } from './calm.ts'
import { figures as figuresText } from './checks.ts'
import type { ChildSettings } from './child.ts'
import { injectFaults } from './injector.ts'
import type { KindName } from './kinds.ts'
import type { Target } from './kinds/kind.ts'
import { startNeonEndpoint } from './neon.ts'
import { startProcesses } from './processes.ts'
import { startProxy } from './proxy.ts'
import { createRandom } from './random.ts'
import { startServer, type Server } from './server.ts'
import { checkOnce, keepWorking, pinHorizon, readLag } from './watch.ts'

export interface RunOptions {
  readonly seed: number
  readonly faults: number
  readonly kinds: readonly KindName[]
  /** Faults a second. */
  readonly rate: number
  /** Processes that run tasks. */
  readonly runners: number
  /** Stops at the first violation. */
  readonly untilViolation: boolean
  readonly log: (line: string) => void
}

export interface Violation {
  readonly rule: string
  readonly what: string
  /** Since the run began. */
  readonly afterSeconds: number
}

export interface RunReport {
  readonly seed: number
  readonly faults: Partial<Record<KindName, number>>
  readonly rate: number
  readonly runners: number
  readonly postgres: string
  readonly pgBouncer: boolean
  /** Whether the tasks lay on a disk of their own, which could be filled. */
  readonly ownDisk: boolean
  readonly violations: readonly Violation[]
  readonly figures: Readonly<Record<string, number>>
  /** Of every loss, of those with undisturbed runners, and of those after which only a tick could start one. */
  readonly recovery: { readonly all: Recovery; readonly undisturbed: Recovery; readonly asleep?: Recovery }
  readonly drainSeconds: number
  readonly seconds: number
  readonly snapshots: number
  readonly restarts: number
}

/** After a lease's end, with live runners, and where a tick must start one. */
export const recoveryLimits = { undisturbed: 5, asleep: 65 } as const
/** How long due tasks may wait before the faults come more slowly. */
const patienceSeconds = 10
/** Ten minutes. */
const wrongBy = 600_000
/** Runs of so many faults also show how runners start that only a tick wakes, which takes a minute and a half. */
const longRun = 1000

export async function run(options: RunOptions): Promise<RunReport> {
  const { seed, faults, kinds, rate, untilViolation, log } = options
  const startedAtMs = performance.now()
  const seconds = () => (performance.now() - startedAtMs) / 1000
  const random = createRandom(seed)
  const counts: Partial<Record<KindName, number>> = {}
  const violations = new Map<string, Violation>()
  const over = new AbortController()
  let snapshots = 0
  let lagSeconds = 0

  function note(rule: string, what: string, evidence: readonly string[] = []): void {
    if (violations.has(rule)) return
    violations.set(rule, { rule, what, afterSeconds: seconds() })
    log([`VIOLATED after ${seconds().toFixed(1)} s: ${rule}: ${what}`, ...evidence].join('\n  '))
    if (untilViolation) over.abort()
  }

  const server = await startServer({ ownDisk: kinds.includes('disk-full') })
  const stage = await setUp(server, options)
  const { target } = stage
  const watch = keepWorking(
    server,
    over.signal,
    async (client) => {
      await checkOnce(client, ['always'], note)
      snapshots++
      lagSeconds = await readLag(client)
    },
    1000,
  )
  const pin = pinHorizon(server, over.signal)

  try {
    let injected = 0
    const onFault = (kind: KindName) => {
      counts[kind] = (counts[kind] ?? 0) + 1
      if (++injected % 100 === 0) log(`${injected} faults after ${seconds().toFixed(0)} s`)
    }
    // Where the machine has much else to do, faults would meet nothing but processes that start.
    const pace = () => rate / (1 + Math.max(0, lagSeconds - patienceSeconds) / patienceSeconds)
    await injectFaults(target, { faults, kinds, pace, random, signal: over.signal, onFault })
    const admin = await server.connect()
    const { rows: versions } = await admin.query<{ server_version: string }>('show server_version')
    // Accepted tasks come to an end; what the last faults have started (a database that recovers) does as well.
    target.clients.send({ enqueuing: false })
    let drainSeconds = await drain(admin, over.signal)
    const calmSince = await iztaNow(admin)
    if (!over.signal.aborted) await loseSome(target, random, Math.min(10, Math.floor(faults / 40)))
    drainSeconds = Math.max(drainSeconds, await drain(admin, over.signal))
    const undisturbed = await recoverySince(admin, calmSince)
    const asleepSince = await iztaNow(admin)
    const isLong = faults >= longRun && !over.signal.aborted
    if (isLong) await loseAsleep(target, random, stage.onWake)
    const asleep = isLong ? await recoverySince(admin, asleepSince) : undefined
    if (isLong) await drain(admin, over.signal)
    if (!over.signal.aborted) await checkOnce(admin, ['always', 'end'], note)
    const recovery = { all: await recoverySince(admin, new Date(0)), undisturbed, ...(asleep && { asleep }) }
    for (const name of ['undisturbed', 'asleep'] as const) {
      const { max, count } = recovery[name] ?? { max: 0, count: 0 }
      if (over.signal.aborted) break
      if (max > recoveryLimits[name]) note(recoveryRules[name], `it took ${max} s`)
      // A rule that nothing was held against would always hold.
      if (isLong && count === 0) note(recoveryRules[name], 'no lease was lost')
    }
    const { rows: figureRows } = await admin.query<Record<string, number>>(figuresText)
    await admin.end()
    return {
      seed,
      faults: counts,
      rate,
      runners: options.runners,
      postgres: versions[0]?.server_version ?? '',
      pgBouncer: server.bouncerPort !== undefined,
      ownDisk: server.disk !== undefined,
      violations: [...violations.values()],
      figures: figureRows[0] ?? {},
      recovery,
      drainSeconds,
      seconds: seconds(),
      snapshots,
      restarts: target.runners.restarts,
    }
  } finally {
    over.abort()
    target.runners.stop()
    target.clients.stop()
    await Promise.all([watch, pin])
    for (const proxy of target.proxies) proxy.close()
    await target.neon.close()
    await server.stop()
  }
}

export const recoveryRules = {
  undisturbed: `with live runners a lost task is taken over within ${recoveryLimits.undisturbed} s of its lease's end`,
  asleep: `where only a tick a minute starts runners, within ${recoveryLimits.asleep} s`,
} as const

/** The three ways to the database, and the processes that use them by turns. */
async function setUp(server: Server, { seed, runners: count, log }: RunOptions) {
  const direct = await startProxy(() => ({ host: '127.0.0.1', port: server.port }))
  const { bouncerPort } = server
  const pooled =
    bouncerPort === undefined ? undefined : await startProxy(() => ({ host: '127.0.0.1', port: bouncerPort }))
  const neon = await startNeonEndpoint(server.urlThrough(server.port))
  const ports = { direct: direct.port, pooled: (pooled ?? direct).port, http: neon.port }
  const ways = ['direct', 'pooled', 'http'] as const
  const listeners = new Set<() => void>()

  const child = (n: number, way: keyof typeof ports, more: Partial<ChildSettings> = {}): ChildSettings => ({
    url: server.urlThrough(ports[way]),
    overHttp: way === 'http',
    ledgerUrl: server.url,
    generation: 'new',
    clockErrorMs: 0,
    seed: seed + n,
    asleep: false,
    ...more,
  })
  const onMessage = (message: object) => {
    if ('wake' in message) for (const listener of listeners) listener()
  }
  const runners = startProcesses({
    file: 'runner.ts',
    settings: Array.from({ length: count }, (_, n) =>
      child(n, ways[n % 3] ?? 'direct', {
        generation: n % 4 < 2 ? 'new' : 'old',
        clockErrorMs: n % 2 === 0 ? wrongBy : 0,
      }),
    ),
    heapMb: 64,
    cacheFolder: join(server.folder, 'compiled'),
    onMessage,
    log,
  })
  const clients = startProcesses({
    file: 'client.ts',
    settings: [child(0, 'pooled'), child(1, 'http', { clockErrorMs: wrongBy })],
    heapMb: 256,
    cacheFolder: join(server.folder, 'compiled'),
    onMessage,
    log,
  })
  const target: Target = {
    server,
    proxies: pooled === undefined ? [direct] : [direct, pooled],
    neon,
    runners,
    clients,
  }
  return {
    target,
    /** Calls back whenever somebody wakes a runner; returns what ends that. */
    onWake(listener: () => void) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}
