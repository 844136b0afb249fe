// Slots: the due instants of a schedule's rule.
import { timesOf, type CronTimes } from './cron-times.ts'
import type { ScheduleRule } from './rule.ts'
import { dayMs, firstChange, ownZones, type ZoneData } from './zones.ts'

/** A longer gap is no daylight saving but a zone that left out a day, which then has no slots (cron(8) says 3 h too). */
const longestGapMs = 3 * 3_600_000

/** A slot, and the time by the wall clock that it is meant for; undefined where the rule follows real time. */
export interface Slot {
  readonly at: Date
  readonly wall: number | undefined
}

interface Instant {
  readonly at: number
  readonly wall?: number
}

/**
 * The rule's slots later than `after`, in order and without end. Nothing but the arguments decides them: going on is
 * the same as starting anew at any instant.
 */
export function* slotsAfter(rule: ScheduleRule, after: Date, zones = ownZones): Generator<Slot, never> {
  const from = after.getTime()
  if (Number.isNaN(from)) throw new RangeError('slotsAfter needs a valid Date')
  const slots = rule.type === 'every' ? intervalSlots(rule, from) : cronSlots(rule, from, zones)
  for (;;) {
    const { at, wall } = slots.next().value
    yield { at: new Date(at), wall }
  }
}

/** The first slot later than `after`. Every rule has one: those that never fire are refused when they are defined. */
export function nextSlot(rule: ScheduleRule, after: Date, zones = ownZones): Date {
  return slotsAfter(rule, after, zones).next().value.at
}

/** Whether slots of the rule depend on the data of time zones. */
export const usesZones = (rule: ScheduleRule): boolean => rule.type === 'cron' && rule.timeZone !== 'UTC'

type EveryRule = Extract<ScheduleRule, { type: 'every' }>
type CronRule = Extract<ScheduleRule, { type: 'cron' }>

function* intervalSlots({ seconds, anchorSeconds = 0 }: EveryRule, after: number): Generator<Instant, never> {
  const stepMs = seconds * 1000
  const anchorMs = anchorSeconds * 1000
  let slot = anchorMs + Math.floor((after - anchorMs) / stepMs) * stepMs
  for (;;) yield { at: (slot += stepMs) }
}

// Times are found on the wall clock, which knows no zone, and mapped to instants here.
function cronSlots({ cron, timeZone }: CronRule, after: number, zones: ZoneData): Generator<Instant, never> {
  const times = timesOf(cron)
  return (times.everyHour ? realTimeSlots : wallClockSlots)(times, timeZone, after, zones)
}

/** Every instant whose wall-clock time fits: nothing for a skipped time, two slots for one that comes twice. */
function* realTimeSlots(
  times: CronTimes,
  zone: string,
  after: number,
  zones: ZoneData,
): Generator<Instant, never> {
  for (;;) {
    const offset = zones.offsetAt(zone, after + 1)
    const slot = times.next(after + offset) - offset
    const change = firstChange(zones, zone, after + 1, slot)
    if (change === undefined) yield { at: (after = slot) }
    else after = change - 1
  }
}

/** One slot for each wall-clock time that fits; the times of a gap share the instant after it. */
function* wallClockSlots(
  times: CronTimes,
  zone: string,
  after: number,
  zones: ZoneData,
): Generator<Instant, never> {
  let wall = after + zones.offsetAt(zone, after)
  for (;;) {
    wall = times.next(wall)
    const slot = firstInstant(zones, zone, wall)
    if (slot !== undefined && slot > after) yield { at: (after = slot), wall }
  }
}

/** The first instant at which the zone's clocks show `wall`, or at which they have gone past it. */
function firstInstant(zones: ZoneData, zone: string, wall: number): number | undefined {
  // No offset is as large as a day and no zone changes twice within two, so these lie on either side of a change.
  const before = zones.offsetAt(zone, wall - dayMs)
  const later = zones.offsetAt(zone, wall + dayMs)
  if (zones.offsetAt(zone, wall - before) === before) return wall - before
  if (zones.offsetAt(zone, wall - later) === later) return wall - later
  return later - before > longestGapMs ? undefined : firstChange(zones, zone, wall - dayMs, wall + dayMs)
}
