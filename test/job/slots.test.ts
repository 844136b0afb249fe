// The slot arithmetic against brute force, a second library and the rules for daylight saving; the planning of slots.
import { CronExpression } from 'cron-parser'
import { Cron } from 'croner'
import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { parseRule, type ScheduleRule } from '../../src/job/rule.ts'
import { missedLimit, planSlots } from '../../src/job/plan-slots.ts'
import { nextSlot, slotsAfter } from '../../src/job/slots.ts'

const minuteMs = 60_000
const dayMs = 86_400_000
const cronRule = (cron: string, timeZone = 'UTC') => parseRule({ type: 'cron', cron, timeZone })
const everyRule = (seconds: number, anchorSeconds?: number) =>
  parseRule({ type: 'every', seconds, ...(anchorSeconds === undefined ? {} : { anchorSeconds }) })

function slotsUntil(rule: ScheduleRule, after: Date, until: number): number[] {
  const slots: number[] = []
  for (const { at } of slotsAfter(rule, after)) {
    if (at.getTime() > until) break
    slots.push(at.getTime())
  }
  return slots
}
const first = (count: number, rule: ScheduleRule, after: string) => {
  const slots = slotsAfter(rule, new Date(after))
  return Array.from({ length: count }, () => slots.next().value.at.toISOString().replace(':00.000Z', 'Z'))
}

describe('an interval', () => {
  test('is aligned to the Unix epoch and does not depend on when one asks', () => {
    expect(first(3, everyRule(5400), '1970-01-01T00:00:00Z')).toEqual([
      '1970-01-01T01:30Z',
      '1970-01-01T03:00Z',
      '1970-01-01T04:30Z',
    ])
    expect(first(1, everyRule(5400), '1970-01-01T01:29:59.999Z')).toEqual(['1970-01-01T01:30Z'])
    expect(first(1, everyRule(5400), '1969-12-31T23:59:59.999Z')).toEqual(['1970-01-01T00:00Z'])
  })

  test('is aligned to its anchor, before and after it', () => {
    const rule = everyRule(7 * 86_400, Date.parse('2026-01-05T06:00:00Z') / 1000)
    expect(first(2, rule, '2025-12-30T00:00:00Z')).toEqual(['2026-01-05T06:00Z', '2026-01-12T06:00Z'])
    expect(first(1, rule, '2025-12-20T00:00:00Z')).toEqual(['2025-12-22T06:00Z'])
  })

  test('has its slots at whole multiples of it from the anchor, the first one within one interval', () => {
    const seconds = fc.integer({ min: 60, max: 100_000_000 })
    const anchor = fc.integer({ min: -4_000_000_000, max: 4_000_000_000 })
    const instant = fc.date({ min: new Date(0), max: new Date('2200-01-01'), noInvalidDate: true })
    fc.assert(
      fc.property(seconds, anchor, instant, (step, anchorSeconds, after) => {
        const slot = nextSlot(everyRule(step, anchorSeconds), after).getTime()
        expect(Math.abs((slot / 1000 - anchorSeconds) % step)).toBe(0)
        expect(slot - after.getTime()).toBeGreaterThan(0)
        expect(slot - after.getTime()).toBeLessThanOrEqual(step * 1000)
      }),
    )
  })
})

describe('a cron expression', () => {
  test.each([
    ['* * * * *', '2026-03-01T00:00:00Z', ['2026-03-01T00:01Z', '2026-03-01T00:02Z']],
    ['* * * * *', '2026-03-01T00:00:00.001Z', ['2026-03-01T00:01Z']],
    ['* * * * *', '2026-02-28T23:59:59.999Z', ['2026-03-01T00:00Z']],
    ['0 0 L * *', '2028-02-01T00:00:00Z', ['2028-02-29T00:00Z', '2028-03-31T00:00Z']],
    ['0 0 * * 5L', '2026-01-01T00:00:00Z', ['2026-01-30T00:00Z', '2026-02-27T00:00Z']],
    ['0 0 * * FRI#2', '2026-01-01T00:00:00Z', ['2026-01-09T00:00Z', '2026-02-13T00:00Z']],
    ['0 0 13 * 5', '2026-03-01T00:00:00Z', ['2026-03-06T00:00Z', '2026-03-13T00:00Z', '2026-03-20T00:00Z']],
    ['0 0 ? * 7', '2026-03-01T00:00:00Z', ['2026-03-08T00:00Z']],
    ['0 0 31 * *', '2026-03-31T00:00:00Z', ['2026-05-31T00:00Z', '2026-07-31T00:00Z']],
    ['0 0 29 2 *', '2096-03-01T00:00:00Z', ['2104-02-29T00:00Z']],
    ['0 0 * 2 1#5', '2026-03-01T00:00:00Z', ['2044-02-29T00:00Z', '2072-02-29T00:00Z']],
    ['30 6 * * *', '1969-12-30T12:00:00Z', ['1969-12-31T06:30Z', '1970-01-01T06:30Z']],
  ])('%j after %s is due at %j', (cron, after, expected) => {
    expect(first(expected.length, cronRule(cron), after)).toEqual(expected)
  })

  test('walked twice at the same time gives each walker its own slots', () => {
    const rule = cronRule('0 6 * * *', 'Europe/Berlin')
    const early = slotsAfter(rule, new Date('2026-01-01T00:00:00Z'))
    const late = slotsAfter(rule, new Date('2026-06-01T00:00:00Z'))
    const seen = [early, late, early, late].map((slots) => slots.next().value.at.toISOString())
    expect(seen.map((slot) => slot.slice(0, 10))).toEqual([
      '2026-01-01',
      '2026-06-01',
      '2026-01-02',
      '2026-06-02',
    ])
  })

  test('is not asked about an invalid date', () => {
    expect(() => nextSlot(cronRule('* * * * *'), new Date(Number.NaN))).toThrow(RangeError)
  })
})

describe('when the clock moves', () => {
  test.each([
    [
      'a time in a gap runs at the end of it',
      '30 2 * * *',
      'America/New_York',
      '2026-03-08T05:00:00Z',
      ['2026-03-08T07:00Z', '2026-03-09T06:30Z'],
    ],
    [
      'a time in a gap runs at the end of it',
      '30 2 * * *',
      'Europe/Berlin',
      '2026-03-28T12:00:00Z',
      ['2026-03-29T01:00Z', '2026-03-30T00:30Z'],
    ],
    [
      'a time in a gap is not lost in the last minute before it',
      '30 2 * * *',
      'America/New_York',
      '2026-03-08T06:59:59.999Z',
      ['2026-03-08T07:00Z'],
    ],
    [
      'a time in a gap has passed at its end',
      '30 2 * * *',
      'America/New_York',
      '2026-03-08T07:00:00Z',
      ['2026-03-09T06:30Z'],
    ],
    [
      'a midnight in a gap runs at the end of it',
      '0 0 * * *',
      'America/Sao_Paulo',
      '2018-11-03T12:00:00Z',
      ['2018-11-04T03:00Z', '2018-11-05T02:00Z'],
    ],
    [
      'a midnight in a gap runs at the end of it',
      '0 0 * * *',
      'Asia/Beirut',
      '2024-03-30T12:00:00Z',
      ['2024-03-30T22:00Z', '2024-03-31T21:00Z'],
    ],
    [
      'a midnight in a gap runs at the end of it',
      '0 0 * * *',
      'Africa/Cairo',
      '2024-04-25T12:00:00Z',
      ['2024-04-25T22:00Z', '2024-04-26T21:00Z'],
    ],
    [
      'a midnight in a gap runs at the end of it',
      '0 0 * * *',
      'America/Havana',
      '2026-03-07T12:00:00Z',
      ['2026-03-08T05:00Z', '2026-03-09T04:00Z'],
    ],
    [
      'several times in one gap run once',
      '15,45 2 * * *',
      'America/New_York',
      '2026-03-08T05:00:00Z',
      ['2026-03-08T07:00Z', '2026-03-09T06:15Z'],
    ],
    [
      'a time in a gap and the time at its end run once',
      '30 2-3 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T12:00:00Z',
      ['2025-10-04T15:30Z', '2025-10-04T16:30Z'],
    ],
    [
      'a repeated time runs at the first',
      '30 1 * * *',
      'America/New_York',
      '2026-11-01T04:00:00Z',
      ['2026-11-01T05:30Z', '2026-11-02T06:30Z'],
    ],
    [
      'a repeated time has passed in the second pass',
      '30 1 * * *',
      'America/New_York',
      '2026-11-01T06:10:00Z',
      ['2026-11-02T06:30Z'],
    ],
    [
      'a time repeated by two hours runs at the first',
      '30 2 * * *',
      'Antarctica/Troll',
      '2026-10-24T12:00:00Z',
      ['2026-10-25T00:30Z', '2026-10-26T02:30Z'],
    ],
    [
      'a repeated midnight runs at the first',
      '0 0 * * *',
      'America/Havana',
      '2026-10-31T12:00:00Z',
      ['2026-11-01T04:00Z', '2026-11-02T05:00Z'],
    ],
    [
      'quarters follow real time over half an hour forwards',
      '*/15 * * * *',
      'Australia/Lord_Howe',
      '2025-10-04T15:00:00Z',
      ['2025-10-04T15:15Z', '2025-10-04T15:30Z', '2025-10-04T15:45Z'],
    ],
    [
      'quarters follow real time over half an hour back',
      '*/15 * * * *',
      'Australia/Lord_Howe',
      '2026-04-04T14:30:00Z',
      ['2026-04-04T14:45Z', '2026-04-04T15:00Z', '2026-04-04T15:15Z'],
    ],
    [
      'every full hour leaves out one in a gap',
      '0 * * * *',
      'Australia/Lord_Howe',
      '2025-10-04T14:00:00Z',
      ['2025-10-04T14:30Z', '2025-10-04T16:00Z'],
    ],
    [
      'every hour runs in both passes',
      '45 * * * *',
      'Australia/Lord_Howe',
      '2026-04-04T14:00:00Z',
      ['2026-04-04T14:45Z', '2026-04-04T15:15Z', '2026-04-04T16:15Z'],
    ],
    [
      'half a gap is still a gap',
      '10 2 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T12:00:00Z',
      ['2025-10-04T15:30Z', '2025-10-05T15:10Z'],
    ],
    [
      'the hour of a change does not stop a schedule',
      '0 2 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T12:00:00Z',
      ['2025-10-04T15:30Z', '2025-10-05T15:00Z'],
    ],
    [
      'the hour after a change does not stop a schedule',
      '0 3 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T12:00:00Z',
      ['2025-10-04T16:00Z', '2025-10-05T16:00Z'],
    ],
    [
      'the hour after a change does not stop a schedule',
      '10 3 * * *',
      'Australia/Lord_Howe',
      '2025-10-04T12:00:00Z',
      ['2025-10-04T16:10Z', '2025-10-05T16:10Z'],
    ],
    [
      'every other hour loses none',
      '0 */2 * * *',
      'America/Nuuk',
      '2024-03-30T20:00:00Z',
      ['2024-03-30T22:00Z', '2024-03-31T00:00Z', '2024-03-31T01:00Z', '2024-03-31T03:00Z'],
    ],
    [
      'a day that a zone leaves out has no slots',
      '0 12 * * *',
      'Pacific/Apia',
      '2011-12-29T12:00:00Z',
      ['2011-12-29T22:00Z', '2011-12-30T22:00Z'],
    ],
    [
      'an hour of a rare day runs in both passes',
      '0 * 1 11 *',
      'America/Havana',
      '2026-02-01T00:00:00Z',
      ['2026-11-01T04:00Z', '2026-11-01T05:00Z', '2026-11-01T06:00Z'],
    ],
  ])('%s: %j in %s after %s', (_, cron, zone, after, expected) => {
    expect(first(expected.length, cronRule(cron, zone), after)).toEqual(expected)
  })
})

/** A cron text with the predicate it stands for, made from the same sets and without any parser. */
interface Expression {
  readonly cron: string
  readonly minutes: ReadonlySet<number>
  readonly hours: ReadonlySet<number>
  dayFits(wallMs: number): boolean
}

function expressionOf(
  minutes: number[],
  hours: number[] | undefined,
  days: {
    dayOfMonth?: number[] | undefined
    month?: number[] | undefined
    dayOfWeek?: number[] | undefined
  } = {},
): Expression {
  const { dayOfMonth, month, dayOfWeek } = days
  return {
    cron: [minutes, hours, dayOfMonth, month, dayOfWeek].map((values) => values?.join(',') ?? '*').join(' '),
    minutes: new Set(minutes),
    hours: new Set(hours ?? Array.from({ length: 24 }, (_, hour) => hour)),
    dayFits(wallMs) {
      const date = new Date(wallMs)
      if (month !== undefined && !month.includes(date.getUTCMonth() + 1)) return false
      if (dayOfMonth === undefined && dayOfWeek === undefined) return true
      return (dayOfMonth ?? []).includes(date.getUTCDate()) || (dayOfWeek ?? []).includes(date.getUTCDay())
    },
  }
}

const someOf = (min: number, max: number, maxLength: number) =>
  fc.uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength })
const absentOr = <T>(present: fc.Arbitrary<T>) => fc.option(present, { nil: undefined, freq: 2 })
const anyDays = fc.record({
  dayOfMonth: absentOr(someOf(1, 28, 3)),
  month: absentOr(someOf(1, 12, 4)),
  dayOfWeek: absentOr(someOf(0, 6, 3)),
})
const anyExpression = fc.oneof(
  fc.tuple(someOf(0, 59, 2), someOf(0, 23, 2), anyDays).map((parts) => expressionOf(...parts)),
  fc
    .tuple(someOf(0, 59, 1), someOf(0, 6, 2))
    .map(([minutes, dayOfWeek]) => expressionOf(minutes, undefined, { dayOfWeek })),
)

/**
 * The zone's wall clock at each minute of a span of days, read from Intl once a day (no zone has moved its clocks there
 * and back within one), on days with a change each full hour, and around it each minute.
 */
function wallClock(timeZone: string, from: number, to: number) {
  const format = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
  })
  const wallAt = (instant: number) => {
    const [month, day, year, hour, minute] = format.format(instant).match(/\d+/g)!.map(Number)
    return Date.UTC(year!, month! - 1, day, hour, minute)
  }
  const walls = new Float64Array((to - from) / minuteMs)
  const changes: number[] = []
  const offsetAt = (instant: number) => wallAt(instant) - instant
  let offset = offsetAt(from)
  function fill(begin: number, minutes: number): void {
    const start = from + begin * minuteMs
    const offsetAfter = offsetAt(start + minutes * minuteMs)
    const moves = offsetAfter !== offset
    if (moves && minutes > 60) {
      for (let minute = 0; minute < minutes; minute += 60) fill(begin + minute, 60)
      return
    }
    if (moves) changes.push(start)
    for (let step = 0; step < minutes; step++) {
      const instant = start + step * minuteMs
      walls[begin + step] = moves ? wallAt(instant) : instant + offset
    }
    offset = offsetAfter
  }
  for (let minute = 0; minute < walls.length; minute += 1440) fill(minute, 1440)
  return { walls, changes }
}

/** The slots by looking at every minute: what `semantics.md` says, with nothing of what the product does. */
function bruteForce(expression: Expression, walls: Float64Array, from: number): number[] {
  const { minutes, hours } = expression
  const timeFits = Array.from(
    { length: 1440 },
    (_, time) => minutes.has(time % 60) && hours.has(Math.floor(time / 60)),
  )
  let day = Number.NaN
  let dayFits = false
  const fits = (wall: number) => {
    const wallDay = Math.floor(wall / dayMs)
    if (timeFits[(wall - wallDay * dayMs) / minuteMs] !== true) return false
    if (wallDay !== day) [day, dayFits] = [wallDay, expression.dayFits(wall)]
    return dayFits
  }
  const realTime = hours.size === 24
  const slots: number[] = []
  let latest = walls[0]!
  for (let index = 1; index < walls.length; index++) {
    const wall = walls[index]!
    let due = (realTime || wall > latest) && fits(wall)
    const gap = wall - latest - minuteMs
    if (!realTime && gap > 0 && gap <= 180 * minuteMs) {
      for (let skipped = latest + minuteMs; skipped < wall; skipped += minuteMs) due ||= fits(skipped)
    }
    latest = Math.max(latest, wall)
    if (due) slots.push(from + index * minuteMs)
  }
  return slots
}

const oddZones = [
  'America/New_York',
  'Europe/Berlin',
  'Australia/Lord_Howe',
  'Antarctica/Troll',
  'America/Havana',
  'America/Sao_Paulo',
  'Africa/Cairo',
  'Asia/Beirut',
  'America/Nuuk',
  'Africa/Casablanca',
  'Pacific/Apia',
  'Asia/Kathmandu',
]
const nastyExpressions = [
  expressionOf([30], [2]),
  expressionOf([0, 30], [0, 1, 2, 3]),
  expressionOf([0], [0, 2, 4, 23]),
  // The days of the week on which most clocks are moved.
  expressionOf([15], undefined, { dayOfWeek: [0, 6] }),
]
const years = fc.integer({ min: 1990, max: 2041 })
const effort = Number(process.env['TEST_EFFORT'] ?? 1)

/** Where the product and brute force differ over four years of a zone, one of them a leap year, iterated and asked anew at some instants. */
function differences(
  zone: string,
  year: number,
  tried: readonly Expression[],
  fractions: readonly number[],
): string[] {
  const from = Date.UTC(year, 0, 10)
  const to = from + 1461 * dayMs
  const { walls, changes } = wallClock(zone, from, to)
  return tried.flatMap((expression) => {
    const rule = cronRule(expression.cron, zone)
    const expected = bruteForce(expression, walls, from)
    const iterated = slotsUntil(rule, new Date(from), to - minuteMs)
    const nearChanges = changes.flatMap((change) =>
      fractions.map((part) => change + Math.floor((part - 0.5) * dayMs)),
    )
    const anywhere = fractions.map((part) => from + Math.floor(part * (to - from)))
    return [
      ...[...expected.keys(), expected.length]
        .filter((index) => expected[index] !== iterated[index])
        .map(
          (index) =>
            `slot ${index} of ${expression.cron}: ${show(iterated[index])}, not ${show(expected[index])}`,
        ),
      ...[...nearChanges, ...anywhere].flatMap((after) => {
        const due = firstAfter(expected, after)
        const next = nextSlot(rule, new Date(after)).getTime()
        return due === undefined || due === next
          ? []
          : [`${expression.cron} after ${show(after)}: ${show(next)}, not ${show(due)}`]
      }),
    ].slice(0, 5)
  })
}

const show = (instant: number | undefined) =>
  instant === undefined ? 'none' : new Date(instant).toISOString()

function firstAfter(sorted: readonly number[], instant: number): number | undefined {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (sorted[middle]! > instant) high = middle
    else low = middle + 1
  }
  return sorted[low]
}

const picks = fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), {
  minLength: 10,
  maxLength: 10,
})

describe('four years of wall clocks, minute by minute:', { timeout: 20_000 * Math.max(1, effort) }, () => {
  test.each(oddZones)('the slots in %s are those of brute force, however one asks', (zone) => {
    fc.assert(
      fc.property(
        years,
        anyExpression,
        fc.constantFrom(...nastyExpressions),
        picks,
        (year, any, nasty, at) => {
          expect(differences(zone, year, [any, nasty], at)).toEqual([])
        },
      ),
      { numRuns: Math.ceil(effort) },
    )
  })

  test('the slots in any zone are those of brute force, however one asks', () => {
    const zone = fc.constantFrom(...Intl.supportedValuesOf('timeZone'))
    fc.assert(
      fc.property(
        zone,
        years,
        anyExpression,
        fc.constantFrom(...nastyExpressions),
        picks,
        (name, year, any, nasty, at) => {
          expect(differences(name, year, [any, nasty], at)).toEqual([])
        },
      ),
      { numRuns: Math.ceil(2 * effort) },
    )
  })

  test('croner agrees where the clock never moves', () => {
    const zone = fc.constantFrom('UTC', 'Asia/Tokyo', 'Asia/Kathmandu', 'America/Phoenix')
    const instant = fc.date({ min: new Date('2000-01-01'), max: new Date('2040-01-01'), noInvalidDate: true })
    fc.assert(
      fc.property(anyExpression, zone, instant, ({ cron }, timezone, after) => {
        const slots = slotsAfter(cronRule(cron, timezone), after)
        const ours = Array.from({ length: 10 }, () => slots.next().value.at)
        expect(new Cron(cron, { timezone }).nextRuns(10, after)).toEqual(ours)
      }),
    )
  })
})

const at = (text: string) => new Date(`2026-03-01T${text}Z`)
const times = (slots: readonly Date[]) => slots.map((slot) => slot.toISOString().slice(11, 16))
const minutely = cronRule('* * * * *')
const hourly = cronRule('0 * * * *')
const plan = (rule: ScheduleRule, madeUntil: Date, now: Date, missed: 'once' | 'skip' | 'all' = 'once') =>
  planSlots({ rule, missed, madeUntil, isLate: false, now })

describe('planning', () => {
  test('makes every slot of the next 120 seconds', () => {
    const { slots, madeUntil, planAt } = plan(minutely, at('12:00:30'), at('12:00:30'))
    expect(times(slots)).toEqual(['12:01', '12:02'])
    expect(madeUntil).toEqual(at('12:02:00'))
    expect(planAt).toEqual(at('12:01:00'))
  })

  test('makes at least the next slot, and plans again when that is due', () => {
    expect(plan(hourly, at('12:00:30'), at('12:00:30'))).toEqual({
      slots: [at('13:00:00')],
      missedSlots: 0,
      droppedSlots: 0,
      waitingKept: undefined,
      isReplaced: false,
      ahead: expect.anything(),
      madeUntil: at('13:00:00'),
      planAt: at('13:00:00'),
    })
  })

  test('goes further ahead when told to', () => {
    const options = {
      rule: hourly,
      missed: 'once',
      madeUntil: at('12:00:00'),
      isLate: false,
      now: at('12:00:00'),
    } as const
    expect(planSlots({ ...options, aheadSeconds: 7200 })).toMatchObject({
      slots: [at('13:00:00'), at('14:00:00')],
      planAt: at('13:00:00'),
    })
    expect(planSlots({ ...options, aheadSeconds: 0 })).toMatchObject({
      slots: [at('13:00:00')],
      planAt: at('13:00:00'),
    })
  })

  test.each([
    ['once', ['15:00', '16:00'], 2],
    ['skip', ['16:00'], 3],
    ['all', ['13:00', '14:00', '15:00', '16:00'], 0],
  ] as const)('under %s three missed slots and the next make %j', (missed, expected, droppedSlots) => {
    const result = plan(hourly, at('12:00:00'), at('15:20:00'), missed)
    expect(times(result.slots)).toEqual(expected)
    expect(result).toMatchObject({ missedSlots: 3, droppedSlots, madeUntil: at('16:00:00') })
  })

  test.each([
    ['once', '12:10', 0, 1],
    ['skip', '12:10', 0, 0],
    ['all', '12:10', 0, 100],
    ['once', '14:10', 2, 0],
    ['skip', '14:10', 2, 0],
    ['all', '14:10', 2, 98],
  ] as const)(
    'under %s at %s, in an outage, %i further slots were missed and %i tasks made ahead stay',
    (missed, time, missedSlots, waitingKept) => {
      const options = { rule: hourly, missed, madeUntil: at('12:00:00'), now: at(`${time}:00`) }
      expect(planSlots({ ...options, isLate: true })).toMatchObject({ missedSlots, waitingKept })
      const punctual = planSlots({ ...options, isLate: false })
      expect(punctual.waitingKept).toBe(missed === 'once' && missedSlots > 0 ? 0 : undefined)
    },
  )

  test('a slot that is due this instant counts as missed, one that was made does not', () => {
    expect(plan(hourly, at('12:30:00'), at('13:00:00'), 'all')).toMatchObject({ missedSlots: 1 })
    expect(plan(hourly, at('13:00:00'), at('13:00:00'), 'all')).toMatchObject({ missedSlots: 0 })
  })

  test('a cursor ahead of the horizon makes nothing and stays', () => {
    expect(plan(hourly, at('15:00:00'), at('12:20:00'))).toEqual({
      slots: [],
      missedSlots: 0,
      droppedSlots: 0,
      waitingKept: undefined,
      isReplaced: false,
      ahead: expect.anything(),
      madeUntil: at('15:00:00'),
      planAt: at('15:00:00'),
    })
  })

  test.each([60, 99, 100, 101, 102, 5000])('of %i missed slots "all" makes the latest hundred', (count) => {
    const now = at('12:00:30')
    const { slots, missedSlots, droppedSlots } = plan(
      minutely,
      new Date(now.getTime() - count * minuteMs),
      now,
      'all',
    )
    const made = Math.min(count, missedLimit)
    expect(slots.filter((slot) => slot <= now)).toEqual(
      Array.from(
        { length: made },
        (_, index) => new Date(at('12:00:00').getTime() - (made - 1 - index) * minuteMs),
      ),
    )
    expect(missedSlots).toBe(Math.min(count, missedLimit + 1))
    expect(droppedSlots).toBe(missedSlots - made)
  })

  test.each([
    ['* * * * *', 'UTC'],
    ['* * * * *', 'Africa/Casablanca'],
    ['* * * 1-6 *', 'America/New_York'],
    ['*/5 9-17 * * 1-5', 'Europe/Berlin'],
  ])('after ten years of outage %j in %s computes a few thousand slots, not millions', (cron, zone) => {
    const next = vi.spyOn(CronExpression.prototype, 'next')
    const result = plan(
      cronRule(cron, zone),
      new Date('2016-01-01T00:00:00Z'),
      new Date('2026-03-01T12:00:30Z'),
      'all',
    )
    expect(next.mock.calls.length).toBeGreaterThan(missedLimit)
    expect(next.mock.calls.length).toBeLessThan(10_000)
    next.mockRestore()
    expect(result).toMatchObject({ missedSlots: missedLimit + 1, droppedSlots: 1 })
  })

  const anyRule = fc.oneof(
    fc.integer({ min: 60, max: 200_000 }).map((seconds) => everyRule(seconds)),
    fc
      .tuple(
        fc.constantFrom('* * * * *', '*/7 * * * *', '0 6 * * *', '30 1-2 * * *'),
        fc.constantFrom(...oddZones),
      )
      .map(([cron, zone]) => cronRule(cron, zone)),
  )
  const anyInstant = fc.date({
    min: new Date('2025-01-01'),
    max: new Date('2028-01-01'),
    noInvalidDate: true,
  })
  const anyPlan = fc.record({
    rule: anyRule,
    missed: fc.constantFrom('once', 'skip', 'all'),
    now: anyInstant,
    aheadSeconds: fc.integer({ min: 0, max: 600 }),
  })

  test('twice at the same instant makes nothing new, nor before planAt; at planAt it makes something', () => {
    fc.assert(
      fc.property(
        anyPlan,
        fc.integer({ min: 0, max: 40 * dayMs }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (input, age, part) => {
          const { now } = input
          const made = planSlots({ ...input, isLate: false, madeUntil: new Date(now.getTime() - age) })
          expect(made.planAt.getTime()).toBeGreaterThan(now.getTime())
          const again = (instant: number) =>
            planSlots({
              ...input,
              madeUntil: made.madeUntil,
              isLate: false,
              now: new Date(instant),
            })
          expect(again(now.getTime())).toEqual({
            ...made,
            slots: [],
            missedSlots: 0,
            droppedSlots: 0,
            waitingKept: undefined,
            ahead: expect.anything(),
          })
          const waiting = made.planAt.getTime() - 1 - now.getTime()
          expect(again(now.getTime() + Math.floor(waiting * part)).slots).toEqual([])
          expect(again(made.planAt.getTime()).slots).not.toEqual([])
        },
      ),
      { numRuns: 100 },
    )
  })

  test('at any later instants in turn makes each slot once and in order, and under "all" none is left out', () => {
    const pauses = fc.array(fc.integer({ min: 0, max: 2 * 3_600_000 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(anyPlan, pauses, (input, waits) => {
        const start = input.now
        let cursor = start
        let now = start.getTime()
        const made: Date[] = []
        let dropped = 0
        for (const wait of waits) {
          now += wait
          const step = planSlots({
            ...input,
            missed: 'all',
            madeUntil: cursor,
            isLate: false,
            now: new Date(now),
          })
          made.push(...step.slots)
          dropped += step.droppedSlots
          cursor = step.madeUntil
        }
        fc.pre(dropped === 0)
        expect(made.map((slot) => slot.getTime())).toEqual(slotsUntil(input.rule, start, cursor.getTime()))
      }),
      { numRuns: 100 },
    )
  })
})
