// Which slots of a schedule become tasks now.
import { defaults } from '../defaults.ts'
import type { ScheduleRule } from './rule.ts'
import type { MissedPolicy } from './schedule.ts'
import { nextSlot, slotsAfter, type Slot } from './slots.ts'
import { ownZones } from './zones.ts'

/** How many of the missed slots become tasks at most under `missed: 'all'`. */
export const missedLimit = 100

export interface SlotsToPlan {
  readonly rule: ScheduleRule
  readonly missed: MissedPolicy
  /** Every slot up to this instant has been dealt with. */
  readonly madeUntil: Date
  /** The `ahead` of the planning before. @default [] */
  readonly ahead?: readonly Slot[]
  /** Whether that went by other data of time zones. @default false */
  readonly isRezoned?: boolean
  /** Whether this planning was due so long ago that there was an outage. */
  readonly isLate: boolean
  readonly now: Date
  /** Future slots are made into tasks so long ahead, and at least the next one always. @default 120 */
  readonly aheadSeconds?: number
  /** @default those of this process */
  readonly zones?: typeof ownZones
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
  /** The tasks of slots in the future have to go: the slots have moved, and are among `slots` again. */
  readonly isReplaced: boolean
  /** The new cursor. It goes back only where tasks go. */
  readonly madeUntil: Date
  /** The last slot that has been dealt with and is not in the future, then those made ahead. */
  readonly ahead: readonly Slot[]
  /** When planning makes something new again; always later than `now`. */
  readonly planAt: Date
}

/**
 * Decides which slots of a schedule become tasks now. Doing it twice at the same instant makes nothing new, and
 * nothing is new before `planAt`. After any outage it looks at a few thousand slots at most.
 *
 * With other data of time zones it begins anew at the last slot that has passed. Neither an instant that has had its
 * task comes again, nor a time by the wall clock: a slot that has run an hour too early is not run once more.
 */
export function planSlots(input: SlotsToPlan): SlotPlan {
  const { rule, missed, madeUntil, isLate, isRezoned = false, now, zones = ownZones } = input
  const aheadMs = (input.aheadSeconds ?? defaults.schedule.aheadSeconds) * 1000
  const made = (input.ahead ?? []).filter(({ at }) => at <= madeUntil)
  const passed = made.findLast(({ at }) => at <= now) ?? { at: earlier(madeUntil, now), wall: undefined }
  const coming = made.filter(({ at }) => at > now)
  const from = isRezoned ? passed : { at: madeUntil, wall: undefined }

  function between(after: Date, until: Date, limit: number): Slot[] {
    const slots: Slot[] = []
    if (after >= until) return slots
    for (const slot of slotsAfter(rule, after, zones)) {
      if (slot.at > until || slots.length === limit) break
      if (!isRepeated(slot, from)) slots.push(slot)
    }
    return slots
  }

  const limit = { once: 1, skip: 0, all: missedLimit }[missed]
  const past = latestSlots(between, from.at, now, missedLimit + 1)
  const kept = past.slice(Math.max(0, past.length - limit))
  const next = slotsAfter(rule, now, zones).find((slot) => !isRepeated(slot, from))!
  const future = between(later(from.at, now), later(new Date(now.getTime() + aheadMs), next.at), Infinity)
  const isMoved =
    isRezoned &&
    (past.length > 0 || coming.some(({ at }, index) => future[index]?.at.getTime() !== at.getTime()))
  const added = isRezoned && !isMoved ? future.slice(coming.length) : future
  const ahead = [past.at(-1) ?? passed, ...(isMoved ? [] : coming), ...added]
  const cursor = added.at(-1)?.at ?? madeUntil
  const following = nextSlot(rule, cursor, zones)
  return {
    slots: [...kept, ...added].map(({ at }) => at),
    missedSlots: past.length,
    droppedSlots: past.length - kept.length,
    // Of several slots that passed at once "once" runs the latest, be they late or not.
    waitingKept: isLate || (missed === 'once' && past.length > 0) ? limit - kept.length : undefined,
    isReplaced: isMoved && coming.length > 0,
    madeUntil: cursor,
    ahead,
    planAt: new Date(Math.min(cursor.getTime(), following.getTime() - aheadMs)),
  }
}

/** Whether the time by the wall clock has been dealt with, at another instant. */
const isRepeated = (slot: Slot, from: Slot) =>
  slot.wall !== undefined && from.wall !== undefined && slot.wall <= from.wall

/** The last `limit` slots later than `after` and up to `until`, found by bisection: a long outage has millions. */
function latestSlots(
  between: (after: Date, until: Date, limit: number) => Slot[],
  after: Date,
  until: Date,
  limit: number,
): Slot[] {
  let low = after.getTime()
  let high = until.getTime()
  let slots = between(after, until, limit + 1)
  if (slots.length < limit) return slots
  while (slots.length !== limit) {
    const middle = Math.floor((low + high) / 2)
    slots = between(new Date(middle), until, limit + 1)
    if (slots.length > limit) low = middle
    else high = middle
  }
  return slots
}

const later = (a: Date, b: Date) => (a > b ? a : b)
const earlier = (a: Date, b: Date) => (a < b ? a : b)
