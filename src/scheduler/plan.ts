// Turns the slots of schedules into tasks.
import { uuidv7 } from 'uuidv7'
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { readableMessage } from '../errors.ts'
import { parseRule } from '../job/rule.ts'
import { planSlots } from '../job/plan-slots.ts'
import { usesZones } from '../job/slots.ts'
import { ownZones, type ZoneData } from '../job/zones.ts'
import {
  planStatement,
  readPlanned,
  readToPlan,
  toPlanStatement,
  type PlannableSchedule,
  type PlanReply,
  type SchedulePlan,
} from '../store/slots.ts'

const schedulesPerPlan = 500

/**
 * Makes tasks of the slots that are near, of every schedule whose time for that has come, or whose slots were made with
 * older data of time zones.
 */
export async function planSchedules(config: ResolvedConfig, zones: ZoneData = ownZones): Promise<number> {
  let made = 0
  let dropped = 0
  let lagMs = 0
  let page: PlannableSchedule[]
  let lastName = ''
  do {
    page = readToPlan(await runStatement(config, toPlanStatement(schedulesPerPlan, lastName, zones.version)))
    const plans = page.flatMap((schedule) => planOf(schedule, config, zones))
    const planned =
      plans.length === 0
        ? new Map<string, PlanReply>()
        : readPlanned(await runStatement(config, planStatement(plans)))
    for (const { name, missed, droppedSlots, lateMs } of plans) {
      // Another tick may have planned it meanwhile, and speaks for it then.
      const reply = planned.get(name)
      if (reply === undefined) continue
      const left = droppedSlots + reply.dropped
      made += reply.made
      dropped += left
      lagMs = Math.max(lagMs, lateMs)
      if (left > 0) config.log.info('missed slots make no task', { schedule: name, missed, dropped: left })
    }
    lastName = page.at(-1)?.name ?? ''
  } while (page.length === schedulesPerPlan)
  if (made > 0 || dropped > 0) config.events.emit('schedule.planned', { tasks: made, dropped, lagMs })
  return made
}

type Planned = SchedulePlan & {
  readonly missed: string
  readonly droppedSlots: number
  /** How long after its instant the first of the slots is made. */
  readonly lateMs: number
}

/** Nothing for a row that cannot be read: it must not stop the others. */
function planOf(schedule: PlannableSchedule, config: ResolvedConfig, zones: ZoneData): Planned[] {
  const { name, hash, missed, madeUntil, now } = schedule
  try {
    const rule = parseRule(schedule.rule)
    const wasZoneVersion = schedule.zoneVersion
    const isRezoned = wasZoneVersion !== undefined && wasZoneVersion !== zones.version
    const { slots, droppedSlots, ...plan } = planSlots({ ...schedule, rule, isRezoned, zones })
    return [
      {
        ...plan,
        name,
        hash,
        missed,
        droppedSlots,
        lateMs: Math.max(0, now.getTime() - (slots[0] ?? now).getTime()),
        wasMadeUntil: madeUntil,
        plannedAt: now,
        wasZoneVersion,
        zoneVersion: usesZones(rule) ? zones.version : undefined,
        tasks: slots.map((slot) => ({ id: uuidv7(), slot })),
      },
    ]
  } catch (error) {
    config.log.error('a schedule could not be planned', { schedule: name, error: readableMessage(error) })
    return []
  }
}
