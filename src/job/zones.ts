// Time zones: what their clocks show, and which release of the data says so.
import { cachedIn } from './bounded-cache.ts'

/** What is known of time zones. Governments change their rules, so a newer release may move a slot of the future. */
export interface ZoneData {
  /** Such as `2026c`: a newer release compares greater. */
  readonly version: string
  /** What to add to an instant to get the zone's wall clock, in milliseconds. */
  offsetAt(timeZone: string, instant: number): number
}

/** The first instant after `from`, and up to `to`, at which the zone's offset is another than at `from`. */
export function firstChange(zones: ZoneData, zone: string, from: number, to: number): number | undefined {
  const offset = zones.offsetAt(zone, from)
  let low = from
  while (low < to) {
    let high = Math.min(to, nextDay(low))
    if (zones.offsetAt(zone, high) === offset) {
      low = high
      continue
    }
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (zones.offsetAt(zone, middle) === offset) low = middle
      else high = middle
    }
    return high
  }
  return undefined
}

export const dayMs = 86_400_000
const nextDay = (instant: number) => (Math.floor(instant / dayMs) + 1) * dayMs

interface Zone {
  readonly format: Intl.DateTimeFormat
  /** Offset throughout a UTC day, by the day's number. */
  readonly days: Map<number, number | 'changes'>
}

const cached = new Map<string, Zone>()

function offsetAt(timeZone: string, instant: number): number {
  if (timeZone === 'UTC') return 0
  const zone = cachedIn(cached, 50, timeZone, () => ({
    format: new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' }),
    days: new Map<number, number | 'changes'>(),
  }))
  const day = Math.floor(instant / dayMs)
  const constant = cachedIn(zone.days, 1000, day, () => {
    const offset = formattedOffset(zone.format, day * dayMs)
    return offset === formattedOffset(zone.format, (day + 1) * dayMs) ? offset : 'changes'
  })
  return constant === 'changes' ? formattedOffset(zone.format, instant) : constant
}

function formattedOffset(format: Intl.DateTimeFormat, instant: number): number {
  const text = format.format(instant)
  const [, sign, hours, minutes, seconds = '0'] = /GMT([+-])(\d+):(\d+)(?::(\d+))?$/.exec(text) ?? []
  const ms = sign === undefined ? 0 : (Number(hours) * 3600 + Number(minutes) * 60 + Number(seconds)) * 1000
  return sign === '-' ? -ms : ms
}

/** The data that this process has: of Node.js, or of the ICU that it was built with. */
export const ownZones: ZoneData = { version: process.versions['tz'] ?? '', offsetAt }
