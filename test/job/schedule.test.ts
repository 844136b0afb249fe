// What defineSchedule accepts, what it makes of it, and how it refuses the rest.
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { DefinitionError } from '../../src/errors.ts'
import { defineJob } from '../../src/job/job.ts'
import { parseRule } from '../../src/job/rule.ts'
import { defineSchedule } from '../../src/job/schedule.ts'

const report = defineJob({
  id: 'report',
  payload: z.object({ to: z.string() }),
  queue: 'mail',
  priority: 2,
  maxAttempts: 7,
})
const sweep = defineJob({ id: 'sweep' })

const define = (options: object) =>
  // @ts-expect-error -- JavaScript may pass anything
  defineSchedule({ name: 'nightly', job: sweep, ...options })
const ruleOf = (options: object) => define(options).rule

function errorOf(run: () => unknown): DefinitionError {
  try {
    run()
  } catch (error) {
    if (error instanceof DefinitionError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('a schedule', () => {
  test('carries its job, payload and rule, with defaults from the job', () => {
    const schedule = defineSchedule({
      name: 'morning-report',
      job: report,
      payload: { to: 'ops@example.com' },
      cron: '30 6 * * MON-FRI',
      timeZone: 'Europe/Berlin',
    })
    expect(schedule).toEqual({
      kind: 'schedule',
      name: 'morning-report',
      job: report,
      payload: { to: 'ops@example.com' },
      queue: 'mail',
      priority: 2,
      maxAttempts: 7,
      missed: 'once',
      overlap: 'allow',
      rule: { type: 'cron', cron: '30 6 * * 1-5', timeZone: 'Europe/Berlin' },
    })
  })

  test('prefers its own options to those of the job', () => {
    const own = { queue: 'slow', priority: 9, maxAttempts: 1, missed: 'all', overlap: 'skip' }
    expect(define({ ...own, cron: '@daily' })).toMatchObject(own)
  })

  test('is frozen, and so is its rule', () => {
    const schedule = define({ cron: '@daily' })
    expect(Object.isFrozen(schedule)).toBe(true)
    expect(Object.isFrozen(schedule.rule)).toBe(true)
  })
})

describe('a cron rule', () => {
  test.each([
    ['* * * * *', '* * * * *'],
    ['  0   6 *\t* 1 ', '0 6 * * 1'],
    ['*/15 8-18/2 1,15 JAN,jul mon-FRI', '0,15,30,45 8,10,12,14,16,18 1,15 1,7 1-5'],
    ['0 0 L * ?', '0 0 L * *'],
    ['0 0 ? * 05L', '0 0 * * 5L'],
    ['0 0 * * FRI#2', '0 0 * * 5#2'],
    ['0 0 * * 7', '0 0 * * 0'],
    ['5/10 0 29 2 *', '5,15,25,35,45,55 0 29 2 *'],
    ['@hourly', '0 * * * *'],
    ['@daily', '0 0 * * *'],
    ['@midnight', '0 0 * * *'],
    ['@weekly', '0 0 * * 0'],
    ['@monthly', '0 0 1 * *'],
    ['@yearly', '0 0 1 1 *'],
    ['@Annually', '0 0 1 1 *'],
  ])('is stored as numbers in order: %j', (cron, fields) => {
    expect(ruleOf({ cron })).toEqual({ type: 'cron', cron: fields, timeZone: 'UTC' })
  })

  test.each([
    [{ hour: 6 }, '0 6 * * *'],
    [{ minute: 30 }, '30 * * * *'],
    [{ hour: '*' }, '0 * * * *'],
    [{ hour: [18, 6], minute: '*/20' }, '0,20,40 6,18 * * *'],
    [{ dayOfWeek: 1 }, '0 0 * * 1'],
    [{ dayOfMonth: 15 }, '0 0 15 * *'],
    [{ dayOfMonth: 'L', dayOfWeek: 'SUN' }, '0 0 L * 0'],
    [{ month: 2 }, '0 0 1 2 *'],
    [{ month: [1, 7], dayOfWeek: 'MON-FRI' }, '0 0 * 1,7 1-5'],
    [{ hour: 6, month: 3 }, '0 6 * 3 *'],
    [{ hour: 0, minute: undefined }, '0 0 * * *'],
  ])('takes the fields %j: what is smaller than the smallest starts at its first value', (cron, text) => {
    expect(ruleOf({ cron })).toMatchObject({ cron: text })
  })

  test.each(['Europe/Berlin', 'utc', 'Asia/Kathmandu', '+02:00'])('takes the time zone %j', (timeZone) => {
    expect(ruleOf({ cron: '@daily', timeZone })).toMatchObject({ timeZone })
  })
})

describe('a cron expression is refused with the schedule, the text, the field and what is right:', () => {
  test.each([
    ['', 'has 0 fields: expected the five "minute hour day-of-month month day-of-week"'],
    ['   ', 'has 0 fields'],
    ['5', 'has 1 fields'],
    ['* * * *', 'has 4 fields'],
    ['0 * * * * *', 'has 6 fields (seconds are not supported): expected the five'],
    ['* * * * * * *', 'has 7 fields'],
    ['@reboot', 'unknown alias; known are @hourly @daily @midnight'],
    ['@constructor', 'unknown alias'],
    ['@secondly', 'unknown alias'],
    ['60 * * * *', 'minute: 60 is outside 0–59'],
    ['0 24 * * *', 'hour: 24 is outside 0–23'],
    ['0 0 0 * *', 'day of month: 0 is outside 1–31'],
    ['0 0 32 * *', 'day of month: 32 is outside 1–31'],
    ['0 0 * 13 *', 'month: 13 is outside 1–12'],
    ['0 0 * * 8', 'day of week: 8 is outside 0–7'],
    ['-5 * * * *', 'minute: "" is not a value of this field: expected 0–59'],
    ['1.5 * * * *', 'minute: "1.5" is not a value of this field'],
    ['1,,2 * * * *', 'minute: "" is not a value of this field'],
    ['x * * * *', 'minute: "x" is not a value of this field: expected 0–59'],
    ['? * * * *', 'minute: "?" is not a value'],
    ['0 0 * JUN-x *', 'month: "x" is not a value of this field: expected 1–12 or JAN–DEC'],
    ['0 0 * * Monday', 'day of week: "Monday" is not a value of this field: expected 0–7 or SUN–SAT'],
    ['0 0 * * L', 'day of week: "L" is not a value'],
    ['0 0 L-2 * *', 'day of month: "L" is not a value'],
    ['0 0 15W * *', 'day of month: "15W" is not a value'],
    ['0 0 * * 5#6', 'day of week: "5#6" is not a value'],
    ['0 0 * * 5#2,05#2', 'day of week: "5#2,05#2" names the same day of week more than once'],
    ['*/90 * * * *', 'minute: step 90 is beyond 0–59, so that only 0 would fit: write 0, or use "every"'],
    ['0 */24 * * *', 'hour: step 24 is beyond 0–23'],
    ['0-30/45 * * * *', 'minute: step 45 is beyond 0–30'],
    ['50/10 * * * *', 'minute: step 10 is beyond 50–59'],
    ['0 0 * * */7', 'day of week: step 7 is beyond 0–6'],
    ['*/0 * * * *', 'minute: "*/0" has no valid step: expected a whole number from 1'],
    ['*/ * * * *', 'minute: "*/" has no valid step'],
    ['*/5/5 * * * *', 'minute: "*/5/5" has no valid step'],
    ['0 22-2 * * *', 'hour: range "22-2" runs backwards: write "22-23,0-2" to go round the end'],
    ['0 0 * * SAT-SUN', 'day of week: range "SAT-SUN" runs backwards: write "6,0"'],
    ['0 0 * NOV-FEB *', 'month: range "NOV-FEB" runs backwards: write "11-12,1-2"'],
    ['1-2-3 * * * *', 'minute: "1-2-3" is no range'],
    ['5,5 * * * *', 'minute: "5,5" names the same minute more than once'],
    ['0 0 * * 0,7', 'day of week: "0,7" names the same day of week more than once'],
    ['0 0 * * 1-5,3', 'day of week: "1-5,3" names the same day of week more than once'],
    ['H * * * *', 'minute: "H" would be random'],
    ['0 H(0-7) * * *', 'hour: "H(0-7)" would be random'],
    ['0 0 31 2 *', 'never fires: no such month has a day 31'],
    ['0 0 30,31 FEB ?', 'never fires: no such month has a day 30'],
    ['0 0 31 4,6,9,11 *', 'never fires: no such month has a day 31'],
  ])('%j', (cron, reason) => {
    const { message } = errorOf(() => define({ cron }))
    expect(message).toContain(`Schedule "nightly", cron ${JSON.stringify(cron)}`)
    expect(message).toContain(reason)
  })

  test.each([
    ['null', null, 'got null'],
    ['a number', 5, 'got 5'],
    ['a list', ['* * * * *'], 'got ["* * * * *"]'],
    [
      'an unknown field',
      { second: 5 },
      'option "cron": unknown option "second". Known: minute, hour, dayOfMonth',
    ],
    ['an empty list', { hour: [] }, 'option "hour"'],
    ['NaN', { hour: Number.NaN }, 'option "hour": expected a number, several, or'],
    ['a fraction', { minute: 1.5 }, 'got 1.5'],
    ['a field out of range', { hour: 24 }, 'cron {"hour":24}, hour: 24 is outside 0–23'],
    ['a negative value', { hour: -1 }, 'hour: "" is not a value of this field'],
    ['two fields in one', { minute: '0 6' }, 'minute: "0 6" is not a value of this field'],
    ['no field at all', {}, 'has no field: give at least one'],
    ['a day that never comes', { dayOfMonth: 31, month: 2 }, 'never fires'],
  ])('%s', (_, cron, reason) => {
    const { message } = errorOf(() => define({ cron }))
    expect(message).toMatch(/^Schedule "nightly"/)
    expect(message).toContain(reason)
  })
})

describe('an interval rule', () => {
  test.each([
    [{ minutes: 1 }, 60],
    [{ seconds: 90 }, 90],
    [{ hours: 1, minutes: 30 }, 5400],
    [{ days: 3650 }, 315_360_000],
  ])('adds up %j', (every, seconds) => {
    expect(ruleOf({ every })).toEqual({ type: 'every', seconds })
  })

  test('keeps its anchor in seconds', () => {
    expect(ruleOf({ every: { days: 7 }, anchor: new Date('2026-01-05T06:00:00Z') })).toEqual({
      type: 'every',
      seconds: 604_800,
      anchorSeconds: 1_767_592_800,
    })
  })

  test.each([
    ['nothing', {}, 'option "every" is 0 s: expected at least 60 s'],
    ['zero', { minutes: 0 }, 'option "every" is 0 s: expected at least 60 s'],
    [
      'a negative part',
      { hours: 1, minutes: -5 },
      'option "minutes": expected a whole number of at least 0; got -5.',
    ],
    ['NaN', { minutes: Number.NaN }, 'got NaN'],
    ['Infinity', { minutes: Infinity }, 'got Infinity'],
    ['less than a minute', { seconds: 59 }, 'option "every" is 59 s: expected at least 60 s'],
    ['a fraction of a second', { seconds: 60.5 }, 'option "seconds"'],
    ['more than ten years', { days: 3651 }, 'at most 3,650 days'],
    ['an unknown part', { weeks: 1 }, 'unknown option "weeks". Known: days, hours, minutes, seconds'],
    ['a number', 60, 'got 60'],
    ['null', null, 'got null'],
  ])('refuses %s', (_, every, reason) => {
    const { message } = errorOf(() => define({ every }))
    expect(message).toMatch(/^Schedule "nightly"/)
    expect(message).toContain(reason)
  })

  test.each([
    ['an invalid date', new Date(Number.NaN), 'got an invalid Date'],
    ['milliseconds', new Date(1), 'got 1970-01-01T00:00:00.001Z'],
    ['a text', '2026-01-01', 'got "2026-01-01"'],
    ['null', null, 'got null'],
  ])('refuses %s as anchor', (_, anchor, got) => {
    const { message } = errorOf(() => define({ every: { days: 1 }, anchor }))
    expect(message).toBe(
      `Schedule "nightly": option "anchor": expected a valid Date in whole seconds; ${got}.`,
    )
  })
})

describe('a definition is refused with', () => {
  test.each([
    ['neither cron nor every', {}, 'neither "cron" nor "every" is given'],
    ['an undefined cron', { cron: undefined }, 'neither "cron" nor "every" is given'],
    ['both cron and every', { cron: '@daily', every: { days: 1 } }, '"cron" and "every" are both given'],
    [
      'a time zone for an interval',
      { every: { days: 1 }, timeZone: 'UTC' },
      '"timeZone" means nothing with "every"',
    ],
    ['an anchor for a cron', { cron: '@daily', anchor: new Date(0) }, 'option "anchor" belongs to "every"'],
    [
      'an unknown time zone',
      { cron: '@daily', timeZone: 'Berlin' },
      'option "timeZone": expected an IANA name',
    ],
    ['an empty time zone', { cron: '@daily', timeZone: '' }, 'got ""'],
    ['null as time zone', { cron: '@daily', timeZone: null }, 'got null'],
    ['an unknown option', { cron: '@daily', timezone: 'UTC' }, 'unknown option "timezone". Known: name, job'],
    ['an unknown policy', { cron: '@daily', missed: 'never' }, 'option "missed"'],
    ['an unknown overlap', { cron: '@daily', overlap: true }, 'option "overlap"'],
    ['a bad queue', { cron: '@daily', queue: 'a b' }, 'option "queue": expected 1 to 100 of'],
    ['a priority above 9', { cron: '@daily', priority: 10 }, 'option "priority"'],
    ['no attempts', { cron: '@daily', maxAttempts: 0 }, 'option "maxAttempts"'],
    [
      'no job',
      { cron: '@daily', job: undefined },
      'option "job": expected a job made by defineJob (two files that import each other see undefined',
    ],
    ["a job's id in place of the job", { cron: '@daily', job: 'sweep' }, 'got "sweep"'],
    ['a payload for a job that takes none', { cron: '@daily', payload: 1 }, 'but job "sweep" takes none'],
  ])('%s', (_, options, reason) => {
    const { message } = errorOf(() => define(options))
    expect(message).toMatch(/^Schedule "nightly": /)
    expect(message).toContain(reason)
  })

  test.each(['', 'a b', 'ü', 'x'.repeat(101)])('the name %j', (name) => {
    expect(errorOf(() => define({ name, cron: '@daily' })).message).toContain(
      `option "name": expected 1 to 100 of A–Z a–z 0–9 . _ : -; got`,
    )
  })

  test('no name, or no options at all', () => {
    expect(errorOf(() => define({ name: undefined, cron: '@daily' })).message).toMatch(
      /^Schedule definition: .*"name"/,
    )
    // @ts-expect-error -- JavaScript may call it so
    expect(errorOf(() => defineSchedule()).message).toMatch(/^Schedule definition: /)
  })
})

describe('a stored rule', () => {
  test.each([
    { type: 'cron', cron: '30 6 * * 1-5', timeZone: 'Europe/Berlin' },
    { type: 'every', seconds: 90 },
    { type: 'every', seconds: 90, anchorSeconds: -5 },
  ])('%j is read as it was written', (rule) => {
    expect(parseRule(JSON.parse(JSON.stringify(rule)))).toEqual(rule)
  })

  test.each([
    ['nothing', null, 'got null'],
    ['a text', '* * * * *', 'got "* * * * *"'],
    ['another type', { type: 'rrule' }, 'option "type"'],
    ['a bad cron', { type: 'cron', cron: '60 * * * *', timeZone: 'UTC' }, 'minute: 60 is outside 0–59'],
    [
      'a zone that this machine does not know',
      { type: 'cron', cron: '@daily', timeZone: 'Mars' },
      'got "Mars"',
    ],
    ['no zone', { type: 'cron', cron: '@daily' }, 'option "timeZone"'],
    ['too short an interval', { type: 'every', seconds: 5 }, 'is 5 s: expected at least 60 s'],
    ['fractions', { type: 'every', seconds: 60.5 }, 'option "seconds"'],
    ['an anchor beyond all dates', { type: 'every', seconds: 60, anchorSeconds: 1e14 }, 'option "anchor"'],
    ['what a newer version may add', { type: 'every', seconds: 60, jitter: 5 }, 'unknown option "jitter"'],
  ])('is refused with %s', (_, value, reason) => {
    const { message } = errorOf(() => parseRule(value))
    expect(message).toMatch(/^Stored schedule rule/)
    expect(message).toContain(reason)
  })
})

test('a job is what defineJob returns, and nothing that only looks like one', () => {
  const { message } = errorOf(() => define({ job: { id: 'x' }, every: { hours: 1 } }))
  expect(message).toBe('Schedule "nightly": option "job": expected a job made by defineJob; got {"id":"x"}.')
})
