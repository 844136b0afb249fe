// Slots: the due instants of a schedule's rule, and which of them are to become tasks now.
import { defaults } from '../defaults.ts'
import { nextTime, type CronTimes } from './cron-times.ts'
import { parseCron } from './cron.ts'
import type { ScheduleRule } from './rule.ts'
import type { MissedPolicy } from './schedule.ts'

/** How many of the missed slots become tasks at most under `missed: 'all'`. */
export const missedLimit = 100

const dayMs = 86_400_000
/** A longer gap is no daylight saving but a zone that left out a day, which then has no slots (cron(8) says 3 h too). */
const longestGapMs = 3 * 3_600_000

/**
 * The rule's slots later than `after`, in order and without end. Nothing but the arguments decides them: going on is
 * the same as starting anew at any instant.
 */
export function* slotsAfter(rule: ScheduleRule, after: Date): Generator<Date, never> {
  const from = after.getTime()
  if (Number.isNaN(from)) throw new RangeError('slotsAfter needs a valid Date')
  const slots = rule.type === 'every' ? intervalSlots(rule, from) : cronSlots(rule, from)
  for (;;) yield new Date(slots.next().value)
}

/** The first slot later than `after`. Every rule has one: those that never fire are refused when they are defined. */
export function nextSlot(rule: ScheduleRule, after: Date): Date {
  return slotsAfter(rule, after).next().value
}

type EveryRule = Extract<ScheduleRule, { type: 'every' }>
type CronRule = Extract<ScheduleRule, { type: 'cron' }>

function* intervalSlots({ seconds, anchorSeconds = 0 }: EveryRule, after: number): Generator<number, never> {
  const stepMs = seconds * 1000
  const anchorMs = anchorSeconds * 1000
  let slot = anchorMs + Math.floor((after - anchorMs) / stepMs) * stepMs
  for (;;) yield (slot += stepMs)
}

// Times are found on the wall clock, which knows no zone, and mapped to instants here.
function cronSlots({ cron, timeZone }: CronRule, after: number): Generator<number, never> {
  const times = remembered(expressions, 200, cron, () => parseCron('Stored schedule rule', cron))
  return (times.hours.length === 24 ? realTimeSlots : wallClockSlots)(times, timeZone, after)
}

/** Every instant whose wall-clock time fits: nothing for a skipped time, two slots for one that comes twice. */
function* realTimeSlots(times: CronTimes, zone: string, after: number): Generator<number, never> {
  for (;;) {
    const offset = offsetAt(zone, after + 1)
    const slot = nextWall(times, after + offset) - offset
    const change = firstChange(zone, after + 1, slot)
    if (change === undefined) yield (after = slot)
    else after = change - 1
  }
}

/** One slot for each wall-clock time that fits; the times of a gap share the instant after it. */
function* wallClockSlots(times: CronTimes, zone: string, after: number): Generator<number, never> {
  let wall = after + offsetAt(zone, after)
  for (;;) {
    wall = nextWall(times, wall)
    const slot = firstInstant(zone, wall)
    if (slot !== undefined && slot > after) yield (after = slot)
  }
}

/** The first instant at which the zone's clocks show `wall`, or at which they have gone past it. */
function firstInstant(zone: string, wall: number): number | undefined {
  // No offset is as large as a day and no zone changes twice within two, so these lie on either side of a change.
  const before = offsetAt(zone, wall - dayMs)
  const later = offsetAt(zone, wall + dayMs)
  if (offsetAt(zone, wall - before) === before) return wall - before
  if (offsetAt(zone, wall - later) === later) return wall - later
  return later - before > longestGapMs ? undefined : firstChange(zone, wall - dayMs, wall + dayMs)
}

/** The first instant after `from`, and up to `to`, at which the zone's offset is another than at `from`. */
function firstChange(zone: string, from: number, to: number): number | undefined {
  const offset = offsetAt(zone, from)
  let low = from
  while (low < to) {
    let high = Math.min(to, nextDay(low))
    if (offsetAt(zone, high) === offset) {
      low = high
      continue
    }
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2)
      if (offsetAt(zone, middle) === offset) low = middle
      else high = middle
    }
    return high
  }
  return undefined
}

const nextDay = (instant: number) => (Math.floor(instant / dayMs) + 1) * dayMs

interface Zone {
  readonly format: Intl.DateTimeFormat
  /** Offset throughout a UTC day, by the day's number. */
  readonly days: Map<number, number | 'changes'>
}

const zones = new Map<string, Zone>()
const expressions = new Map<string, CronTimes>()

/** What to add to an instant to get the zone's wall clock, in milliseconds. */
function offsetAt(timeZone: string, instant: number): number {
  if (timeZone === 'UTC') return 0
  const zone = remembered(zones, 50, timeZone, () => ({
    format: new Intl.DateTimeFormat('en-US', { timeZone, timeZoneName: 'longOffset' }),
    days: new Map<number, number | 'changes'>(),
  }))
  const day = Math.floor(instant / dayMs)
  const constant = remembered(zone.days, 1000, day, () => {
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

function nextWall(times: CronTimes, wall: number): number {
  const next = nextTime(times, wall)
  // Every accepted expression fires: only the end of what a Date can hold has no next time.
  if (next === undefined) throw new RangeError('There is no later slot that a Date can hold.')
  return next
}

/** A map as a cache of at most `limit` entries; the oldest goes first. */
function remembered<K, V extends object | number | string>(
  cache: Map<K, V>,
  limit: number,
  key: K,
  make: () => V,
): V {
  const known = cache.get(key)
  if (known !== undefined) return known
  const [oldest] = cache.size >= limit ? cache.keys() : []
  if (oldest !== undefined) cache.delete(oldest)
  const made = make()
  cache.set(key, made)
  return made
}

export interface SlotsToPlan {
  readonly rule: ScheduleRule
  readonly missed: MissedPolicy
  /** Every slot up to this instant has been dealt with. */
  readonly madeUntil: Date
  /** Whether this planning was due so long ago that there was an outage. */
  readonly isLate: boolean
  readonly now: Date
  /** Future slots are made into tasks so long ahead, and at least the next one always. @default 120 */
  readonly aheadSeconds?: number
}

export interface SlotPlan {
  /** The slots to make into tasks, in order. */
  readonly slots: readonly Date[]
  /** How many slots were missed; counting stops one above `missedLimit`. */
  readonly missedSlots: number
  /** How many of the counted missed slots make no task. */
  readonly droppedSlots: number
  /**
   * How many tasks of slots that were made ahead and have passed may wait on, the latest of them; undefined: all, since
   * nothing was missed.
   */
  readonly waitingKept: number | undefined
  /** The new cursor: never earlier than the old one. */
  readonly madeUntil: Date
  /** When planning makes something new again; always later than `now`. */
  readonly planAt: Date
}

function slotsBetween(rule: ScheduleRule, after: Date, until: Date, limit: number): Date[] {
  const slots: Date[] = []
  if (after >= until) return slots
  for (const slot of slotsAfter(rule, after)) {
    if (slot > until || slots.length === limit) break
    slots.push(slot)
  }
  return slots
}

/** The last `limit` slots later than `after` and up to `until`, found by bisection: a long outage has millions. */
function latestSlots(rule: ScheduleRule, after: Date, until: Date, limit: number): Date[] {
  let low = after.getTime()
  let high = until.getTime()
  let slots = slotsBetween(rule, after, until, limit + 1)
  if (slots.length < limit) return slots
  while (slots.length !== limit) {
    const middle = Math.floor((low + high) / 2)
    slots = slotsBetween(rule, new Date(middle), until, limit + 1)
    if (slots.length > limit) low = middle
    else high = middle
  }
  return slots
}

/**
 * Decides which slots of a schedule become tasks now. Doing it twice at the same instant makes nothing new, and
 * nothing is new before `planAt`. After any outage it looks at a few thousand slots at most.
 */
export function planSlots({
  rule,
  missed,
  madeUntil,
  isLate,
  now,
  aheadSeconds = defaults.schedule.aheadSeconds,
}: SlotsToPlan): SlotPlan {
  const aheadMs = aheadSeconds * 1000
  const limit = { once: 1, skip: 0, all: missedLimit }[missed]
  const past = latestSlots(rule, madeUntil, now, missedLimit + 1)
  const kept = past.slice(Math.max(0, past.length - limit))
  const horizon = later(new Date(now.getTime() + aheadMs), nextSlot(rule, now))
  const future = slotsBetween(rule, later(madeUntil, now), horizon, Infinity)
  const cursor = future.at(-1) ?? madeUntil
  const following = nextSlot(rule, cursor)
  return {
    slots: [...kept, ...future],
    missedSlots: past.length,
    droppedSlots: past.length - kept.length,
    // Of several slots that passed at once "once" runs the latest, be they late or not.
    waitingKept: isLate || (missed === 'once' && past.length > 0) ? limit - kept.length : undefined,
    madeUntil: cursor,
    planAt: new Date(Math.min(cursor.getTime(), following.getTime() - aheadMs)),
  }
}

const later = (a: Date, b: Date) => (a > b ? a : b)
