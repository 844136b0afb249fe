// The times that a cron expression means, and the next of them on the wall clock.

/** Each list is sorted and holds a value once. */
export interface CronTimes {
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
  /** 1 to 31 and `lastDay`; undefined for `*` and `?`. */
  readonly days: readonly number[] | undefined
  readonly months: readonly number[]
  /** 0 (Sunday) to 6, `nthWeekday(5, 2)` for `5#2`, `lastWeekday(5)` for `5L`; undefined for `*` and `?`. */
  readonly weekdays: readonly number[] | undefined
}

/** `L`: the last day of the month. */
export const lastDay = 100
export const nthWeekday = (weekday: number, nth: number) => 10 * nth + weekday
export const lastWeekday = (weekday: number) => lastDay + weekday

const minuteMs = 60_000
const dayMs = 1440 * minuteMs
/** After so many days the calendar begins again: a time that does not come within them never comes. */
const calendarDays = 146_097

/** The first time later than `after`, as if the wall clock were UTC; undefined when there is none. */
export function nextTime(times: CronTimes, after: number): number | undefined {
  const from = Math.floor(after / minuteMs) + 1
  const firstDay = Math.floor(from / 1440)
  let minute = from - firstDay * 1440
  for (let day = firstDay; day <= firstDay + calendarDays;) {
    const date = new Date(day * dayMs)
    if (!times.months.includes(date.getUTCMonth() + 1)) {
      day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 1) / dayMs
      minute = 0
      continue
    }
    const time = dayFits(times, date) ? nextTimeOfDay(times, minute) : undefined
    if (time !== undefined) return (day * 1440 + time) * minuteMs
    day++
    minute = 0
  }
  return undefined
}

/** Where both day fields are set, a day that fits either counts. */
function dayFits({ days, weekdays }: CronTimes, date: Date): boolean {
  if (days === undefined && weekdays === undefined) return true
  const day = date.getUTCDate()
  const weekday = date.getUTCDay()
  const monthDays = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()
  const anyOf = (set: readonly number[], ...values: number[]) => values.some((value) => set.includes(value))
  return (
    anyOf(days ?? [], day, ...(day === monthDays ? [lastDay] : [])) ||
    anyOf(
      weekdays ?? [],
      weekday,
      nthWeekday(weekday, Math.ceil(day / 7)),
      ...(day + 7 > monthDays ? [lastWeekday(weekday)] : []),
    )
  )
}

/** In minutes of the day; the earliest that may be returned is `from`. */
function nextTimeOfDay({ minutes, hours }: CronTimes, from: number): number | undefined {
  const hour = Math.floor(from / 60)
  const minute = hours.includes(hour) ? minutes.find((value) => value >= from % 60) : undefined
  if (minute !== undefined) return hour * 60 + minute
  const later = hours.find((value) => value > hour)
  return later === undefined ? undefined : later * 60 + minutes[0]!
}
