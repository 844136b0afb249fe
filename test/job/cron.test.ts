// One reading of cron: whatever is accepted has slots, those of brute force and of a second library, in one spelling.
import { CronExpression } from 'cron-parser'
import { Cron } from 'croner'
import * as fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import { DefinitionError } from '../../src/errors.ts'
import { defineJob } from '../../src/job/job.ts'
import { parseRule } from '../../src/job/rule.ts'
import { defineSchedule } from '../../src/job/schedule.ts'
import { nextSlot, slotsAfter } from '../../src/job/slots.ts'

const dayMs = 86_400_000
const job = defineJob({ id: 'job' })
const ruleOf = (cron: string) => defineSchedule({ name: 'schedule', job, cron }).rule
const storedText = (cron: string) => {
  const rule = ruleOf(cron)
  return rule.type === 'cron' ? rule.cron : ''
}

/** A part of a field between commas: its text, and what it means, made together and without any parser. */
interface Item {
  readonly text: string
  /** What it stands for; a field that names one twice is refused. */
  readonly means: readonly string[]
}

const padded = (value: number) => fc.constantFrom(String(value), String(value).padStart(2, '0'))

/** Values, ranges and steps of a field of the numbers from `min` to `max`, which some also call by names. */
function plainItem(
  min: number,
  max: number,
  names: readonly string[] = [],
  wraps = false,
): fc.Arbitrary<Item> {
  const value = fc.integer({ min, max })
  const written = (number: number) =>
    fc
      .tuple(padded(number), fc.constantFrom(names[number - min] ?? ''), fc.boolean(), fc.boolean())
      .map(([digits, name, byName, lower]) =>
        byName && name !== '' ? (lower ? name.toLowerCase() : name) : digits,
      )
  const item = (low: number, high: number, step: number, text: fc.Arbitrary<string>) =>
    text.map((word) => {
      const values = Array.from({ length: Math.floor((high - low) / step) + 1 }, (_, n) => low + n * step)
      return { text: word, means: [...new Set(values.map((number) => String(wraps ? number % 7 : number)))] }
    })
  const range = fc
    .uniqueArray(value, { minLength: 2, maxLength: 2 })
    .map((ends) => ends.toSorted((a, b) => a - b))
  const top = wraps ? max - 1 : max
  return fc.oneof(
    { weight: 4, arbitrary: value.chain((number) => item(number, number, 1, written(number))) },
    range.chain(([low = 0, high = 0]) =>
      item(
        low,
        high,
        1,
        fc.tuple(written(low), written(high)).map((ends) => ends.join('-')),
      ),
    ),
    range.chain(([low = 0, high = 0]) =>
      fc.integer({ min: 1, max: high - low }).chain((step) =>
        item(
          low,
          high,
          step,
          fc.tuple(written(low), written(high)).map(([a, b]) => `${a}-${b}/${step}`),
        ),
      ),
    ),
    fc.integer({ min, max: max - 1 }).chain((low) =>
      fc.integer({ min: 1, max: max - low }).chain((step) =>
        item(
          low,
          max,
          step,
          written(low).map((word) => `${word}/${step}`),
        ),
      ),
    ),
    fc.integer({ min: 1, max: top - min }).chain((step) => item(min, top, step, fc.constant(`*/${step}`))),
  )
}

const months = ['JAN', 'FEB', 'MAR', 'APR', 'MAY', 'JUN', 'JUL', 'AUG', 'SEP', 'OCT', 'NOV', 'DEC']
const weekdays = ['SUN', 'MON', 'TUE', 'WED', 'THU', 'FRI', 'SAT']
const weekday = fc
  .integer({ min: 0, max: 7 })
  .chain((day) =>
    fc
      .constantFrom(String(day), `0${day}`, day === 7 ? 'SUN' : weekdays[day]!)
      .map((word) => ({ word, day: day % 7 })),
  )
const lastWeekdayItem = fc
  .tuple(weekday, fc.constantFrom('L', 'l'))
  .map(([{ word, day }, mark]) => ({ text: `${word}${mark}`, means: [`last ${day}`] }))
const nthWeekdayItem = fc
  .tuple(weekday, fc.integer({ min: 1, max: 5 }))
  .map(([{ word, day }, nth]) => ({ text: `${word}#${nth}`, means: [`nth ${nth} ${day}`] }))

/** Undefined: `*` or `?`. */
const field = (item: fc.Arbitrary<Item>, unset: fc.Arbitrary<string> = fc.constant('*')) =>
  fc.oneof(
    unset.map((text) => ({ text, means: undefined })),
    fc.array(item, { minLength: 1, maxLength: 3 }).map((items) => ({
      text: items.map(({ text }) => text).join(','),
      means: items.flatMap(({ means }) => means),
    })),
  )
const unsetDay = fc.constantFrom('*', '?')
const fields = fc.record({
  minute: field(plainItem(0, 59)),
  hour: field(plainItem(0, 23)),
  day: field(
    fc.oneof(
      plainItem(1, 31),
      fc.constantFrom('L', 'l').map((text) => ({ text, means: ['last'] })),
    ),
    unsetDay,
  ),
  month: field(plainItem(1, 12, months)),
  weekday: field(fc.oneof(plainItem(0, 7, weekdays, true), lastWeekdayItem, nthWeekdayItem), unsetDay),
})
type Fields = typeof fields extends fc.Arbitrary<infer T> ? T : never

const cronOf = ({ minute, hour, day, month, weekday: last }: Fields) =>
  [minute, hour, day, month, last].map(({ text }) => text).join(' ')

function dayFits({ day, month, weekday: week }: Fields, instant: number): boolean {
  const date = new Date(instant)
  const [dayOfMonth, dayOfWeek] = [date.getUTCDate(), date.getUTCDay()]
  const monthAfterDays = (days: number) => new Date(instant + days * dayMs).getUTCMonth()
  if (month.means !== undefined && !month.means.includes(String(date.getUTCMonth() + 1))) return false
  if (day.means === undefined && week.means === undefined) return true
  if (day.means?.includes(String(dayOfMonth))) return true
  if (day.means?.includes('last') && monthAfterDays(1) !== date.getUTCMonth()) return true
  if (week.means?.includes(String(dayOfWeek))) return true
  if (week.means?.includes(`last ${dayOfWeek}`) && monthAfterDays(7) !== date.getUTCMonth()) return true
  return week.means?.includes(`nth ${Math.floor((dayOfMonth - 1) / 7) + 1} ${dayOfWeek}`) ?? false
}

/** The first fitting minute later than `after`, by looking at each day of fifty years and each minute of a day. */
function firstFitting(given: Fields, after: number): number | undefined {
  const fits = (means: readonly string[] | undefined, value: number) => means?.includes(String(value)) ?? true
  const today = Math.floor(after / dayMs) * dayMs
  for (let day = today; day < today + 50 * 366 * dayMs; day += dayMs) {
    if (!dayFits(given, day)) continue
    for (let minute = 0; minute < 1440; minute++) {
      const instant = day + minute * 60_000
      if (instant <= after || !fits(given.minute.means, minute % 60)) continue
      if (fits(given.hour.means, Math.floor(minute / 60))) return instant
    }
  }
  return undefined
}

const repeats = (given: Fields) =>
  Object.values(given).some(({ means }) => means !== undefined && new Set(means).size < means.length)
const instants = fc.date({ min: new Date('1999-01-01'), max: new Date('2101-01-01'), noInvalidDate: true })
const effort = Number(process.env['TEST_EFFORT'] ?? 1)

function definitionErrorOf(cron: string): string | undefined {
  try {
    ruleOf(cron)
    return undefined
  } catch (error) {
    if (error instanceof DefinitionError) return error.message
    throw error
  }
}

describe('an expression of the grammar', () => {
  test('is refused with its text and a reason if it names a value twice or never fires, else its slots are those of brute force', () => {
    let refused = 0
    fc.assert(
      fc.property(fields, instants, (given, after) => {
        const cron = cronOf(given)
        const message = definitionErrorOf(cron)
        const due = firstFitting(given, after.getTime())
        if (repeats(given) || due === undefined) {
          refused++
          expect(message).toContain(`Schedule "schedule", cron ${JSON.stringify(cron)}`)
          expect(message).toMatch(repeats(given) ? / names the same .* more than once\.$/ : /: never fires: /)
        } else {
          expect(message).toBeUndefined()
          expect(nextSlot(ruleOf(cron), after)).toEqual(new Date(due))
        }
      }),
      { numRuns: Math.ceil(1500 * effort) },
    )
    expect(refused).toBeGreaterThan(0)
  })

  test('is stored in one spelling, which means the same and is its own', () => {
    fc.assert(
      fc.property(fields, instants, (given, after) => {
        const cron = cronOf(given)
        fc.pre(definitionErrorOf(cron) === undefined)
        const stored = storedText(cron)
        expect(stored).toMatch(/^[\d*,#L-]+( [\d*,#L-]+){4}$/)
        expect(storedText(stored)).toBe(stored)
        expect(nextSlot(parseRule({ type: 'cron', cron: stored, timeZone: 'UTC' }), after)).toEqual(
          nextSlot(ruleOf(cron), after),
        )
      }),
      { numRuns: Math.ceil(500 * effort) },
    )
  })

  test('has the slots that croner gives it', () => {
    fc.assert(
      fc.property(fields, instants, (given, after) => {
        const cron = cronOf(given)
        fc.pre(definitionErrorOf(cron) === undefined)
        const ours = slotsAfter(ruleOf(cron), after)
        const expected = new Cron(storedText(cron), { timezone: 'UTC' }).nextRuns(3, after)
        expect(expected.map(() => ours.next().value.at)).toEqual(expected)
      }),
      { numRuns: Math.ceil(300 * effort) },
    )
  })
})

test('any text at all is refused in words, or has a slot', () => {
  const text = fc.stringMatching(/^[0-9*?,/#LlWHhSUNMOJAFEB@.+ -]{0,12}$/)
  const cron = fc.tuple(text, text, text, text, text).map((parts) => parts.join(' '))
  fc.assert(
    fc.property(fc.oneof(text, cron), (given) => {
      const message = definitionErrorOf(given)
      if (message === undefined) expect(nextSlot(ruleOf(given), new Date(0)).getTime()).toBeGreaterThan(0)
      else
        expect(message).toMatch(
          /^Schedule "schedule", cron ".*": .+\.$|^Schedule "schedule", cron ".*", .+: .+\.$/,
        )
    }),
    { numRuns: Math.ceil(3000 * effort) },
  )
})

test.each([
  ['0 9 * * 05L', '0 9 * * 5L', '2026-11-27T09:00:00.000Z'],
  ['0 9 * * 07L', '0 9 * * 0L', '2026-11-29T09:00:00.000Z'],
  ['0 9 * * 00L', '0 9 * * 0L', '2026-11-29T09:00:00.000Z'],
  ['0 9 * * suNl', '0 9 * * 0L', '2026-11-29T09:00:00.000Z'],
  ['0 9 * * 7#1', '0 9 * * 0#1', '2026-12-06T09:00:00.000Z'],
  ['0 9 * * 1,05#2', '0 9 * * 1,5#2', '2026-11-16T09:00:00.000Z'],
  ['0 9 * * 2#1,2#3', '0 9 * * 2#1,2#3', '2026-11-17T09:00:00.000Z'],
  ['00 09 l * ?', '0 9 L * *', '2026-11-30T09:00:00.000Z'],
])('%j is stored as %j and fires at %s', (cron, stored, slot) => {
  expect(storedText(cron)).toBe(stored)
  expect(nextSlot(ruleOf(cron), new Date('2026-11-13T09:00:00Z')).toISOString()).toBe(slot)
})

test('the rarest expressions never end: each 29 February of four centuries is the fifth of its weekday', () => {
  const end = Date.parse('2400-01-01T00:00:00Z')
  const slots = [0, 1, 2, 3, 4, 5, 6].flatMap((day) =>
    slotsAfter(ruleOf(`59 23 * 2 ${day}#5`), new Date('2000-01-01T00:00:00Z'))
      .map(({ at }) => at.getTime())
      // The first slot after the end is looked for too.
      .take(20)
      .filter((slot) => slot < end)
      .toArray(),
  )
  const leapYears = Array.from({ length: 400 }, (_, n) => 2000 + n).filter(
    (year) => new Date(Date.UTC(year, 1, 29)).getUTCDate() === 29,
  )
  expect(leapYears).toHaveLength(97)
  expect(slots.toSorted((a, b) => a - b)).toEqual(leapYears.map((year) => Date.UTC(year, 1, 29, 23, 59)))
})

test('a rare part of an expression is searched for once on the way to it', () => {
  const next = vi.spyOn(CronExpression.prototype, 'next')
  try {
    const slots = slotsAfter(ruleOf('* * * 2 2,1#5'), new Date('2026-01-01T00:00:00Z')).take(1000).toArray()
    expect(slots.at(-1)?.at).toEqual(new Date('2026-02-03T16:39:00Z'))
    expect(next.mock.calls.length).toBe(1001)
  } finally {
    next.mockRestore()
  }
})
