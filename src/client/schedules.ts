// Schedules by API: see, pause, trigger, preview, and make dynamic ones.
import { uuidv7 } from 'uuidv7'
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import type { Statement } from '../db/database.ts'
import { OptionError, StateError } from '../errors.ts'
import { parseRule } from '../job/rule.ts'
import type { Schedule } from '../job/schedule.ts'
import { checkOptions, nameSchema, showValue } from '../options.ts'
import { untilUncontended } from '../db/contended.ts'
import {
  listSchedulesStatement,
  pauseScheduleStatement,
  readChangeReply,
  readDatabaseNow,
  readSchedules,
  readTriggered,
  removeScheduleStatement,
  resumeScheduleStatement,
  triggerScheduleStatement,
  type ScheduleInfo,
} from '../store/schedules.ts'
import { readSyncReply, syncSchedulesStatement } from '../store/sync.ts'
import { runStatement } from '../db/run.ts'

export interface Schedules {
  /** Every stored schedule, by name. */
  list(): Promise<ScheduleInfo[]>
  /** Its tasks that have not started go; running ones end normally. */
  pause(name: string): Promise<void>
  /** Goes on; slots that were missed are treated as `missed` says. */
  resume(name: string): Promise<void>
  /** Makes one task now, beside the slots. */
  trigger(name: string): Promise<{ readonly id: string }>
  /** The next `count` slots (1 to 1,000, default 5) from now on. */
  preview(name: string, count?: number): Promise<Date[]>
  /** Stores a dynamic schedule, or changes it; definitions in code leave it alone. */
  put(schedule: Schedule): Promise<void>
  /**
   * Removes a dynamic schedule and its tasks that have not started; false when there is none of this name. With `app`
   * it removes one that the code of this app has defined: for an app that was renamed or is gone.
   *
   * @throws {StateError} `schedule-in-code` when the schedule belongs to an app that was not named.
   */
  remove(name: string, options?: { app?: string | undefined }): Promise<boolean>
}

export function createSchedules(config: ResolvedConfig): Schedules {
  const notFound = (name: string) =>
    new StateError(
      'schedule-not-found',
      `There is no schedule ${showValue(name)}: the scheduler stores those in code.`,
    )

  async function find(name: string): Promise<{ schedule: ScheduleInfo; now: Date }> {
    const rows = await runStatement(config, listSchedulesStatement(name))
    const [schedule] = readSchedules(rows)
    const now = readDatabaseNow(rows)
    if (schedule === undefined || now === undefined) throw notFound(name)
    return { schedule, now }
  }

  /** Whether there was something to change. */
  async function change(what: string, statement: Statement): Promise<boolean> {
    const reply = await untilUncontended(what, async () =>
      readChangeReply(await runStatement(config, statement)),
    )
    return reply.changed
  }

  /** Where nothing ticks, its next slot is made and waited for only if the scheduler hears of it. */
  const planSoon = () => config.wakes.wakeAt(new Date())

  return {
    list: async () => readSchedules(await runStatement(config, listSchedulesStatement(undefined))),
    async pause(name) {
      if (!(await change('schedules.pause', pauseScheduleStatement(name)))) await find(name)
    },
    async resume(name) {
      if (await change('schedules.resume', resumeScheduleStatement(name))) await planSoon()
      else await find(name)
    },
    async trigger(name) {
      const id = uuidv7()
      const triggered = readTriggered(await runStatement(config, triggerScheduleStatement(name, id)))
      if (triggered === undefined) throw notFound(name)
      if (triggered.wake) await config.wakes.wake([triggered.queue])
      return { id }
    },
    async preview(name, count = 5) {
      if (!Number.isInteger(count) || count < 1 || count > 1000) {
        throw new OptionError(
          'count',
          `schedules.preview: option "count": expected 1 to 1000; got ${showValue(count)}.`,
        )
      }
      const { schedule, now } = await find(name)
      // cron-parser is large and slow to load: only previews pay for it.
      const { slotsAfter } = await import('../job/slots.ts')
      return slotsAfter(parseRule(schedule.rule), now)
        .take(count)
        .map(({ at }) => at)
        .toArray()
    },
    async put(schedule) {
      const { scheduleRow } = await import('../scheduler/sync.ts')
      const row = await scheduleRow(schedule, config)
      const request = { app: undefined, deployedAt: undefined, removeMissing: false, schedules: [row] }
      const reply = await untilUncontended('schedules.put', async () =>
        readSyncReply(await runStatement(config, syncSchedulesStatement(request))),
      )
      if (reply.leftOut.length > 0) {
        throw new StateError(
          'schedule-in-code',
          `Schedule "${schedule.name}" is defined in code: change it there, or give the dynamic one another name.`,
        )
      }
      await planSoon()
    },
    async remove(name, options = {}) {
      const { app } = checkOptions('schedules.remove', removeOptions, options)
      const stored = async () => readSchedules(await runStatement(config, listSchedulesStatement(name))).at(0)
      // Asked first: after a lost answer the repeated statement finds nothing to remove.
      if ((await stored()) === undefined) return false
      if (await change('schedules.remove', removeScheduleStatement(name, app))) return true
      const kept = await stored()
      if (kept === undefined) return true
      throw new StateError(
        'schedule-in-code',
        kept.app === undefined
          ? `Schedule "${name}" is a dynamic one: remove it without naming an app.`
          : `Schedule "${name}" is defined in code, of the app "${kept.app}": remove it there and deploy. If that app is gone or was renamed, pass { app: '${kept.app}' }.`,
      )
    },
  }
}

const removeOptions = z.strictObject({ app: z.optional(nameSchema) })
