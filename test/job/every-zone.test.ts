// Slots in every time zone there is, around each change of its clocks in the last and the next five years.
import { createIzta, defineJob, defineSchedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { Cron } from 'croner'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { parseRule } from '../../src/job/rule.ts'
import { slotsAfter } from '../../src/job/slots.ts'
import { testDatabase } from '../support/database.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs
const thisYear = new Date().getUTCFullYear()
const [from, to] = [Date.UTC(thisYear - 5, 0, 1), Date.UTC(thisYear + 5, 11, 31)]
/** A longer gap is a day that the zone has left out, and makes no slot. */
const longestGapMs = 3 * hourMs

/** Etc/GMT+12 to Etc/GMT-14: Intl takes them, but does not list them. */
const fixed = Array.from({ length: 27 }, (_, n) => 12 - n).flatMap((hours) =>
  hours === 0 ? [] : [`Etc/GMT${hours > 0 ? '+' : ''}${hours}`],
)
const zones = new Set(['UTC', ...Intl.supportedValuesOf('timeZone'), ...fixed])
const formats = new Map<string, Intl.DateTimeFormat>()

/** What the zone's clocks show at an instant, as if that were UTC. */
function wallAt(zone: string, instant: number): number {
  let format = formats.get(zone)
  if (format === undefined) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: '2-digit',
      day: '2-digit',
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit',
    })
    formats.set(zone, format)
  }
  const [month, day, year, hour, minute, second] = format.format(instant).match(/\d+/g)!.map(Number)
  return Date.UTC(year!, month! - 1, day, hour, minute, second)
}

/** The zone that a name means, if Intl knows it. */
function zoneOf(name: string): string | undefined {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone
  } catch {
    return undefined
  }
}

const offsetAt = (zone: string, instant: number) => wallAt(zone, instant) - instant

/** A change of a zone's clocks, forwards or back. */
interface Change {
  readonly zone: string
  readonly at: number
  readonly before: number
  readonly after: number
}

/** By steps of days that no two changes share (Morocco leaves its summer time for a month), then by bisection. */
function changesOf(zone: string, start = from, end = to): Change[] {
  const changes: Change[] = []
  let low = start
  let before = offsetAt(zone, low)
  for (let next = low + 7 * dayMs; next <= end; next += 7 * dayMs) {
    const after = offsetAt(zone, next)
    if (after !== before) {
      let [same, other] = [low, next]
      while (other - same > 1000) {
        const middle = Math.floor((same + other) / 2000) * 1000
        if (offsetAt(zone, middle) === before) same = middle
        else other = middle
      }
      changes.push({ zone, at: other, before, after })
    }
    ;[low, before] = [next, after]
  }
  return changes
}

const changes = [...zones].flatMap((zone) => changesOf(zone))

interface Times {
  /** Sorted minutes of the hour and hours; all 24 hours mean real time. */
  readonly minutes: readonly number[]
  readonly hours: readonly number[]
}
const everyHour = Array.from({ length: 24 }, (_, hour) => hour)
const cronOf = ({ minutes, hours }: Times) =>
  `${minutes.join(',')} ${hours.length === 24 ? '*' : hours.join(',')} * * *`

/** The rule of the docs, minute by minute, around one change; nothing of what the product does. */
function expectedSlots({ at, before, after }: Change, times: Times, start: number, end: number): number[] {
  const realTime = times.hours.length === 24
  const fits = (wall: number) => {
    const minute = Math.floor(wall / minuteMs) % 1440
    return times.minutes.includes(minute % 60) && times.hours.includes(Math.floor(minute / 60))
  }
  const gap = after - before
  const slots: number[] = []
  for (let instant = start; instant < end; instant += minuteMs) {
    const wall = instant + (instant < at ? before : after)
    let due = fits(wall)
    if (!realTime && instant >= at && wall < at + before) due = false
    if (!realTime && instant === at && gap > 0 && gap <= longestGapMs) {
      for (let skipped = at + before; skipped < wall; skipped += minuteMs) due ||= fits(skipped)
    }
    if (due) slots.push(instant)
  }
  return slots
}

function productSlots(cron: string, zone: string, start: number, end: number): number[] {
  const slots: number[] = []
  const rule = parseRule({ type: 'cron', cron, timeZone: zone })
  for (const { at: slot } of slotsAfter(rule, new Date(start - 1))) {
    if (slot.getTime() >= end) return slots
    slots.push(slot.getTime())
  }
  return slots
}

/** Times of day in and about the hours that a change leaves out or repeats. */
function timesAt(change: Change): Times[] {
  const { at, before, after } = change
  const minuteOf = (wall: number) => Math.floor(wall / minuteMs) % 60
  const hourOf = (wall: number) => Math.floor(wall / hourMs) % 24
  const first = at + Math.min(before, after)
  const last = at + Math.max(before, after)
  const middle = Math.floor((first + last) / 2 / minuteMs) * minuteMs
  const sorted = (values: number[]) => [...new Set(values)].toSorted((a, b) => a - b)
  const once = (...walls: number[]) => ({
    minutes: sorted(walls.map(minuteOf)),
    hours: sorted(walls.map(hourOf)),
  })
  return [
    once(middle),
    once(first, middle),
    once(middle, last),
    once(first - minuteMs, last + minuteMs),
    { minutes: [0], hours: [0] },
    { minutes: [0], hours: [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22] },
  ]
}

const show = ({ zone, at }: Change, { minutes, hours }: Times) =>
  `${cronOf({ minutes, hours })} in ${zone} about ${new Date(at).toISOString()}`

/** Compares the half days on both sides of the change, and what is near them. */
function expectRule(change: Change, times: Times): void {
  const hours = times.hours.length === 24 ? 4 : 13
  const [start, end] = [change.at - hours * hourMs, change.at + hours * hourMs]
  const ours = productSlots(cronOf(times), change.zone, start, end)
  const expected = expectedSlots(change, times, start, end)
  if (String(ours) !== String(expected)) {
    const text = (slots: number[]) => slots.map((slot) => new Date(slot).toISOString())
    expect(text(ours), show(change, times)).toEqual(text(expected))
  }
}

describe('every zone, ten years', { timeout: 60_000 }, () => {
  test('there are hundreds of zones and thousands of changes', () => {
    expect(zones.size).toBeGreaterThan(400)
    expect(changes.length).toBeGreaterThan(2000)
    const shifts = new Set(changes.map(({ before, after }) => Math.abs(after - before) / minuteMs))
    // Lord Howe moves its clocks by half an hour.
    expect(shifts).toContain(30)
  })

  test('at each change a time that is skipped or comes twice makes one slot', () => {
    // Zones that change alike share the expressions among them: together they see all.
    for (const [index, change] of changes.entries()) {
      const tried = timesAt(change)
      expectRule(change, tried[index % tried.length]!)
    }
  })

  test('at the changes of each kind every time about them keeps the rule', () => {
    const kinds = new Map(
      changes.map((change) => [`${change.at % dayMs} ${change.before} ${change.after}`, change]),
    )
    for (const change of kinds.values()) {
      for (const times of timesAt(change)) expectRule(change, times)
    }
  })

  test('at the changes of each kind an expression of every hour follows real time', () => {
    const kinds = new Map(
      changes.map((change) => [`${change.at % dayMs} ${change.before} ${change.after}`, change]),
    )
    for (const change of kinds.values()) {
      expectRule(change, { minutes: [0, 15, 30, 45], hours: everyHour })
      expectRule(change, { minutes: [59], hours: everyHour })
    }
  })

  test('any times of day at any change keep the rule, wherever one begins', () => {
    const some = (max: number, maxLength: number) =>
      fc
        .uniqueArray(fc.integer({ min: 0, max }), { minLength: 1, maxLength })
        .map((values) => values.toSorted((a, b) => a - b))
    const times = fc.record({
      minutes: some(59, 3),
      hours: fc.oneof(some(23, 5), some(4, 3), fc.constant(everyHour)),
    })
    const around = fc.integer({ min: -26 * 60, max: 26 * 60 })
    fc.assert(
      fc.property(fc.constantFrom(...changes), times, around, (change, any, minutes) => {
        const start = change.at + minutes * minuteMs
        const ours = productSlots(cronOf(any), change.zone, start, change.at + 27 * hourMs)
        // What has passed does not decide what comes: not the instant that one begins at.
        const all = expectedSlots(change, any, change.at - 27 * hourMs, change.at + 27 * hourMs)
        expect(ours).toEqual(all.filter((slot) => slot >= start))
      }),
      { numRuns: 300 },
    )
  })

  test('slots of each zone strictly increase through the years, one on each day that is named', () => {
    for (const zone of zones) {
      const rule = parseRule({ type: 'cron', cron: '30 1 1 7 *', timeZone: zone })
      let previous = from - 1
      const seen = new Set<string>()
      for (const { at: slot } of slotsAfter(rule, new Date(from))) {
        const instant = slot.getTime()
        if (instant > to) break
        if (instant <= previous)
          throw new Error(`${zone}: ${slot.toISOString()} is not later than the slot before`)
        previous = instant
        seen.add(new Date(wallAt(zone, instant)).toISOString().slice(0, 10))
      }
      const days = 11
      if (seen.size !== days) throw new Error(`${zone} has ${seen.size} days with slots, not ${days}`)
    }
  })

  test('croner, which is independent, agrees in every zone away from changes', () => {
    for (const [index, zone] of [...zones].entries()) {
      const own = changes.filter((change) => change.zone === zone).map(({ at }) => at)
      const bounds = [from, ...own, to]
      const widest = bounds.slice(1).map((bound, n) => ({ start: bounds[n]!, length: bound - bounds[n]! }))
      const { start, length } = widest.toSorted((a, b) => b.length - a.length)[0]!
      const crons = [
        '*/20 9-17 * * 1-5',
        '5 4 * * *',
        '0 0 1,15 * *',
        '30 6 * * 0',
        '0 */6 * * *',
        '59 23 L * *',
      ]
      const cron = crons[index % crons.length]!
      const after = new Date(start + 2 * dayMs + (index % 24) * hourMs)
      const theirs = new Cron(cron, { timezone: zone })
        .nextRuns(4, after)
        .filter((slot) => slot.getTime() < start + length - dayMs)
      const ours = slotsAfter(parseRule({ type: 'cron', cron, timeZone: zone }), after)
        .take(theirs.length)
        .map(({ at }) => at)
        .toArray()
      if (String(ours.map(Number)) !== String(theirs.map(Number))) {
        expect(ours, `${cron} in ${zone} after ${after.toISOString()}`).toEqual(theirs)
      }
    }
  })
})

describe('changes of older years', () => {
  test.for([
    ['a day that is left out', 'Pacific/Apia', '2011-12-20', '2012-01-10'],
    ['a day that is left out', 'Pacific/Kiritimati', '1994-12-20', '1995-01-20'],
    ['a midnight that is skipped or comes twice', 'America/Sao_Paulo', '2017-01-01', '2019-01-01'],
    ['a midnight that is skipped or comes twice', 'Asia/Tehran', '2019-01-01', '2022-12-31'],
    ['two hours', 'Antarctica/Troll', '2015-01-01', '2017-01-01'],
    ['half an hour for good', 'Asia/Pyongyang', '2015-01-01', '2019-01-01'],
    ['half an hour twice a year', 'Australia/Lord_Howe', '1995-01-01', '2001-01-01'],
    ['a quarter more', 'Asia/Kathmandu', '1985-06-01', '1986-06-01'],
    ['Ramadan', 'Africa/Casablanca', '2012-01-01', '2016-01-01'],
  ] as const)('%s (%s) keep the rule', ([, zone, start, end]) => {
    const found = changesOf(zone, Date.parse(start), Date.parse(end))
    expect(found).not.toEqual([])
    for (const change of found) {
      for (const times of timesAt(change)) expectRule(change, times)
      expectRule(change, { minutes: [0, 30], hours: everyHour })
    }
  })
})

const { database, pool } = await testDatabase()

test('every name of the IANA database is one of these zones, or another name of one, with its slots', async () => {
  const { rows } = await pool.query<{ name: string }>(
    `select name from pg_timezone_names where name !~ '^(posix|right)/'`,
  )
  const refused: string[] = []
  for (const { name } of rows) {
    const zone = zoneOf(name)
    if (zone === undefined) {
      refused.push(name)
      continue
    }
    expect(zones, name).toContain(zone)
    if (name === zone) continue
    const [first, last] = changes.filter((change) => change.zone === zone)
    for (const at of [first?.at ?? from, last?.at ?? to]) {
      const slots = (of: string) => productSlots('*/30 0-5 * * *', of, at - 12 * hourMs, at + 12 * hourMs)
      expect(slots(name), name).toEqual(slots(zone))
    }
  }
  // `Factory`, files of the system, and what the server's copy has and Node's does not yet.
  expect(refused.length).toBeLessThan(10)
  expect(rows.length).toBeGreaterThan(500)
})

describe('what the scheduler makes', async () => {
  const sampled = [
    'UTC',
    'America/New_York',
    'Europe/Berlin',
    'Australia/Lord_Howe',
    'Antarctica/Troll',
    'America/Havana',
    'Africa/Casablanca',
    'Africa/Cairo',
    'Asia/Beirut',
    'America/Scoresbysund',
  ]
  const start = Date.UTC(thisYear + 1, 0, 1)
  const near = sampled
    .flatMap((zone) =>
      changesOf(zone, start, start + 366 * dayMs).concat(zone === 'UTC' ? utcDay(start) : []),
    )
    .toSorted((a, b) => a.at - b.at)
  const clock = await createTestClock({ database, at: new Date(start) })
  const job = defineJob({ id: 'job', run: () => {} })
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const izta = createIzta({ database, jobs: [job], clock, log })

  test('is what the preview has shown, at every change of a year in zones of every kind', async () => {
    for (const [index, change] of near.entries()) {
      const begin = Math.max(clock.date.getTime(), change.at - 3 * hourMs)
      await clock.advanceTo(new Date(begin))
      const name = `schedule-${index}`
      const times = timesAt(change)
      const cron = index % 2 === 0 ? '*/30 * * * *' : cronOf(times[index % times.length]!)
      await izta.schedules.put(defineSchedule({ name, job, cron, timeZone: change.zone, missed: 'all' }))
      const preview = await izta.schedules.preview(name, 20)
      const end = change.at + 3 * hourMs
      while (clock.date.getTime() < end) {
        await drain(izta, { schedules: true })
        await clock.advance({ minutes: 40 })
      }
      await drain(izta, { schedules: true })
      const { rows } = await pool.query<{ slot: Date }>(
        'select slot from izta.history where schedule = $1 order by slot',
        [name],
      )
      const until = clock.date
      expect(
        rows.map(({ slot }) => slot),
        `${cron} in ${change.zone}`,
      ).toEqual(preview.filter((slot) => slot <= until))
      await izta.schedules.remove(name)
    }
  })
})

/** A zone without changes is looked at on any day. */
function utcDay(start: number): Change[] {
  return [{ zone: 'UTC', at: start + 40 * dayMs, before: 0, after: 0 }]
}
