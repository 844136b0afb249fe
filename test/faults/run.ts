// One run: processes, database, faults, and the independent reader that checks the invariants meanwhile and after.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { leaseMs } from './pace.ts'
import { checks, figures as figuresText, recoveries, type Check } from './checks.ts'
import { injectFaults, type KindName } from './injector.ts'
import type { ChildSettings } from './child.ts'
import { startNeonEndpoint } from './neon.ts'
import { startProcesses } from './processes.ts'
import { startProxy } from './proxy.ts'
import { createRandom } from './random.ts'
import { startServer, type Server } from './server.ts'

export interface RunOptions {
  readonly seed: number
  readonly faults: number
  readonly kinds: readonly KindName[]
  /** Faults a second. @default 6 */
  readonly rate?: number
  readonly runners?: number
  /** Stops at the first violation. @default false */
  readonly untilViolation?: boolean
  readonly log?: (line: string) => void
}

export interface Violation {
  readonly rule: string
  readonly what: string
  /** Since the run began. */
  readonly afterSeconds: number
}

export interface Recovery {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

export interface RunReport {
  readonly seed: number
  readonly faults: Partial<Record<KindName, number>>
  readonly pgBouncer: boolean
  readonly violations: readonly Violation[]
  readonly figures: Readonly<Record<string, number>>
  /** Of every loss, and of those that happened with the runners undisturbed. */
  readonly recovery: { readonly all: Recovery; readonly undisturbed: Recovery }
  readonly drainSeconds: number
  readonly seconds: number
  readonly snapshots: number
  readonly restarts: number
}

const recoveryLimitSeconds = 5
/** Ten minutes. */
const wrongBy = 600_000
const drainLimitMs = 60_000

export async function run(options: RunOptions): Promise<RunReport> {
  const {
    seed,
    faults,
    kinds,
    rate = 6,
    runners: runnerCount = 4,
    untilViolation = false,
    log = () => undefined,
  } = options
  const startedAtMs = performance.now()
  const seconds = () => (performance.now() - startedAtMs) / 1000
  const random = createRandom(seed)
  const counts: Partial<Record<KindName, number>> = {}
  const violations = new Map<string, Violation>()
  const over = new AbortController()
  let snapshots = 0

  const server = await startServer()
  const direct = await startProxy(() => ({ host: '127.0.0.1', port: server.port }))
  const pooled =
    server.bouncerPort === undefined
      ? undefined
      : await startProxy(() => ({ host: '127.0.0.1', port: server.bouncerPort ?? 0 }))
  const neon = await startNeonEndpoint(server.urlThrough(server.port))
  const child = (
    n: number,
    way: 'direct' | 'pooled' | 'http',
    more: Partial<ChildSettings> = {},
  ): ChildSettings => {
    const port = { direct: direct.port, pooled: pooled?.port ?? direct.port, http: neon.port }[way]
    const url = server.urlThrough(port)
    return {
      url,
      overHttp: way === 'http',
      ledgerUrl: server.url,
      generation: 'new',
      clockErrorMs: 0,
      seed: seed + n,
      ...more,
    }
  }
  const ways = ['direct', 'pooled', 'http'] as const
  const runners = startProcesses(
    'runner.ts',
    Array.from({ length: runnerCount }, (_, n) =>
      child(n, ways[n % 3] ?? 'direct', {
        generation: n % 4 < 2 ? 'new' : 'old',
        clockErrorMs: n % 2 === 0 ? wrongBy : 0,
      }),
    ),
  )
  const clients = startProcesses('client.ts', [
    child(0, 'pooled'),
    child(1, 'http', { clockErrorMs: wrongBy }),
  ])
  const proxies = pooled === undefined ? [direct] : [direct, pooled]

  function note(rule: string, what: string): void {
    if (violations.has(rule)) return
    violations.set(rule, { rule, what, afterSeconds: seconds() })
    log(`VIOLATED after ${seconds().toFixed(1)} s: ${rule}: ${what}`)
    if (untilViolation) over.abort()
  }

  async function check(client: Client, when: readonly Check['when'][]): Promise<void> {
    await client.query('begin isolation level repeatable read, read only')
    for (const { rule, text, when: its } of checks) {
      if (!when.includes(its)) continue
      const { rows } = await client.query<{ what: string }>(`${text} limit 3`)
      if (rows[0] !== undefined) note(rule, rows[0].what)
    }
    await client.query('commit')
    snapshots++
  }

  const watch = everySecond(server, over.signal, (client) => check(client, ['always']), 1000)
  // Holds back what vacuum may clear away, for the whole run.
  const pin = everySecond(server, over.signal, async (client) => {
    await client.query('begin isolation level repeatable read; select pg_current_xact_id()')
    while (!over.signal.aborted) {
      await client.query('select 1')
      await sleep(200)
    }
  })

  try {
    let injected = 0
    await injectFaults(
      { server, proxies, neon, runners, clients },
      {
        faults,
        kinds,
        rate,
        random,
        signal: over.signal,
        onFault(kind) {
          counts[kind] = (counts[kind] ?? 0) + 1
          if (++injected % 100 === 0) log(`${injected} faults after ${seconds().toFixed(0)} s`)
        },
      },
    )
    const admin = await server.connect()
    const { rows: instants } = await admin.query<{ now: Date }>(`select clock_timestamp() as now`)
    const calmSince = instants[0]?.now ?? new Date()
    // Accepted tasks come to an end; what the last faults have started (a database that recovers) does as well.
    clients.send({ enqueuing: false })
    const drainFromMs = performance.now()
    while (!over.signal.aborted && performance.now() < drainFromMs + drainLimitMs) {
      await sleep(250)
      const { rows } = await admin.query(
        `select from izta.task where schedule is null or due_at < now() - interval '2 seconds' limit 1`,
      )
      if (rows.length === 0 && performance.now() - drainFromMs > 1500) break
    }
    const drainSeconds = (performance.now() - drainFromMs) / 1000
    await sleep(over.signal.aborted ? 0 : 500)
    if (!over.signal.aborted) await check(admin, ['always', 'end'])
    const recoveryOf = async (since: Date) =>
      (await admin.query<Recovery>(recoveries, [since])).rows[0] ?? noRecovery
    const recovery = { all: await recoveryOf(new Date(0)), undisturbed: await recoveryOf(calmSince) }
    if (!over.signal.aborted && recovery.undisturbed.max > recoveryLimitSeconds) {
      note(
        `a lost task is taken over within ${recoveryLimitSeconds} s of its lease's end`,
        `it took ${recovery.undisturbed.max} s`,
      )
    }
    const { rows: figureRows } = await admin.query<Record<string, number>>(figuresText)
    await admin.end()
    return {
      seed,
      faults: counts,
      pgBouncer: pooled !== undefined,
      violations: [...violations.values()],
      figures: figureRows[0] ?? {},
      recovery,
      drainSeconds,
      seconds: seconds(),
      snapshots,
      restarts: runners.restarts,
    }
  } finally {
    over.abort()
    runners.stop()
    clients.stop()
    await Promise.all([watch, pin])
    for (const proxy of proxies) proxy.close()
    await neon.close()
    await server.stop()
  }
}

const noRecovery: Recovery = { count: 0, p50: 0, p99: 0, max: 0 }
export const longestLeaseSeconds = leaseMs / 1000

/** Works on a connection that comes back whenever the server does. */
async function everySecond(
  server: Server,
  signal: AbortSignal,
  work: (client: Client) => Promise<void>,
  pauseMs = 100,
): Promise<void> {
  while (!signal.aborted) {
    const client = await server.connect().catch(() => undefined)
    try {
      let tookMs = 0
      while (client !== undefined && !signal.aborted) {
        // Long runs have long ledgers: reading them must not be what the machine does.
        await sleep(Math.max(pauseMs, 5 * tookMs))
        const startedAtMs = performance.now()
        await work(client)
        tookMs = performance.now() - startedAtMs
      }
    } catch (error) {
      const state = error instanceof Error && 'code' in error ? String(error.code) : ''
      if (/^(22|42)/.test(state)) throw error
    }
    await client?.end().catch(() => undefined)
  }
}
