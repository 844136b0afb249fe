// Schedules: when a job is to run by itself, checked where it is defined and stored as plain JSON.
import * as z from 'zod/mini'
import { DefinitionError } from '../errors.ts'
import { checkOptions, importedSchema, intFrom, namePattern, nameRule, showValue } from '../options.ts'
import type { CronFields } from './cron.ts'
import { asDefinitionError } from './definition-error.ts'
import { isJob, type AnyJob, type PayloadInput } from './job.ts'
import { makeRule, type ScheduleRule } from './rule.ts'

export type { CronField, CronFields } from './cron.ts'
export type { ScheduleRule } from './rule.ts'

/** A span of time; its parts are added up. At least one minute and at most ten years (3,650 days). */
export interface ScheduleInterval {
  days?: number | undefined
  hours?: number | undefined
  minutes?: number | undefined
  seconds?: number | undefined
}

export type MissedPolicy = 'once' | 'skip' | 'all'
export type OverlapPolicy = 'allow' | 'skip'

interface CommonOptions<J extends AnyJob> {
  /** The schedule's identity within the application: 1 to 100 of A–Z a–z 0–9 . _ : -. */
  name: string
  /** The job that each slot makes a task of. */
  job: J
  /** @default the job's queue */
  queue?: string | undefined
  /** 0 (first) to 9 (last). @default the job's priority */
  priority?: number | undefined
  /** Runs that may fail before a task has failed, from 1 to 32,767. @default the job's maxAttempts */
  maxAttempts?: number | undefined
  /**
   * What becomes of slots that passed while nothing could plan them (an outage, a pause): one task for the latest,
   * none, or one for each of the latest 100.
   * @default 'once'
   */
  missed?: MissedPolicy | undefined
  /** Whether a slot may start while the task of an earlier one has not ended. @default 'allow' */
  overlap?: OverlapPolicy | undefined
}

interface CronOptions {
  /**
   * Five fields, minute to day of week (https://man7.org/linux/man-pages/man5/crontab.5.html), one of `@hourly`
   * `@daily` `@midnight` `@weekly` `@monthly` `@yearly` `@annually`, or an object. Where both day fields are set, a day
   * that fits either counts; only a bare `*` or `?` leaves a day field unset, so `1-31` sets it.
   */
  cron: string | CronFields
  /**
   * IANA time zone whose wall clock the expression means (https://www.iana.org/time-zones). When the clock moves, an
   * expression of every hour follows real time. Any other runs a time that is skipped by up to three hours at the
   * first instant after it, and a time that comes twice only once, at the first.
   * @default 'UTC'
   */
  timeZone?: string | undefined
  every?: never
  anchor?: never
}

interface EveryOptions {
  /** Distance between slots. They are counted from `anchor` and do not drift with the duration of the runs. */
  every: ScheduleInterval
  /** Any instant that is to be a slot, in whole seconds; slots before it count too. @default the Unix epoch */
  anchor?: Date | undefined
  cron?: never
  timeZone?: never
}

/** The payload may be left out where the job's schema allows `undefined`. It is checked when the schedule is stored. */
type PayloadOption<J extends AnyJob> =
  undefined extends PayloadInput<J> ? { payload?: PayloadInput<J> | undefined } : { payload: PayloadInput<J> }

/** What `defineSchedule` takes: the job and its payload, and either `cron` or `every`. */
export type ScheduleOptions<J extends AnyJob> = CommonOptions<J> &
  PayloadOption<J> &
  (CronOptions | EveryOptions)

/** A job with a payload and the rule of when to run it. */
export interface Schedule<J extends AnyJob = AnyJob> {
  readonly kind: 'schedule'
  readonly name: string
  readonly job: J
  readonly payload: PayloadInput<J>
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  readonly missed: MissedPolicy
  readonly overlap: OverlapPolicy
  readonly rule: ScheduleRule
}

const subjectOf = (name: unknown) => (typeof name === 'string' ? `Schedule "${name}"` : 'Schedule definition')

const scheduleOptions = z.strictObject({
  name: z.string().check(z.regex(namePattern, `expected ${nameRule}`)),
  job: importedSchema<AnyJob>('a job made by defineJob', isJob),
  payload: z.optional(z.unknown()),
  queue: z.optional(z.string().check(z.regex(namePattern, `expected ${nameRule}`))),
  priority: z.optional(intFrom(0, 9)),
  maxAttempts: z.optional(intFrom(1, 32_767)),
  missed: z._default(z.enum(['once', 'skip', 'all']), 'once'),
  overlap: z._default(z.enum(['allow', 'skip']), 'allow'),
  cron: z.optional(z.unknown()),
  timeZone: z.optional(z.unknown()),
  every: z.optional(z.unknown()),
  anchor: z.optional(z.unknown()),
})

/**
 * Declares a schedule: a job that runs by itself at the slots of a cron expression or at a fixed interval.
 *
 * @throws {DefinitionError} when an option is unknown or out of its range, the cron expression never fires or means
 * something else than it seems to, or the time zone is unknown.
 *
 * @example
 * ```ts
 * import { defineJob, defineSchedule } from 'izta'
 * import * as z from 'zod'
 *
 * const report = defineJob({ id: 'report', payload: z.object({ to: z.string() }) })
 *
 * export const morningReport = defineSchedule({
 *   name: 'morning-report',
 *   job: report,
 *   payload: { to: 'ops@example.com' },
 *   cron: '30 6 * * MON-FRI',
 *   timeZone: 'Europe/Berlin',
 * })
 * ```
 */
export function defineSchedule<J extends AnyJob>(options: ScheduleOptions<J>): Schedule<J>
export function defineSchedule(options: ScheduleOptions<AnyJob>): Schedule {
  const subject = subjectOf((options as { name?: unknown } | undefined)?.name)
  const checked = checkOptions(subject, scheduleOptions, options, asDefinitionError)
  const { job } = checked
  if (job.payload === undefined && checked.payload !== undefined) {
    throw new DefinitionError(
      `${subject}: option "payload" is ${showValue(checked.payload)}, but job "${job.id}" takes none: leave it out, or give the job a payload schema.`,
    )
  }
  return Object.freeze({
    kind: 'schedule',
    name: checked.name,
    job,
    payload: checked.payload,
    queue: checked.queue ?? job.queue,
    priority: checked.priority ?? job.priority,
    maxAttempts: checked.maxAttempts ?? job.maxAttempts,
    missed: checked.missed,
    overlap: checked.overlap,
    rule: Object.freeze(makeRule(subject, checked)),
  })
}
