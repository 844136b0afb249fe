// Schedules: when a job is to run by itself, checked where it is defined and stored as plain JSON.
import { z } from 'zod'
import { DefinitionError } from '../errors.ts'
import { checkOptions, namePattern, nameRule, showValue } from '../options.ts'
import type { AnyJob, PayloadInput } from './job.ts'

/** One field of a cron expression: a value, several, or the field's own cron text such as `'*'` or `'MON-FRI'`. */
export type CronField = number | readonly number[] | string

/**
 * A cron expression field by field. A field left out becomes its first value when it is smaller than the smallest one
 * given, else every value: `{ hour: 6 }` is 06:00 each day, `{ minute: 30 }` half past each hour, `{ dayOfWeek: 1 }`
 * midnight on Mondays, `{ month: 2 }` midnight on 1 February. The two day fields count as equally large.
 */
export interface CronFields {
  /** 0 to 59. */
  minute?: CronField
  /** 0 to 23. */
  hour?: CronField
  /** 1 to 31, or `'L'` for the month's last day. */
  dayOfMonth?: CronField
  /** 1 to 12, or `'JAN'` to `'DEC'`. */
  month?: CronField
  /** 0 to 7 (0 and 7 are Sunday) or `'SUN'` to `'SAT'`; `'5L'` is the month's last Friday, `'5#2'` its second. */
  dayOfWeek?: CronField
}

/** A span of time; its parts are added up. At least one minute and at most ten years (3,650 days). */
export interface ScheduleInterval {
  days?: number
  hours?: number
  minutes?: number
  seconds?: number
}

export type MissedPolicy = 'once' | 'skip' | 'all'
export type OverlapPolicy = 'allow' | 'skip'

interface CommonOptions<J extends AnyJob> {
  /** The schedule's identity within the application: 1 to 100 of A–Z a–z 0–9 . _ : -. */
  name: string
  /** The job that each slot makes a task of. */
  job: J
  /** @default the job's queue */
  queue?: string
  /** 0 (first) to 9 (last). @default the job's priority */
  priority?: number
  /** Runs that may fail before a task has failed, from 1 to 32,767. @default the job's maxAttempts */
  maxAttempts?: number
  /**
   * What becomes of slots that passed while nothing could plan them (an outage, a pause): one task for the latest,
   * none, or one for each of the latest 100.
   * @default 'once'
   */
  missed?: MissedPolicy
  /** Whether a slot may start while the task of an earlier one has not ended. @default 'allow' */
  overlap?: OverlapPolicy
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
  timeZone?: string
  every?: never
  anchor?: never
}

interface EveryOptions {
  /** Distance between slots. They are counted from `anchor` and do not drift with the duration of the runs. */
  every: ScheduleInterval
  /** Any instant that is to be a slot, in whole seconds; slots before it count too. @default the Unix epoch */
  anchor?: Date
  cron?: never
  timeZone?: never
}

/** The payload may be left out where the job's schema allows `undefined`. It is checked when the schedule is stored. */
type PayloadOption<J extends AnyJob> =
  undefined extends PayloadInput<J> ? { payload?: PayloadInput<J> } : { payload: PayloadInput<J> }

/** What `defineSchedule` takes: the job and its payload, and either `cron` or `every`. */
export type ScheduleOptions<J extends AnyJob> = CommonOptions<J> &
  PayloadOption<J> &
  (CronOptions | EveryOptions)

/** When slots are due, as it is stored in the schedule's row. */
export type ScheduleRule =
  | { readonly type: 'cron'; readonly cron: string; readonly timeZone: string }
  | { readonly type: 'every'; readonly seconds: number; readonly anchorSeconds?: number }

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
const definitionError = (_: string, message: string) => new DefinitionError(message)

const scheduleOptions = z.strictObject({
  name: z.string().regex(namePattern, `expected ${nameRule}`),
  job: z.custom<AnyJob>(isJob, 'expected a job made by defineJob'),
  payload: z.unknown().optional(),
  queue: z.string().regex(namePattern, `expected ${nameRule}`).optional(),
  priority: z.int().min(0).max(9).optional(),
  maxAttempts: z.int().min(1).max(32_767).optional(),
  missed: z.enum(['once', 'skip', 'all']).default('once'),
  overlap: z.enum(['allow', 'skip']).default('allow'),
  cron: z.unknown().optional(),
  timeZone: z.unknown().optional(),
  every: z.unknown().optional(),
  anchor: z.unknown().optional(),
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
 * import { z } from 'zod'
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
  const checked = checkOptions(subject, scheduleOptions, options, definitionError)
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

function isJob(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'id' in value && typeof value.id === 'string'
}

interface RuleOptions {
  readonly cron?: unknown
  readonly timeZone?: unknown
  readonly every?: unknown
  readonly anchor?: unknown
}

function makeRule(subject: string, { cron, timeZone, every, anchor }: RuleOptions): ScheduleRule {
  if (cron === undefined && every === undefined) {
    throw refusal(subject, 'neither "cron" nor "every" is given: set one of them')
  }
  if (every === undefined) {
    if (anchor !== undefined) {
      throw refusal(subject, 'option "anchor" belongs to "every" and means nothing with "cron": leave it out')
    }
    return cronRule(subject, cron, timeZone)
  }
  if (cron !== undefined) throw refusal(subject, '"cron" and "every" are both given: set only one of them')
  if (timeZone !== undefined) {
    throw refusal(
      subject,
      'option "timeZone" means nothing with "every", which counts real time: leave it out',
    )
  }
  return everyRule(subject, every, anchor)
}

const storedRule = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('cron'), cron: z.string(), timeZone: z.string() }),
  z.strictObject({ type: z.literal('every'), seconds: z.number(), anchorSeconds: z.int().optional() }),
])

/**
 * Checks a rule that was read from the database, so that one written by hand or by a newer izta is refused in words.
 *
 * @throws {DefinitionError} when this version does not understand it.
 */
export function parseRule(value: unknown): ScheduleRule {
  const subject = 'Stored schedule rule'
  const rule = checkOptions(subject, storedRule, value, definitionError)
  if (rule.type === 'cron') return cronRule(subject, rule.cron, rule.timeZone)
  const { seconds, anchorSeconds } = rule
  return everyRule(
    subject,
    { seconds },
    anchorSeconds === undefined ? undefined : new Date(anchorSeconds * 1000),
  )
}

const refusal = (subject: string, reason: string) => new DefinitionError(`${subject}: ${reason}.`)

const intervalPart = z.int().min(0).default(0)
const interval = z.strictObject({
  days: intervalPart,
  hours: intervalPart,
  minutes: intervalPart,
  seconds: intervalPart,
})
const longestSeconds = 3650 * 86_400

function everyRule(subject: string, every: unknown, anchor: unknown): ScheduleRule {
  const parts = checkOptions(`${subject}, option "every"`, interval, every, definitionError)
  const seconds = parts.days * 86_400 + parts.hours * 3600 + parts.minutes * 60 + parts.seconds
  if (seconds < 60 || seconds > longestSeconds) {
    throw refusal(subject, `option "every" is ${seconds} s: expected at least 60 s and at most 3,650 days`)
  }
  if (anchor === undefined) return { type: 'every', seconds }
  if (!(anchor instanceof Date) || Number.isNaN(anchor.getTime()) || anchor.getTime() % 1000 !== 0) {
    throw refusal(
      subject,
      `option "anchor": expected a valid Date in whole seconds; got ${showValue(anchor)}`,
    )
  }
  return { type: 'every', seconds, anchorSeconds: anchor.getTime() / 1000 }
}

function cronRule(subject: string, cron: unknown, timeZone: unknown = 'UTC'): ScheduleRule {
  if (typeof timeZone !== 'string' || !isTimeZone(timeZone)) {
    throw refusal(
      subject,
      `option "timeZone": expected an IANA name such as "Europe/Berlin"; got ${showValue(timeZone)}`,
    )
  }
  return { type: 'cron', cron: cronText(subject, cron), timeZone }
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}

interface FieldRange {
  readonly label: string
  readonly min: number
  readonly max: number
  readonly names: readonly string[]
}

const monthNames = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC']
const dayNames = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT']
const minuteField: FieldRange = { label: 'minute', min: 0, max: 59, names: [] }
const hourField: FieldRange = { label: 'hour', min: 0, max: 23, names: [] }
const dayOfMonthField: FieldRange = { label: 'day of month', min: 1, max: 31, names: [] }
const monthField: FieldRange = { label: 'month', min: 1, max: 12, names: monthNames }
const dayOfWeekField: FieldRange = { label: 'day of week', min: 0, max: 7, names: dayNames }
const fieldRanges = [minuteField, hourField, dayOfMonthField, monthField, dayOfWeekField]

const aliases: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
}

/**
 * Checks a cron expression and returns its five fields. cron-parser reads them again when slots are computed, but
 * it takes much that hides a mistake, seldom names the field, and weighs too much for processes that only enqueue.
 */
function cronText(subject: string, cron: unknown): string {
  const shown = `${subject}, cron ${showValue(cron)}`
  const fields = typeof cron === 'string' ? splitFields(shown, cron) : objectFields(subject, shown, cron)
  const [, , days = [], months = []] = fields.map((text, index) =>
    checkField(shown, fieldRanges[index]!, text),
  )
  const [, , dayOfMonth = '*', , dayOfWeek = '*'] = fields
  const longestMonth = Math.max(
    ...months.map((month) => (month === 2 ? 29 : [4, 6, 9, 11].includes(month) ? 30 : 31)),
  )
  if (isUnset(dayOfWeek) && !isUnset(dayOfMonth) && days.every((day) => day > longestMonth && day < last)) {
    throw refusal(shown, `never fires: no such month has a day ${Math.min(...days)}`)
  }
  return fields.join(' ')
}

const isUnset = (field: string) => field === '*' || field === '?'

function splitFields(shown: string, cron: string): string[] {
  const text = cron.trim()
  if (text.startsWith('@')) {
    const fields = aliases[text.toLowerCase()]
    if (fields === undefined) {
      throw refusal(shown, `unknown alias; known are ${Object.keys(aliases).join(' ')}`)
    }
    return fields.split(' ')
  }
  const fields = text === '' ? [] : text.split(/\s+/)
  if (fields.length === 5) return fields
  const hint = fields.length === 6 ? ' (seconds are not supported)' : ''
  throw refusal(
    shown,
    `has ${fields.length} fields${hint}: expected the five "minute hour day-of-month month day-of-week"`,
  )
}

const cronField = z
  .union(
    [z.int(), z.array(z.int()).min(1), z.string()],
    "expected a number, several, or the field's cron text",
  )
  .optional()
const cronFields = z.strictObject({
  minute: cronField,
  hour: cronField,
  dayOfMonth: cronField,
  month: cronField,
  dayOfWeek: cronField,
})

function objectFields(subject: string, shown: string, cron: unknown): string[] {
  const { minute, hour, dayOfMonth, month, dayOfWeek } = checkOptions(
    `${subject}, option "cron"`,
    cronFields,
    cron,
    definitionError,
  )
  const fields = [minute, hour, dayOfMonth ?? dayOfWeek, month]
  const smallest = fields.findIndex((field) => field !== undefined)
  if (smallest === -1) throw refusal(shown, 'has no field: give at least one, such as { hour: 6 }')
  const first = (rank: number, value: string) => (rank < smallest ? value : '*')
  return [
    String(minute ?? first(0, '0')),
    String(hour ?? first(1, '0')),
    String(dayOfMonth ?? first(2, '1')),
    String(month ?? '*'),
    String(dayOfWeek ?? '*'),
  ]
}

// Stands for `L` among a field's values, above all of them; `last + 5` for `5L`.
const last = 100

function checkField(shown: string, field: FieldRange, text: string): number[] {
  const subject = `${shown}, ${field.label}`
  if (text === '?' && (field === dayOfMonthField || field === dayOfWeekField)) return []
  const items = text.split(',')
  const values = items.flatMap((item) => itemValues(subject, field, item, items.length === 1))
  const repeated = values.find((value, index) => values.indexOf(value) !== index)
  if (repeated !== undefined) throw refusal(subject, `"${text}" names the same ${field.label} more than once`)
  return values
}

function itemValues(subject: string, field: FieldRange, item: string, alone: boolean): number[] {
  if (item.startsWith('H')) {
    throw refusal(subject, `"${item}" would be random and another in each process: write the value out`)
  }
  if (field === dayOfMonthField && item === 'L') return [last]
  const [, weekday, nth] = (field === dayOfWeekField && /^(\w+?)(?:L|#([1-5]))$/.exec(item)) || []
  if (weekday !== undefined) {
    if (nth !== undefined && !alone) {
      throw refusal(subject, `"${item}" must stand alone: remove the other days`)
    }
    const day = fieldValue(subject, field, weekday)
    return [nth === undefined ? last + day : day]
  }
  const [range = '', step, ...more] = item.split('/')
  const [low, high] = rangeBounds(subject, field, range, step !== undefined)
  const distance = step === undefined ? 1 : Number(step)
  if (more.length > 0 || (step !== undefined && !/^[1-9]\d*$/.test(step))) {
    throw refusal(subject, `"${item}" has no valid step: expected a whole number from 1 after one "/"`)
  }
  if (step !== undefined && distance > high - low) {
    throw refusal(
      subject,
      `step ${step} is beyond ${low}–${high}, so that only ${low} would fit: write ${low}, or use "every"`,
    )
  }
  const values = Array.from(
    { length: Math.floor((high - low) / distance) + 1 },
    (_, index) => low + index * distance,
  )
  return field === dayOfWeekField ? [...new Set(values.map((day) => day % 7))] : values
}

function rangeBounds(subject: string, field: FieldRange, range: string, stepped: boolean): [number, number] {
  const highest = field === dayOfWeekField ? 6 : field.max
  if (range === '*') return [field.min, highest]
  const [start = '', end, ...more] = range.split('-')
  if (more.length > 0) throw refusal(subject, `"${range}" is no range: expected two values, such as 1-5`)
  const low = fieldValue(subject, field, start)
  if (end === undefined) return [low, stepped ? field.max : low]
  const high = fieldValue(subject, field, end)
  if (low <= high) return [low, high]
  throw refusal(
    subject,
    `range "${range}" runs backwards: write "${span(low, highest)},${span(field.min, high)}" to go round the end`,
  )
}

const span = (from: number, to: number) => (from === to ? `${from}` : `${from}-${to}`)

function fieldValue(subject: string, field: FieldRange, text: string): number {
  const name = field.names.indexOf(text.toUpperCase())
  if (name !== -1) return name + field.min
  if (/^\d{1,2}$/.test(text)) {
    const value = Number(text)
    if (value >= field.min && value <= field.max) return value
    throw refusal(subject, `${text} is outside ${field.min}–${field.max}`)
  }
  const names = field.names.length === 0 ? '' : ` or ${field.names[0]}–${field.names.at(-1)}`
  throw refusal(subject, `"${text}" is not a value of this field: expected ${field.min}–${field.max}${names}`)
}
