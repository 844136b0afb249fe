// Cron expressions: the one reading of what may be written, and the one spelling in which it is stored.
import * as z from 'zod/mini'
import { checkOptions, showValue } from '../options.ts'
import { asDefinitionError, definitionRefusal } from './definition-error.ts'

/** One field of a cron expression: a value, several, or the field's own cron text such as `'*'` or `'MON-FRI'`. */
export type CronField = number | readonly number[] | string

/**
 * A cron expression field by field. A field left out becomes its first value when it is smaller than the smallest one
 * given, else every value: `{ hour: 6 }` is 06:00 each day, `{ minute: 30 }` half past each hour, `{ dayOfWeek: 1 }`
 * midnight on Mondays, `{ month: 2 }` midnight on 1 February. The two day fields count as equally large.
 */
export interface CronFields {
  /** 0 to 59. */
  minute?: CronField | undefined
  /** 0 to 23. */
  hour?: CronField | undefined
  /** 1 to 31, or `'L'` for the month's last day. */
  dayOfMonth?: CronField | undefined
  /** 1 to 12, or `'JAN'` to `'DEC'`. */
  month?: CronField | undefined
  /** 0 to 7 (0 and 7 are Sunday) or `'SUN'` to `'SAT'`; `'5L'` is the month's last Friday, `'5#2'` its second. */
  dayOfWeek?: CronField | undefined
}

/** The values that an expression names. Each list is sorted and holds a value once. */
export interface CronFieldValues {
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
  /** 1 to 31 and `lastDay`; undefined for `*` and `?`. */
  readonly days: readonly number[] | undefined
  readonly months: readonly number[]
  /** 0 (Sunday) to 6, `nthWeekday(5, 2)` for `5#2`, `lastWeekday(5)` for `5L`; undefined for `*` and `?`. */
  readonly weekdays: readonly number[] | undefined
}

/** `L`: the last day of the month. */
const lastDay = 100
const nthWeekday = (weekday: number, nth: number) => 10 * nth + weekday
const lastWeekday = (weekday: number) => lastDay + weekday
export const isNthWeekday = (value: number): boolean => value >= nthWeekday(0, 1) && value < lastDay

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
 * Reads a cron expression. No other code reads one as it was written: its times are those of `cronText`. `subject`
 * starts the error's sentence.
 *
 * @throws {DefinitionError} when the expression has an error, hides one, or never fires.
 */
export function parseCron(subject: string, cron: unknown): CronFieldValues {
  const shown = `${subject}, cron ${showValue(cron)}`
  const fields = typeof cron === 'string' ? splitFields(shown, cron) : objectFields(subject, shown, cron)
  const [minutes, hours, days, months, weekdays] = fields.map((text, index) =>
    fieldValues(shown, fieldRanges[index]!, text),
  )
  const values: CronFieldValues = {
    minutes: minutes!,
    hours: hours!,
    days: isUnset(fields[2]!) ? undefined : days!,
    months: months!,
    weekdays: isUnset(fields[4]!) ? undefined : weekdays!,
  }
  if (!fires(values)) {
    throw definitionRefusal(shown, `never fires: no such month has a day ${values.days?.[0]}`)
  }
  return values
}

/** Only a day of the month can be one that never comes: each weekday is once the fifth of a February. */
const fires = ({ days, months, weekdays }: CronFieldValues) =>
  days === undefined ||
  weekdays !== undefined ||
  days.includes(lastDay) ||
  months.some((month) => days[0]! <= longestDays(month))

/** 29 for February. */
const longestDays = (month: number) => new Date(Date.UTC(2000, month, 0)).getUTCDate()

/** The expression in its one stored spelling: sorted numbers, `*`, and ranges for three and more in a row. */
export function cronText({ minutes, hours, days, months, weekdays }: CronFieldValues): string {
  return [
    minutes.length === 60 ? '*' : fieldText(minuteField, minutes),
    hours.length === 24 ? '*' : fieldText(hourField, hours),
    // A day field that names every day is set, unlike `*`.
    days === undefined ? '*' : fieldText(dayOfMonthField, days),
    months.length === 12 ? '*' : fieldText(monthField, months),
    weekdays === undefined ? '*' : fieldText(dayOfWeekField, weekdays),
  ].join(' ')
}

function fieldText(field: FieldRange, values: readonly number[]): string {
  const items: string[] = []
  for (let index = 0; index < values.length;) {
    const first = values[index]!
    let end = index + 1
    while (first <= field.max && values[end] === first + end - index && values[end]! <= field.max) end++
    if (end - index > 2) items.push(`${first}-${values[end - 1]}`)
    else items.push(...values.slice(index, end).map((value) => itemText(field, value)))
    index = end
  }
  return items.join(',')
}

function itemText(field: FieldRange, value: number): string {
  if (value <= field.max) return String(value)
  if (value === lastDay && field === dayOfMonthField) return 'L'
  return value >= lastDay ? `${value - lastDay}L` : `${value % 10}#${Math.floor(value / 10)}`
}

const isUnset = (field: string) => field === '*' || field === '?'

function splitFields(shown: string, cron: string): string[] {
  const text = cron.trim()
  if (text.startsWith('@')) {
    const fields = aliases[text.toLowerCase()]
    if (fields === undefined) {
      throw definitionRefusal(shown, `unknown alias; known are ${Object.keys(aliases).join(' ')}`)
    }
    return fields.split(' ')
  }
  const fields = text === '' ? [] : text.split(/\s+/)
  if (fields.length === 5) return fields
  const hint = fields.length === 6 ? ' (seconds are not supported)' : ''
  throw definitionRefusal(
    shown,
    `has ${fields.length} fields${hint}: expected the five "minute hour day-of-month month day-of-week"`,
  )
}

const cronField = z.optional(
  z.union(
    [z.int(), z.array(z.int()).check(z.minLength(1)), z.string()],
    "expected a number, several, or the field's cron text",
  ),
)
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
    asDefinitionError,
  )
  const fields = [minute, hour, dayOfMonth ?? dayOfWeek, month]
  const smallest = fields.findIndex((field) => field !== undefined)
  if (smallest === -1) throw definitionRefusal(shown, 'has no field: give at least one, such as { hour: 6 }')
  const first = (rank: number, value: string) => (rank < smallest ? value : '*')
  return [
    String(minute ?? first(0, '0')),
    String(hour ?? first(1, '0')),
    String(dayOfMonth ?? first(2, '1')),
    String(month ?? '*'),
    String(dayOfWeek ?? '*'),
  ]
}

function fieldValues(shown: string, field: FieldRange, text: string): number[] {
  const subject = `${shown}, ${field.label}`
  if (text === '?' && (field === dayOfMonthField || field === dayOfWeekField)) return []
  const values = text.split(',').flatMap((item) => itemValues(subject, field, item))
  const repeated = values.find((value, index) => values.indexOf(value) !== index)
  if (repeated !== undefined)
    throw definitionRefusal(subject, `"${text}" names the same ${field.label} more than once`)
  return values.toSorted((a, b) => a - b)
}

function itemValues(subject: string, field: FieldRange, item: string): number[] {
  if (item.startsWith('H')) {
    throw definitionRefusal(
      subject,
      `"${item}" would be random and another in each process: write the value out`,
    )
  }
  if (field === dayOfMonthField && item.toUpperCase() === 'L') return [lastDay]
  const [, name, nth] = field === dayOfWeekField ? (/^(\w+?)(?:L|#([1-5]))$/i.exec(item) ?? []) : []
  if (name !== undefined) {
    const weekday = fieldValue(subject, field, name) % 7
    return [nth === undefined ? lastWeekday(weekday) : nthWeekday(weekday, Number(nth))]
  }
  const [range = '', step, ...more] = item.split('/')
  const [low, high] = rangeBounds(subject, field, range, step !== undefined)
  const distance = step === undefined ? 1 : Number(step)
  if (more.length > 0 || (step !== undefined && !/^[1-9]\d*$/.test(step))) {
    throw definitionRefusal(
      subject,
      `"${item}" has no valid step: expected a whole number from 1 after one "/"`,
    )
  }
  if (step !== undefined && distance > high - low) {
    throw definitionRefusal(
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
  if (more.length > 0)
    throw definitionRefusal(subject, `"${range}" is no range: expected two values, such as 1-5`)
  const low = fieldValue(subject, field, start)
  if (end === undefined) return [low, stepped ? field.max : low]
  const high = fieldValue(subject, field, end)
  if (low <= high) return [low, high]
  throw definitionRefusal(
    subject,
    `range "${range}" runs backwards: write "${rangeText(low, highest)},${rangeText(field.min, high)}" to go round the end`,
  )
}

const rangeText = (from: number, to: number) => (from === to ? `${from}` : `${from}-${to}`)

function fieldValue(subject: string, field: FieldRange, text: string): number {
  const name = field.names.indexOf(text.toUpperCase())
  if (name !== -1) return name + field.min
  if (/^\d{1,2}$/.test(text)) {
    const value = Number(text)
    if (value >= field.min && value <= field.max) return value
    throw definitionRefusal(subject, `${text} is outside ${field.min}–${field.max}`)
  }
  const names = field.names.length === 0 ? '' : ` or ${field.names[0]}–${field.names.at(-1)}`
  throw definitionRefusal(
    subject,
    `"${text}" is not a value of this field: expected ${field.min}–${field.max}${names}`,
  )
}
