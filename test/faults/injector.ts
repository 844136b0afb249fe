// The faults: what each kind does, how often it comes, and the seeded order in which they are injected.
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChildProcess } from 'node:child_process'
import type { Client } from 'pg'
import { leaseMs } from './pace.ts'
import type { HttpFault, NeonEndpoint } from './neon.ts'
import type { Processes } from './processes.ts'
import type { Cut, Proxy } from './proxy.ts'
import type { Random } from './random.ts'
import { user, type Server } from './server.ts'

export interface Target {
  readonly server: Server
  readonly proxies: readonly Proxy[]
  readonly neon: NeonEndpoint
  readonly runners: Processes
  readonly clients: Processes
}

/** Resolves to false when there was nothing to do it to. */
type Inject = (target: Target, random: Random) => Promise<boolean>

interface Kind {
  /** How often it is drawn, beside the others. */
  readonly weight: number
  /** How many of it at once, at the most. */
  readonly atOnce?: number
  readonly inject: Inject
}

async function withAdmin<T>({ server }: Target, work: (admin: Client) => Promise<T>): Promise<T> {
  const admin = await server.connect()
  try {
    return await work(admin)
  } finally {
    await admin.end().catch(() => undefined)
  }
}

const cut =
  (kind: Cut): Inject =>
  async ({ proxies }, random) => {
    const delayMs = random.between(
      kind === 'stalled-answer' ? 300 : 50,
      kind === 'stalled-answer' ? 2500 : 900,
    )
    return (await random.pick(proxies)?.arm(kind, delayMs)) ?? false
  }

const http =
  (fault: HttpFault): Inject =>
  ({ neon }, random) =>
    neon.arm(fault, random.between(50, 900))

/** Every so many statements that change tasks fail with this SQLSTATE for a while. */
const trouble =
  (sqlState: string): Inject =>
  (target, random) =>
    withAdmin(target, async (admin) => {
      const lastsMs = random.between(200, 900)
      await admin.query(
        `insert into ledger.trouble (sqlstate, share, until_at)
        values ($1, $2, clock_timestamp() + $3 * interval '1 ms')`,
        [sqlState, random.pick([0.3, 0.7, 1]), lastsMs],
      )
      await sleep(lastsMs)
      await admin.query('delete from ledger.trouble where until_at < clock_timestamp()')
      return true
    })

const troublemaker =
  (kind: string): Inject =>
  ({ clients }, random) => {
    const child = clients.any(random)
    child?.send({ troublemaker: kind }, () => undefined)
    return Promise.resolve(child !== undefined)
  }

const message =
  (to: 'runners' | 'clients', build: (random: Random) => object): Inject =>
  (target, random) => {
    const child = target[to].any(random)
    child?.send(build(random), () => undefined)
    return Promise.resolve(child !== undefined)
  }

/** Until the process is in the middle of a task. */
function untilInTask(child: ChildProcess | undefined, inTask: 'SIGKILL' | 'SIGSTOP'): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(false), 5000)
    const end = (happened: boolean) => {
      clearTimeout(timer)
      child?.off('message', heard)
      child?.off('exit', gone)
      resolve(happened)
    }
    const heard = () => end(true)
    const gone = () => end(false)
    if (child?.connected !== true) return end(false)
    child.on('message', heard)
    child.on('exit', gone)
    child.send({ inTask }, () => undefined)
  })
}

async function freezeInTask({ runners }: Target, random: Random, ms: number): Promise<boolean> {
  const child = runners.any(random)
  if (child === undefined || !(await untilInTask(child, 'SIGSTOP'))) return false
  runners.frozen.add(child)
  await sleep(ms)
  child.kill('SIGCONT')
  runners.frozen.delete(child)
  return true
}

export const kinds = {
  kill: {
    weight: 5,
    inject: ({ runners }, random) => Promise.resolve(runners.any(random)?.kill('SIGKILL') ?? false),
  },
  'kill-in-task': {
    weight: 4,
    inject: ({ runners }, random) => untilInTask(runners.any(random), 'SIGKILL'),
  },
  'freeze-past-lease': {
    weight: 4,
    atOnce: 2,
    inject: (target, random) => freezeInTask(target, random, leaseMs + random.between(0, 1500)),
  },
  'freeze-briefly': {
    weight: 4,
    atOnce: 2,
    inject: (target, random) => freezeInTask(target, random, random.between(100, 2500)),
  },
  'cut-before': { weight: 12, inject: cut('cut-before') },
  'cut-during': { weight: 12, inject: cut('cut-during') },
  'cut-after': { weight: 14, inject: cut('cut-after') },
  'late-copy': { weight: 10, inject: cut('late-copy') },
  'stalled-answer': { weight: 6, inject: cut('stalled-answer') },
  'http-refused': { weight: 3, inject: http('http-refused') },
  'http-answer-dropped': { weight: 4, inject: http('http-answer-dropped') },
  'http-answer-truncated': { weight: 3, inject: http('http-answer-truncated') },
  'http-doubled': { weight: 4, inject: http('http-doubled') },
  'http-late': { weight: 4, inject: http('http-late') },
  'backend-terminated': {
    weight: 4,
    inject: (target) =>
      withAdmin(target, async (admin) => {
        const { rowCount } = await admin.query(
          `select pg_terminate_backend(pid) from pg_stat_activity where usename = $1 order by random() limit 2`,
          [user],
        )
        return (rowCount ?? 0) > 0
      }),
  },
  'statement-cancelled': {
    weight: 4,
    inject: (target) =>
      withAdmin(target, async (admin) => {
        const { rowCount } = await admin.query(
          `select pg_cancel_backend(pid) from pg_stat_activity where usename = $1`,
          [user],
        )
        return (rowCount ?? 0) > 0
      }),
  },
  'serialization-failure': { weight: 3, inject: trouble('40001') },
  'deadlock-error': { weight: 3, inject: trouble('40P01') },
  'statement-timeout': { weight: 2, inject: trouble('57014') },
  'lock-timeout': { weight: 2, inject: trouble('55P03') },
  'disk-full': { weight: 2, inject: trouble('53100') },
  'read-only': { weight: 2, inject: trouble('25006') },
  'rows-locked': {
    weight: 4,
    atOnce: 2,
    inject: (target, random) =>
      withAdmin(target, async (admin) => {
        await admin.query(`begin; set local deadlock_timeout = '3s'`)
        // Against the order of everybody else, one after the other: deadlocks.
        for (let n = 0; n < 6; n++) {
          await admin.query(
            `select from izta.task where run_at < now() + interval '10 seconds' order by id desc offset ${n * 3} limit 1 for update`,
          )
          await sleep(random.between(5, 60))
        }
        await admin.query('rollback')
        return true
      }).catch(() => true),
  },
  'out-of-connections': {
    weight: 2,
    atOnce: 1,
    inject: (target, random) =>
      withAdmin(target, async (admin) => {
        await admin.query(`alter role ${user} connection limit ${random.between(0, 2)}`)
        await admin.query(`select pg_terminate_backend(pid) from pg_stat_activity where usename = $1`, [user])
        await sleep(random.between(200, 900))
        await admin.query(`alter role ${user} connection limit -1`)
        return true
      }),
  },
  'database-crash': {
    weight: 0.4,
    atOnce: 1,
    inject: (target) =>
      withAdmin(target, async (admin) => {
        const { rows } = await admin.query<{ pid: number }>(
          'select pid from pg_stat_activity where usename = $1 limit 1',
          [user],
        )
        const pid = rows[0]?.pid
        if (pid === undefined) return false
        process.kill(pid, 'SIGKILL')
        return true
      }),
  },
  'database-restart': {
    weight: 0.4,
    atOnce: 1,
    inject: async ({ server }) => {
      await server.restart()
      return true
    },
  },
  'trigger-twice': { weight: 5, inject: message('runners', () => ({ storm: 1 })) },
  'trigger-storm': { weight: 4, inject: message('runners', (random) => ({ storm: random.between(4, 10) })) },
  'trigger-never': {
    weight: 3,
    inject: message('runners', (random) => ({ idle: random.between(500, 3000) })),
  },
  'schedulers-at-once': {
    weight: 4,
    inject: ({ clients }, random) => {
      clients.send({ ticks: random.between(2, 4) })
      return Promise.resolve(true)
    },
  },
  'unknown-job': { weight: 4, inject: troublemaker('unknown-job') },
  poison: { weight: 2, inject: troublemaker('poison') },
  'unstorable-result': { weight: 4, inject: troublemaker('unstorable-result') },
  'odd-text': { weight: 4, inject: troublemaker('odd-text') },
  'blocked-loop': { weight: 1, inject: troublemaker('blocked-loop') },
  'ignored-signal': { weight: 2, inject: troublemaker('ignored-signal') },
} as const satisfies Record<string, Kind>

export type KindName = keyof typeof kinds
export const kindNames = Object.keys(kinds) as KindName[]
export const descriptions: Readonly<Record<KindName, string>> = {
  kill: 'SIGKILL of a process of runners, at any moment',
  'kill-in-task': 'SIGKILL while a handler runs',
  'freeze-past-lease': 'SIGSTOP until every lease has ended, then SIGCONT',
  'freeze-briefly': 'SIGSTOP for up to 2.5 s while a handler runs',
  'cut-before': 'the connection breaks before a statement arrives',
  'cut-during': 'the connection breaks while a statement runs or commits',
  'cut-after': 'the statement is applied, its answer is lost',
  'late-copy': 'the connection breaks, and the statement arrives up to 0.9 s later, beside its repeat',
  'stalled-answer': 'the answer is up to 2.5 s late; clients give up after 1.5 s',
  'http-refused': 'over HTTP: the connection breaks before the statement runs',
  'http-answer-dropped': 'over HTTP: the answer is lost after the commit',
  'http-answer-truncated': 'over HTTP: half of the answer comes',
  'http-doubled': 'over HTTP: the statement runs twice at once',
  'http-late': 'over HTTP: the statement runs up to 0.9 s after the connection broke, beside its repeat',
  'backend-terminated': '`pg_terminate_backend` of two sessions',
  'statement-cancelled': '`pg_cancel_backend` of every session',
  'serialization-failure': 'statements fail with 40001 for up to 0.9 s',
  'deadlock-error': 'the same with 40P01',
  'statement-timeout': 'the same with 57014',
  'lock-timeout': 'the same with 55P03',
  'disk-full': 'the same with 53100',
  'read-only': 'the same with 25006, as after a failover',
  'rows-locked': 'a stranger locks six tasks one by one, against the order of izta',
  'out-of-connections': 'every session ends, and none or two may connect for up to 0.9 s',
  'database-crash': 'SIGKILL of a server process: the database recovers from its log',
  'database-restart': 'immediate shutdown and start',
  'trigger-twice': 'a second invocation beside the first',
  'trigger-storm': 'up to ten invocations at once in one process',
  'trigger-never': 'no invocation for up to 3 s',
  'schedulers-at-once': 'four to eight ticks at once',
  'unknown-job': 'a task of a job that half of the runners, the older ones, do not know',
  poison: 'a task that kills its process each time',
  'unstorable-result': 'cycles, bigints, symbols, results that are too large',
  'odd-text': 'errors and results full of NULs and lone surrogates',
  'blocked-loop': 'a handler blocks the event loop until its lease has ended',
  'ignored-signal': 'a handler ignores its signal for longer than the grace time',
}

export interface InjectOptions {
  readonly faults: number
  readonly kinds: readonly KindName[]
  /** Faults a second. */
  readonly rate: number
  readonly random: Random
  readonly signal: AbortSignal
  readonly onFault: (kind: KindName) => void
}

/** Injects so many faults, and returns when each is over. */
export async function injectFaults(target: Target, options: InjectOptions): Promise<void> {
  const { faults, kinds: chosen, rate, random, signal, onFault } = options
  const running = new Map<KindName, number>()
  const open = new Set<Promise<void>>()
  let done = 0

  const draw = (): KindName => {
    const drawable = chosen.filter(
      (name) => (running.get(name) ?? 0) < ((kinds[name] as Kind).atOnce ?? Infinity),
    )
    const total = drawable.reduce((sum, name) => sum + kinds[name].weight, 0)
    let left = random.next() * total
    return drawable.find((name) => (left -= kinds[name].weight) < 0) ?? drawable[0] ?? 'kill'
  }
  async function one(name: KindName): Promise<void> {
    running.set(name, (running.get(name) ?? 0) + 1)
    try {
      if (await (kinds[name] as Kind).inject(target, random)) {
        done++
        onFault(name)
      }
    } catch {
      // Another fault was in its way, such as the end of the server.
    } finally {
      running.set(name, (running.get(name) ?? 1) - 1)
    }
  }
  while (done < faults && !signal.aborted) {
    const fault = one(draw())
    open.add(fault)
    void fault.finally(() => open.delete(fault))
    await sleep((random.next() * 2 * 1000) / rate)
  }
  await Promise.all(open)
}
