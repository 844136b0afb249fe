// Sets the alarm for what is due next: arm first, record second. docs/waking.md explains the protocol.
import * as z from 'zod/mini'
import type { Clock } from '../clock.ts'
import type { GatedDatabase } from '../db/gated.ts'
import { repeat } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import {
  alarmMarginSeconds,
  nextAlarmStatement,
  readNextAlarm,
  recordAlarmStatement,
  type NextAlarm,
} from '../store/due.ts'
import type { Logger } from '../observe/log.ts'
import type { Alarm } from './wakes.ts'
import { readableMessage } from '../errors.ts'

/** The option `alarm` of the handlers. */
export const alarmSchema = z.optional(
  z
    .custom<Alarm>((value) => typeof (value as Alarm | undefined)?.set === 'function')
    .check(z.describe('what alarmWake returns')),
)

export interface ArmOptions {
  /** An alarm goes off after this long even if nothing is due. @default none */
  readonly checkSeconds?: number | undefined
  /**
   * Whether a recorded alarm needs no second one. A recorded one can be gone, after a change of the deployment: a
   * scheduler that sets it again heals that.
   */
  readonly trustsRecord: boolean
}

const minuteMs = 60_000
const { overdueSeconds, blindSeconds } = defaults.alarm

/**
 * Leaves an alarm that goes off in time for whatever this call can see. What commits later sees the recorded alarm, or
 * wakes the scheduler. Nothing due and nothing planned: nothing is set.
 *
 * @throws when the alarm cannot be set; nothing was recorded then.
 */
export async function armNext(
  { database, clock, log }: { readonly database: GatedDatabase; readonly clock: Clock; readonly log: Logger },
  alarm: Alarm,
  { checkSeconds, trustsRecord }: ArmOptions,
): Promise<void> {
  let next: NextAlarm
  try {
    const { rows } = await repeat(database, clock, () => nextAlarmStatement)
    next = readNextAlarm(rows)
  } catch (error) {
    log.error('it is not known what is due next: an alarm is set to look again', {
      error: readableMessage(error),
      afterSeconds: blindSeconds,
    })
    return alarm.set(minuteFrom(Date.now() + blindSeconds * 1000))
  }
  const at = alarmAt(next, checkSeconds)
  if (at === undefined || (trustsRecord && isArmed(next, at))) return
  await alarm.set(at)
  try {
    await repeat(database, clock, () => recordAlarmStatement(at))
  } catch (error) {
    log.warn('an alarm was set but not recorded: another may be set for the same', {
      error: readableMessage(error),
    })
  }
}

/**
 * The minute of the alarm. It begins before what is due next: runners are woken for what is due soon and wait. But it
 * is never one that has begun: alarms are named by their minute, and that name may be taken by one that has gone off.
 */
export function alarmAt(
  { now, overdueSince, laterAt }: NextAlarm,
  checkSeconds: number | undefined,
): Date | undefined {
  const nowMs = now.getTime()
  const wanted: number[] = []
  if (laterAt !== undefined) wanted.push(minuteOf(laterAt.getTime()).getTime())
  if (checkSeconds !== undefined) wanted.push(minuteFrom(nowMs + checkSeconds * 1000).getTime())
  if (overdueSince !== undefined) {
    const ageMs = nowMs - overdueSince.getTime()
    wanted.push(minuteFrom(nowMs + Math.min(Math.max(minuteMs, ageMs), overdueSeconds * 1000)).getTime())
  }
  if (wanted.length === 0) return undefined
  const earliest = minuteOf(nowMs + alarmMarginSeconds * 1000).getTime() + minuteMs
  return new Date(Math.max(earliest, Math.min(...wanted)))
}

const isArmed = ({ now, armedAt }: NextAlarm, at: Date) =>
  armedAt !== undefined && armedAt.getTime() > now.getTime() + alarmMarginSeconds * 1000 && armedAt <= at

const minuteOf = (instantMs: number) => new Date(Math.floor(instantMs / minuteMs) * minuteMs)
const minuteFrom = (instantMs: number) => new Date(Math.ceil(instantMs / minuteMs) * minuteMs)
