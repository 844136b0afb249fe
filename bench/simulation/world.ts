// One deployment on a virtual clock: the product's own runner and scheduler handlers, and AWS and the network around
// them. What is assumed of AWS stands in `assumptions`.
import { z } from 'zod'
import { alarmWake } from '../../src/aws/alarm-wake.ts'
import { AwsError, type AwsApi } from '../../src/aws/api.ts'
import { invokeWake } from '../../src/aws/invoke-wake.ts'
import { createRunnerEnvironment } from '../../src/aws/runner-handler.ts'
import { createSchedulerHandler } from '../../src/aws/scheduler-handler.ts'
import { pause, type Clock } from '../../src/clock.ts'
import type { Database } from '../../src/db/database.ts'
import { defaults } from '../../src/defaults.ts'
import { createIzta, defineJob, type Logger } from '../../src/index.ts'
import { dayMs, type Arrival } from './profiles.ts'
import { createRandom } from './random.ts'
import { createVirtualClock, type VirtualClock } from './virtual-clock.ts'

export interface Settings {
  readonly mode: 'steady' | 'sleepy'
  readonly tickMinutes: number
  readonly lingerSeconds: number
  readonly concurrency: number
  /** `maxRunners`: reserved concurrency. */
  readonly maxRunners: number
  /** The runner function's `timeout`. */
  readonly timeoutSeconds: number
  /** Sleepy: how long after a run one more look is taken; no option of the handlers, but of `defaults`. */
  readonly checkSeconds: number
}

export const assumptions = {
  /** From an asynchronous invocation to a free environment. */
  deliveryMs: [20, 80],
  coldStartMs: 400,
  /** An environment without work is kept so long. */
  keptWarmMinutes: 6,
  runnerMemoryMb: 512,
  schedulerMemoryMb: 256,
  schedulerTimeoutSeconds: 60,
  statementMs: 3,
  awsCallMs: 15,
  /** Of the database: it suspends after so long without a statement, and its next one waits for it. */
  suspendMinutes: 5,
  resumeMs: 500,
  databaseCu: 0.25,
  sweepHours: 6,
} as const

export interface Outcome {
  readonly tasks: number
  readonly unfinished: number
  /** From the instant a task was due, or its enqueue had committed, to its handler's start. */
  readonly delaysMs: number[]
  readonly runnerInvocations: number
  readonly schedulerInvocations: number
  readonly coldStarts: number
  readonly runnerGbSeconds: number
  readonly schedulerGbSeconds: number
  /** What EventBridge Scheduler delivered. */
  readonly scheduledInvocations: number
  /** Events that Lambda gave up: they go to the dead-letter queue. */
  readonly deadLetters: number
  /** Of runners and scheduler, without those of the enqueues. */
  readonly statements: number
  readonly databaseHours: number
}

export type OpenDatabase = (clock: VirtualClock) => Promise<Database>

interface Environment {
  readonly handler: (event: unknown, endsAtMs: number) => Promise<unknown>
  busy: boolean
  usedAtMs: number
}

interface LambdaFunction {
  readonly name: 'runner' | 'scheduler'
  readonly memoryMb: number
  readonly longestSeconds: number
  readonly limit: number
  readonly environments: Environment[]
  open(): Environment
  invocations: number
  coldStarts: number
  billedMs: number
}

const quiet: Logger = { debug() {}, info() {}, warn: console.warn, error: console.error }
const epoch = new Date('2030-01-01T00:00:00Z')
const minuteMs = 60_000

/** Replays the arrivals from midnight on, and two hours more so that all can end. */
export async function simulate(
  arrivals: readonly Arrival[],
  settings: Settings,
  openDatabase: OpenDatabase,
  untilMs = dayMs,
): Promise<Outcome> {
  const { mode, tickMinutes, lingerSeconds, concurrency, maxRunners, timeoutSeconds } = settings
  // Read by the handlers each time that they set an alarm.
  Object.assign(defaults.alarm, { checkSeconds: settings.checkSeconds })
  const random = createRandom(1)
  const clock = createVirtualClock(epoch)
  const stored = await openDatabase(clock)
  let statements = 0
  let databaseMs = 0
  let awakeUntilMs = -Infinity

  /** The database over its network; it wakes up when asked, and suspends when left alone. */
  const overNetwork = (counts: boolean): Database => ({
    async query(statement) {
      if (counts) statements++
      const now = clock.now()
      const resumeMs = now >= awakeUntilMs ? assumptions.resumeMs : 0
      const until = now + resumeMs + assumptions.suspendMinutes * minuteMs
      // The next day pays for what is awake after midnight.
      databaseMs += Math.max(0, Math.min(until, untilMs) - Math.max(awakeUntilMs, now))
      awakeUntilMs = until
      await pause(clock, resumeMs + assumptions.statementMs / 2)
      const rows = await clock.hold(stored.query(statement))
      await pause(clock, assumptions.statementMs / 2)
      return rows
    },
  })

  const alarms = new Set<string>()
  let scheduledInvocations = 0
  let deadLetters = 0

  function schedule(atMs: number): void {
    clock.after(atMs - clock.now() + random.between(0, 59_000), () => {
      scheduledInvocations++
      invoke(scheduler, {})
    })
  }

  const api: AwsApi = async ({ service, path, body }) => {
    await pause(clock, assumptions.awsCallMs)
    if (service === 'lambda') {
      invoke(path.includes('runner') ? runner : scheduler, body)
      return { status: 202, body: undefined }
    }
    const { ScheduleExpression } = body as { ScheduleExpression: string }
    if (alarms.has(path)) throw new AwsError('taken', { status: 409, type: 'ConflictException' })
    alarms.add(path)
    const atMs = Date.parse(`${/at\((.*)\)/.exec(ScheduleExpression)?.[1]}Z`) - epoch.getTime()
    schedule(atMs)
    return { status: 200, body: undefined }
  }

  const dueAtMs: number[] = []
  const startedAtMs: number[] = []
  let finished = 0
  const work = defineJob({
    id: 'work',
    payload: z.number(),
    async run(n, ctx) {
      startedAtMs[n] ??= clock.now()
      await pause(clock, arrivals[n]?.durationMs ?? 0, ctx.signal)
      if (!ctx.signal.aborted) finished++
    },
  })
  const wake = invokeWake({
    runners: { '*': 'runner' },
    scheduler: mode === 'sleepy' ? 'scheduler' : undefined,
    api,
  })
  const createApp = (counts: boolean) =>
    createIzta({
      database: overNetwork(counts),
      jobs: [work],
      log: quiet,
      wake,
      clock: clock satisfies Clock,
    })
  const alarm =
    mode === 'sleepy'
      ? alarmWake({ group: 'app', target: 'arn:scheduler', role: 'arn:role', api })
      : undefined

  const runner = lambda('runner', assumptions.runnerMemoryMb, timeoutSeconds, maxRunners, () => {
    const { handler } = createRunnerEnvironment({
      izta: createApp(true),
      queues: ['default'],
      concurrency,
      lingerSeconds,
      alarm,
      metrics: false,
    })
    return (event, endsAtMs) => handler(event, { getRemainingTimeInMillis: () => endsAtMs - clock.now() })
  })
  const scheduler = lambda(
    'scheduler',
    assumptions.schedulerMemoryMb,
    assumptions.schedulerTimeoutSeconds,
    1000,
    () => {
      const handler = createSchedulerHandler({ izta: createApp(true), lingerSeconds, alarm, metrics: false })
      return (event) => handler(event)
    },
  )

  function lambda(
    name: LambdaFunction['name'],
    memoryMb: number,
    longestSeconds: number,
    limit: number,
    open: () => Environment['handler'],
  ): LambdaFunction {
    return {
      name,
      memoryMb,
      longestSeconds,
      limit,
      environments: [],
      open: () => ({ handler: open(), busy: false, usedAtMs: clock.now() }),
      invocations: 0,
      coldStarts: 0,
      billedMs: 0,
    }
  }

  /** An asynchronous invocation: queued, then run by a warm environment, a new one, or later. */
  function invoke(target: LambdaFunction, event: unknown): void {
    const [low, high] = assumptions.deliveryMs
    const queuedAtMs = clock.now()
    const ageSeconds = mode === 'steady' ? 60 : 3600
    let tries = 0
    const deliver = () => {
      const environment = free(target)
      if (environment !== undefined) return void run(target, environment, event)
      const againMs = Math.min(300_000, 1000 * 2 ** tries++)
      if (clock.now() + againMs - queuedAtMs > ageSeconds * 1000) return void deadLetters++
      clock.after(againMs, deliver)
    }
    clock.after(random.between(low, high), deliver)
  }

  function free(target: LambdaFunction): { environment: Environment; coldMs: number } | undefined {
    const now = clock.now()
    const { environments } = target
    const kept = environments.filter(
      ({ busy, usedAtMs }) => busy || now - usedAtMs < assumptions.keptWarmMinutes * minuteMs,
    )
    environments.splice(0, environments.length, ...kept)
    const idle = environments.filter(({ busy }) => !busy).toSorted((a, b) => b.usedAtMs - a.usedAtMs)[0]
    if (idle !== undefined) return { environment: idle, coldMs: 0 }
    if (environments.length >= target.limit) return undefined
    const environment = target.open()
    environments.push(environment)
    return { environment, coldMs: assumptions.coldStartMs }
  }

  async function run(
    target: LambdaFunction,
    { environment, coldMs }: { environment: Environment; coldMs: number },
    event: unknown,
  ): Promise<void> {
    environment.busy = true
    target.invocations++
    const beganAtMs = clock.now()
    if (coldMs > 0) {
      target.coldStarts++
      await pause(clock, coldMs)
    }
    await environment.handler(event, clock.now() + target.longestSeconds * 1000)
    target.billedMs += Math.ceil(clock.now() - beganAtMs)
    environment.busy = false
    environment.usedAtMs = clock.now()
  }

  const application = createApp(false)
  for (const [n, { atMs, delayMs, silent }] of arrivals.entries()) {
    clock.after(atMs, () => void enqueue(n, delayMs, silent))
  }
  async function enqueue(n: number, delayMs: number, silent: boolean): Promise<void> {
    const delay = { delaySeconds: delayMs / 1000 }
    if (silent) {
      const { text, values } = application.enqueueStatement(work, n, delay)
      await overNetwork(false).query({ text, values })
    } else {
      // The wake that follows the commit is no part of the delay's beginning.
      void application.enqueue(work, n, delay)
      await pause(clock, assumptions.statementMs)
    }
    dueAtMs[n] = clock.now() + delayMs
  }
  if (mode === 'steady') {
    for (let atMs = 0; atMs < untilMs + 2 * 60 * minuteMs; atMs += tickMinutes * minuteMs) schedule(atMs)
  } else {
    for (let atMs = 0; atMs < untilMs; atMs += assumptions.sweepHours * 60 * minuteMs) schedule(atMs)
    // What the sweep of the next morning would find.
    schedule(untilMs)
  }
  await clock.runUntil(untilMs)
  // The day is what is paid for; tasks of its last minutes may end after it.
  const gbSeconds = (target: LambdaFunction) => (target.billedMs / 1000) * (target.memoryMb / 1024)
  const paid = {
    runnerInvocations: runner.invocations,
    schedulerInvocations: scheduler.invocations,
    coldStarts: runner.coldStarts + scheduler.coldStarts,
    runnerGbSeconds: gbSeconds(runner),
    schedulerGbSeconds: gbSeconds(scheduler),
    scheduledInvocations,
    deadLetters,
    statements,
    databaseHours: databaseMs / 3_600_000,
  }
  await clock.runUntil(untilMs + 2 * 60 * minuteMs)
  const delaysMs = arrivals.flatMap((_, n) =>
    startedAtMs[n] === undefined ? [] : [Math.max(0, startedAtMs[n] - (dueAtMs[n] ?? 0))],
  )
  return { tasks: arrivals.length, unfinished: arrivals.length - finished, delaysMs, ...paid }
}
