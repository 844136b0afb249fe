// Options → resolved configuration.
import * as z from 'zod/mini'
import { systemClock, type Clock } from './clock.ts'
import { inSchema, type Database } from './db/database.ts'
import { gateOf } from './db/gate.ts'
import { throughGate, type GatedDatabase } from './db/gated.ts'
import { defaults } from './defaults.ts'
import { environment } from './environment.ts'
import { DefinitionError } from './errors.ts'
import { jobsById } from './job/by-id.ts'
import { isJob, type AnyJob } from './job/job.ts'
import type { Schedule } from './job/schedule.ts'
import { consoleLogger, redacted, scoped, type Logger, type Redact } from './observe/log.ts'
import { checkOptions, importedSchema, intFrom, nameSchema, numberFrom } from './options.ts'
import { measured, tellTooNew } from './store/open.ts'
import { createEvents, type Events } from './observe/events.ts'
import { noTracing, redactedTracing, type Tracing } from './observe/tracing.ts'
import { createWakes, type Wake, type Wakes } from './wake/wakes.ts'

/** What `createIzta` takes. */
export interface IztaOptions {
  /** `pgDatabase(…)` of `izta/pg`, `neonDatabase(…)` of `izta/neon`, or an adapter of your own. */
  database: Database
  /** The jobs that are enqueued, read or run here, with their handlers or without. */
  jobs: readonly AnyJob[]
  /**
   * Schedules defined in code; synced by the scheduler and by `izta migrate` only. A list is the whole of the app's:
   * what it lacks is removed, so `[]` removes all.
   * @default none: this instance says nothing about schedules, and removes none
   */
  schedules?: readonly Schedule[] | undefined
  /** The database schema of izta's tables. @default 'izta' */
  schema?: string | undefined
  /** Whose schedules these are: a deployment removes only schedules of its own app. @default IZTA_APP, else 'izta' */
  app?: string | undefined
  /**
   * When this code was deployed. Schedules are not synced by a deployment older than the last that did.
   * @default IZTA_DEPLOYED_AT (an ISO 8601 instant), else unknown: syncs always
   */
  deployedAt?: Date | undefined
  /**
   * How long a call may take, in seconds, all its tries and its waiting for a connection included; then it is told as
   * `busy` if it was not sent, as `database-unreachable` otherwise. 0.1 to 900. Runners' claims and settles go by their
   * leases instead.
   * @default 10
   */
  callTimeoutSeconds?: number | undefined
  /** The largest payload, in bytes of JSON. 1 to 67,108,864. @default 1048576 */
  payloadLimitBytes?: number | undefined
  /** The largest result, in bytes of JSON; a declared error may have 65,536. 1 to 67,108,864. @default 1048576 */
  resultLimitBytes?: number | undefined
  /** Starts runners after an enqueue. @default none: runners in the same process only */
  wake?: Wake | undefined
  /** @default one JSON object a line on the console */
  log?: Logger | undefined
  /**
   * Whether log lines quote what handlers throw; if not, they name its class and a code. Declared errors and what a
   * schema says of a value are never quoted.
   * @default true
   */
  logMessages?: boolean | undefined
  /**
   * Rewrites what log lines and spans quote: it gets each message and each text of each line's facts, those of
   * `ctx.log` included, and the message and stack of a span's exception, and returns what may be written. When it
   * throws, the text is left out. Events and stored errors stay as they are.
   * @default none: texts are written as they are
   * @example
   * ```ts
   * const redact = (text: string) => text.replaceAll(/\b\d{13,19}\b/g, '(card)')
   * ```
   */
  redact?: Redact | undefined
  /** Spans for enqueues and runs: `openTelemetry(…)` of `izta/opentelemetry`. @default none */
  tracing?: Tracing | undefined
  /** Local time for timeouts and pauses; replaced by the clock of `izta/testing`. @default the process's clock */
  clock?: Clock | undefined
}

/** Options with their defaults, and what they make together. */
export interface ResolvedConfig {
  /** The database behind its gate, already translated to the configured schema. */
  readonly database: GatedDatabase
  /** The database as it was given: for migrations, which translate themselves. */
  readonly givenDatabase: Database
  readonly schema: string
  readonly app: string
  readonly deployedAt: Date | undefined
  /** By id. */
  readonly jobs: ReadonlyMap<string, AnyJob>
  /** By name; undefined for an instance that says nothing about schedules. */
  readonly schedules: ReadonlyMap<string, Schedule> | undefined
  readonly payloadLimitBytes: number
  readonly resultLimitBytes: number
  readonly wakes: Wakes
  readonly events: Events
  readonly log: Logger
  readonly logMessages: boolean
  readonly tracing: Tracing
  readonly clock: Clock
}

const configKey: unique symbol = Symbol.for('izta.config') as never

/** Anything that carries its configuration: what `createIzta` returns. */
export interface Configured {
  readonly [configKey]: ResolvedConfig
}

/** The configuration behind an izta instance, for runners, handlers and the local stack. */
export function configOf(izta: Configured): ResolvedConfig {
  const config = izta?.[configKey] as ResolvedConfig | undefined
  if (config === undefined) throw new DefinitionError('Expected what createIzta returns.')
  return config
}

/** Attaches a configuration to an object. */
export const withConfig = <T extends object>(object: T, config: ResolvedConfig): T & Configured =>
  Object.assign(object, { [configKey]: config })

const bytes = intFrom(1, 64 * 1024 * 1024)
const iztaOptions = z.strictObject({
  database: thing<Database>('a database adapter, such as pgDatabase(url) of izta/pg', 'query'),
  jobs: z
    .array(importedSchema<AnyJob>('what defineJob or implementJob returns', isJob))
    .check(z.describe('an array of jobs')),
  schedules: z.optional(
    z
      .array(
        importedSchema<Schedule>(
          'what defineSchedule returns',
          (value) => isObject(value) && value['kind'] === 'schedule',
        ),
      )
      .check(z.describe('an array of schedules')),
  ),
  schema: z._default(
    z
      .string()
      .check(
        z.regex(/^(?!pg_)[A-Za-z_][A-Za-z0-9_]{0,62}$/i),
        z.describe(
          '1 to 63 of A–Z a–z 0–9 _, starting neither with a digit nor with pg_, which Postgres reserves',
        ),
      ),
    defaults.schema,
  ),
  app: z.optional(nameSchema),
  deployedAt: z.optional(z.date()),
  callTimeoutSeconds: z._default(numberFrom(0.1, 900), defaults.callTimeoutSeconds),
  payloadLimitBytes: z._default(bytes, defaults.payloadLimitBytes),
  resultLimitBytes: z._default(bytes, defaults.resultLimitBytes),
  wake: z.optional(thing<Wake>('an object with the method wake', 'wake')),
  log: z.optional(
    thing<Logger>('an object with the methods debug, info, warn and error', 'debug', 'info', 'warn', 'error'),
  ),
  logMessages: z._default(z.boolean(), true),
  redact: z.optional(
    z
      .custom<Redact>((value) => typeof value === 'function')
      .check(z.describe('a function from text to text')),
  ),
  tracing: z.optional(
    thing<Tracing>(
      'openTelemetry(…) of izta/opentelemetry, or an object with the methods enqueue, current and run',
      'enqueue',
      'current',
      'run',
    ),
  ),
  clock: z.optional(thing<Clock>('an object with the methods now and after', 'now', 'after')),
})

/** A schema of whatever has these methods. */
function thing<T>(description: string, ...methods: string[]) {
  const fits = (value: unknown) =>
    isObject(value) && methods.every((method) => typeof value[method] === 'function')
  return z.custom<T>(fits).check(z.describe(description))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (typeof value === 'object' || typeof value === 'function') && value !== null
}

/** As `engines` of package.json has it. */
const oldestNode = [22, 12] as const

/** What is missing in an older one would fail later, in words that tell nobody why. */
export function checkNode(version: string): void {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor, oldestMinor] = oldestNode
  if (major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)) return
  throw new DefinitionError(
    `izta needs Node.js ${oldestNode.join('.')} or newer and this is ${version}: take the runtime nodejs24.x for Lambda functions, or update Node.js.`,
  )
}

export function resolveConfig(options: IztaOptions): ResolvedConfig {
  checkNode(process.versions.node)
  const checked = checkOptions(
    'createIzta',
    iztaOptions,
    options,
    (_, message) => new DefinitionError(message),
  )
  const { redact, tracing = noTracing } = checked
  const written = checked.log ?? consoleLogger()
  const log = scoped(redact === undefined ? written : redacted(written, redact))
  const clock = checked.clock ?? systemClock
  const events = createEvents(log)
  return {
    database: throughGate(measured(tellTooNew(inSchema(checked.database, checked.schema)), events, clock), {
      gate: gateOf(checked.database),
      callTimeoutSeconds: checked.callTimeoutSeconds,
    }),
    givenDatabase: checked.database,
    schema: checked.schema,
    app: checked.app ?? environment('IZTA_APP') ?? 'izta',
    deployedAt: checked.deployedAt ?? environmentInstant('IZTA_DEPLOYED_AT'),
    // Jobs of schedules included, so that none is stored whose tasks nobody here knows.
    jobs: jobsById('createIzta', [
      ...checked.jobs,
      ...(checked.schedules ?? []).map((schedule) => schedule.job),
    ]),
    schedules: checked.schedules && schedulesByName(checked.schedules),
    payloadLimitBytes: checked.payloadLimitBytes,
    resultLimitBytes: checked.resultLimitBytes,
    wakes: createWakes(checked.wake, events, log),
    events,
    log,
    logMessages: checked.logMessages,
    tracing: redact === undefined ? tracing : redactedTracing(tracing, redact),
    clock,
  }
}

function schedulesByName(schedules: readonly Schedule[]): Map<string, Schedule> {
  const byName = new Map<string, Schedule>()
  for (const schedule of schedules) {
    if ((byName.get(schedule.name) ?? schedule) !== schedule) {
      throw new DefinitionError(
        `createIzta: two schedules have the name "${schedule.name}": give one of them another name.`,
      )
    }
    byName.set(schedule.name, schedule)
  }
  return byName
}

function environmentInstant(name: string): Date | undefined {
  const text = environment(name)
  if (text === undefined) return undefined
  const instant = new Date(text)
  if (Number.isNaN(instant.getTime())) {
    throw new DefinitionError(
      `${name} is "${text}", which is no instant: use ISO 8601, for example 2026-11-24T10:00:00Z.`,
    )
  }
  return instant
}
