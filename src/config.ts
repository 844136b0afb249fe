// Options → resolved configuration. The only reader of process.env.
import { z } from 'zod'
import { systemClock, type Clock } from './clock.ts'
import { inSchema, type Database } from './db/database.ts'
import { defaults } from './defaults.ts'
import { DefinitionError } from './errors.ts'
import type { AnyJob } from './job/job.ts'
import type { Schedule } from './job/schedule.ts'
import { consoleLogger, type Logger } from './log.ts'
import { checkOptions, namePattern, nameRule } from './options.ts'
import { createEvents, type Events } from './telemetry.ts'
import { createWakes, type Wake, type Wakes } from './wake.ts'

/** What `createIzta` takes. */
export interface IztaOptions {
  /** `pgDatabase(…)` of `izta/pg`, `neonDatabase(…)` of `izta/neon`, or an adapter of your own. */
  database: Database
  /** The jobs that are enqueued, read or run here, with their handlers or without. */
  jobs: readonly AnyJob[]
  /** Schedules defined in code; synced by the scheduler and by `izta migrate` only. @default [] */
  schedules?: readonly Schedule[]
  /** The database schema of izta's tables. @default 'izta' */
  schema?: string
  /** Whose schedules these are: a deployment removes only schedules of its own app. @default IZTA_APP, else 'izta' */
  app?: string
  /**
   * When this code was deployed. Schedules are not synced by a deployment older than the last that did.
   * @default IZTA_DEPLOYED_AT (an ISO 8601 instant), else unknown: syncs always
   */
  deployedAt?: Date
  /** The largest payload, in bytes of JSON. 1 to 67,108,864. @default 1048576 */
  payloadLimitBytes?: number
  /** The largest result and declared error, in bytes of JSON. 1 to 67,108,864. @default 1048576 */
  resultLimitBytes?: number
  /** Starts runners after an enqueue. @default none: runners in the same process only */
  wake?: Wake
  /** @default one JSON object a line on the console */
  log?: Logger
  /** Local time for timeouts and pauses; replaced by the clock of `izta/testing`. @default the process's clock */
  clock?: Clock
}

/** Options with their defaults, and what they make together. */
export interface ResolvedConfig {
  /** The database, already translated to the configured schema. */
  readonly database: Database
  /** The database as it was given: for migrations, which translate themselves. */
  readonly givenDatabase: Database
  readonly schema: string
  readonly app: string
  readonly deployedAt: Date | undefined
  /** By id. */
  readonly jobs: ReadonlyMap<string, AnyJob>
  /** By name. */
  readonly schedules: ReadonlyMap<string, Schedule>
  readonly payloadLimitBytes: number
  readonly resultLimitBytes: number
  readonly wakes: Wakes
  readonly events: Events
  readonly log: Logger
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

const bytes = z.int().min(1).max(64 * 1024 * 1024)
const iztaOptions = z.strictObject({
  database: z.custom<Database>(
    (value) => typeof (value as Database | undefined)?.query === 'function',
    'expected a database adapter such as pgDatabase(url) of izta/pg',
  ),
  jobs: z.array(z.custom<AnyJob>((value) => typeof value === 'object' && value !== null && 'id' in value && 'backoff' in value, 'expected what defineJob or implementJob returns')),
  schedules: z
    .array(z.custom<Schedule>((value) => typeof value === 'object' && value !== null && 'rule' in value, 'expected what defineSchedule returns'))
    .default([]),
  schema: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_]{0,62}$/, 'expected 1 to 63 of A–Z a–z 0–9 _, not starting with a digit')
    .refine((name) => !/^pg_/i.test(name), 'expected a name without the prefix pg_, which Postgres reserves')
    .default(defaults.schema),
  app: z.string().regex(namePattern, `expected ${nameRule}`).optional(),
  deployedAt: z.date().optional(),
  payloadLimitBytes: bytes.default(defaults.payloadLimitBytes),
  resultLimitBytes: bytes.default(defaults.resultLimitBytes),
  wake: z.custom<Wake>((value) => value === undefined || typeof (value as Wake).wake === 'function', 'expected an object with a wake method').optional(),
  log: z.custom<Logger>((value) => value === undefined || typeof (value as Logger).info === 'function', 'expected an object with debug, info, warn and error').optional(),
  clock: z.custom<Clock>((value) => value === undefined || typeof (value as Clock).after === 'function', 'expected an object with now and after').optional(),
})

export function resolveConfig(options: IztaOptions): ResolvedConfig {
  const checked = checkOptions('createIzta', iztaOptions, options, (_, message) => new DefinitionError(message))
  const log = checked.log ?? consoleLogger()
  const events = createEvents(log)
  return {
    database: inSchema(checked.database, checked.schema),
    givenDatabase: checked.database,
    schema: checked.schema,
    app: checked.app ?? environment('IZTA_APP') ?? 'izta',
    deployedAt: checked.deployedAt ?? environmentInstant('IZTA_DEPLOYED_AT'),
    jobs: byName('job', 'id', checked.jobs, (job) => job.id),
    schedules: byName('schedule', 'name', checked.schedules, (schedule) => schedule.name),
    payloadLimitBytes: checked.payloadLimitBytes,
    resultLimitBytes: checked.resultLimitBytes,
    wakes: createWakes(checked.wake, events, log),
    events,
    log,
    clock: checked.clock ?? systemClock,
  }
}

function byName<T>(what: string, key: string, items: readonly T[], nameOf: (item: T) => string): Map<string, T> {
  const map = new Map<string, T>()
  for (const item of items) {
    const name = nameOf(item)
    const other = map.get(name)
    // The same object twice, or a definition beside its implementation, is no contradiction worth an error … but two
    // different jobs under one id would run each other's tasks.
    if (other !== undefined && other !== item) {
      throw new DefinitionError(`createIzta: two ${what}s have the ${key} "${name}": give one of them another ${key}.`)
    }
    map.set(name, item)
  }
  return map
}

/** A variable of the environment; empty counts as unset. */
export function environment(name: string): string | undefined {
  const value = process.env[name]
  return value === '' ? undefined : value
}

function environmentInstant(name: string): Date | undefined {
  const text = environment(name)
  if (text === undefined) return undefined
  const instant = new Date(text)
  if (Number.isNaN(instant.getTime())) {
    throw new DefinitionError(`${name} is "${text}", which is no instant: use ISO 8601, for example 2026-11-24T10:00:00Z.`)
  }
  return instant
}
