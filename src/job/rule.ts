// Rules: when a schedule's slots are due, as options give it and as its row stores it.
import * as z from 'zod/mini'
import { checkOptions, showValue } from '../options.ts'
import { asDefinitionError, definitionRefusal } from './definition-error.ts'
import { cronText, parseCron } from './cron.ts'

/** When slots are due, as it is stored in the schedule's row. */
export type ScheduleRule =
  /** `cron` is the expression in its one spelling: numbers only, sorted. */
  | { readonly type: 'cron'; readonly cron: string; readonly timeZone: string }
  | { readonly type: 'every'; readonly seconds: number; readonly anchorSeconds?: number }

/** The options of a definition that make its rule, unchecked. */
export interface RuleOptions {
  readonly cron?: unknown
  readonly timeZone?: unknown
  readonly every?: unknown
  readonly anchor?: unknown
}

/** The rule that the options of a definition come to; `subject` starts the error's sentence. */
export function makeRule(subject: string, { cron, timeZone, every, anchor }: RuleOptions): ScheduleRule {
  if (cron === undefined && every === undefined) {
    throw definitionRefusal(subject, 'neither "cron" nor "every" is given: set one of them')
  }
  if (every === undefined) {
    if (anchor !== undefined) {
      throw definitionRefusal(
        subject,
        'option "anchor" belongs to "every" and means nothing with "cron": leave it out',
      )
    }
    return cronRule(subject, cron, timeZone)
  }
  if (cron !== undefined)
    throw definitionRefusal(subject, '"cron" and "every" are both given: set only one of them')
  if (timeZone !== undefined) {
    throw definitionRefusal(
      subject,
      'option "timeZone" means nothing with "every", which counts real time: leave it out',
    )
  }
  return everyRule(subject, every, anchor)
}

const storedRule = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('cron'), cron: z.string(), timeZone: z.string() }),
  z.strictObject({ type: z.literal('every'), seconds: z.number(), anchorSeconds: z.optional(z.int()) }),
])

/**
 * Checks a rule from elsewhere: one read from the database may have been written by hand or by a newer izta, one to be
 * stored may not come from `defineSchedule`.
 *
 * @throws {DefinitionError} when this version does not understand it.
 */
export function parseRule(value: unknown, subject = 'Stored schedule rule'): ScheduleRule {
  const rule = checkOptions(subject, storedRule, value, asDefinitionError)
  if (rule.type === 'cron') return cronRule(subject, rule.cron, rule.timeZone)
  const { seconds, anchorSeconds } = rule
  return everyRule(
    subject,
    { seconds },
    anchorSeconds === undefined ? undefined : new Date(anchorSeconds * 1000),
  )
}

const intervalPart = z._default(z.int().check(z.minimum(0)), 0)
const interval = z.strictObject({
  days: intervalPart,
  hours: intervalPart,
  minutes: intervalPart,
  seconds: intervalPart,
})
const longestSeconds = 3650 * 86_400

function everyRule(subject: string, every: unknown, anchor: unknown): ScheduleRule {
  const parts = checkOptions(`${subject}, option "every"`, interval, every, asDefinitionError)
  const seconds = parts.days * 86_400 + parts.hours * 3600 + parts.minutes * 60 + parts.seconds
  if (seconds < 60 || seconds > longestSeconds) {
    throw definitionRefusal(
      subject,
      `option "every" is ${seconds} s: expected at least 60 s and at most 3,650 days`,
    )
  }
  if (anchor === undefined) return { type: 'every', seconds }
  if (!(anchor instanceof Date) || Number.isNaN(anchor.getTime()) || anchor.getTime() % 1000 !== 0) {
    throw definitionRefusal(
      subject,
      `option "anchor": expected a valid Date in whole seconds; got ${showValue(anchor)}`,
    )
  }
  return { type: 'every', seconds, anchorSeconds: anchor.getTime() / 1000 }
}

function cronRule(subject: string, cron: unknown, timeZone: unknown = 'UTC'): ScheduleRule {
  if (typeof timeZone !== 'string' || !isTimeZone(timeZone)) {
    throw definitionRefusal(
      subject,
      `option "timeZone": expected an IANA name such as "Europe/Berlin"; got ${showValue(timeZone)}`,
    )
  }
  return { type: 'cron', cron: cronText(parseCron(subject, cron)), timeZone }
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}
