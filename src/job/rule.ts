// Rules: when a schedule's slots are due, as options give it and as its row stores it.
import * as z from 'zod/mini'
import { DefinitionError } from '../errors.ts'
import { checkOptions, showValue } from '../options.ts'
import { cronText } from './cron.ts'

/** When slots are due, as it is stored in the schedule's row. */
export type ScheduleRule =
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
    throw refusal(subject, 'neither "cron" nor "every" is given: set one of them')
  }
  if (every === undefined) {
    if (anchor !== undefined) {
      throw refusal(subject, 'option "anchor" belongs to "every" and means nothing with "cron": leave it out')
    }
    return cronRule(subject, cron, timeZone)
  }
  if (cron !== undefined) throw refusal(subject, '"cron" and "every" are both given: set only one of them')
  if (timeZone !== undefined) {
    throw refusal(
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
 * Checks a rule that was read from the database, so that one written by hand or by a newer izta is refused in words.
 *
 * @throws {DefinitionError} when this version does not understand it.
 */
export function parseRule(value: unknown): ScheduleRule {
  const subject = 'Stored schedule rule'
  const rule = checkOptions(subject, storedRule, value, definitionError)
  if (rule.type === 'cron') return cronRule(subject, rule.cron, rule.timeZone)
  const { seconds, anchorSeconds } = rule
  return everyRule(
    subject,
    { seconds },
    anchorSeconds === undefined ? undefined : new Date(anchorSeconds * 1000),
  )
}

const definitionError = (_: string, message: string) => new DefinitionError(message)
const refusal = (subject: string, reason: string) => new DefinitionError(`${subject}: ${reason}.`)

const intervalPart = z._default(z.int().check(z.minimum(0)), 0)
const interval = z.strictObject({
  days: intervalPart,
  hours: intervalPart,
  minutes: intervalPart,
  seconds: intervalPart,
})
const longestSeconds = 3650 * 86_400

function everyRule(subject: string, every: unknown, anchor: unknown): ScheduleRule {
  const parts = checkOptions(`${subject}, option "every"`, interval, every, definitionError)
  const seconds = parts.days * 86_400 + parts.hours * 3600 + parts.minutes * 60 + parts.seconds
  if (seconds < 60 || seconds > longestSeconds) {
    throw refusal(subject, `option "every" is ${seconds} s: expected at least 60 s and at most 3,650 days`)
  }
  if (anchor === undefined) return { type: 'every', seconds }
  if (!(anchor instanceof Date) || Number.isNaN(anchor.getTime()) || anchor.getTime() % 1000 !== 0) {
    throw refusal(
      subject,
      `option "anchor": expected a valid Date in whole seconds; got ${showValue(anchor)}`,
    )
  }
  return { type: 'every', seconds, anchorSeconds: anchor.getTime() / 1000 }
}

function cronRule(subject: string, cron: unknown, timeZone: unknown = 'UTC'): ScheduleRule {
  if (typeof timeZone !== 'string' || !isTimeZone(timeZone)) {
    throw refusal(
      subject,
      `option "timeZone": expected an IANA name such as "Europe/Berlin"; got ${showValue(timeZone)}`,
    )
  }
  return { type: 'cron', cron: cronText(subject, cron), timeZone }
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== ''
  } catch {
    return false
  }
}
