// One tick: everything that must happen now and then, as a list of named steps, each safe to repeat.
import { createHash } from 'node:crypto'
import { uuidv7 } from 'uuidv7'
import type { ResolvedConfig } from './config.ts'
import { defaults } from './defaults.ts'
import { PayloadError } from './errors.ts'
import { parseRule } from './job/rule.ts'
import type { Schedule } from './job/schedule.ts'
import { readableMessage } from './job/json.ts'
import { planSlots } from './job/slots.ts'
import { preparePayload } from './prepare.ts'
import { runStatement } from './statement.ts'
import { pruneStatement, readPruned } from './store/prune.ts'
import { untilUncontended } from './store/contended.ts'
import { readWaiting, registerQueuesStatement, wakeDueStatement } from './store/queues.ts'
import {
  planStatement,
  readMade,
  readToPlan,
  toPlanStatement,
  type PlannableSchedule,
  type SchedulePlan,
} from './store/slots.ts'
import { readSyncReply, syncSchedulesStatement, type ScheduleRow, type SyncReply } from './store/sync.ts'

/** What a tick did. */
export interface TickSummary {
  /** Tasks made of slots. */
  readonly made: number
  /** Queues that got a runner. */
  readonly woken: readonly string[]
  /** History rows whose time was over. */
  readonly pruned: number
}

/** How a tick differs from host to host. */
export interface TickOptions {
  /** Queues whose next task is due within these seconds get a runner, which waits for it. @default 0 */
  readonly aheadSeconds?: number | undefined
}

const syncedAtMs = new WeakMap<ResolvedConfig, number>()
const schedulesPerPlan = 500

/**
 * One tick of the scheduler. Any number of them may run at once, anywhere: a slot makes one task all the same.
 * The steps are independent; the first failure is thrown after all have been tried.
 */
export async function tick(
  config: ResolvedConfig,
  { aheadSeconds = 0 }: TickOptions = {},
): Promise<TickSummary> {
  const startedAtMs = config.clock.now()
  let made = 0
  let waiting: ReturnType<typeof readWaiting> = []
  let woken: readonly string[] = []
  let pruned = 0
  const steps: Record<string, () => Promise<void>> = {
    'sync definitions': async () => {
      // Again now and then: another process, such as one of an older deployment, may have undone it.
      const now = config.clock.now()
      if (now - (syncedAtMs.get(config) ?? -Infinity) < defaults.schedule.syncSeconds * 1000) return
      await syncDefinitions(config)
      syncedAtMs.set(config, now)
    },
    // Each time: statements inside applications' transactions use queues without a word to anybody.
    'find queues': () => registerQueues(config),
    'make tasks of slots': async () => {
      made = await planSchedules(config)
    },
    'wake queues with due tasks': async () => {
      waiting = readWaiting(await runStatement(config, wakeDueStatement(aheadSeconds)))
      woken = waiting.filter(({ wake }) => wake).map(({ queue }) => queue)
      await config.wakes.wake(woken)
    },
    'prune the history': async () => {
      pruned = readPruned(await runStatement(config, pruneStatement(defaults.prune.rows)))
    },
  }
  const failures: unknown[] = []
  for (const [step, action] of Object.entries(steps)) {
    try {
      await action()
    } catch (error) {
      config.log.error('a step of the tick failed', { step, error: readableMessage(error) })
      failures.push(error)
    }
  }
  if (failures.length > 0) throw failures[0]
  const queues = waiting
    .filter(({ due }) => due > 0)
    .map(({ queue, paused, due, oldestDueMs }) => ({ queue, paused, due, oldestDueMs }))
  config.events.emit('tick.completed', { durationMs: config.clock.now() - startedAtMs, queues })
  return { made, woken, pruned }
}

async function registerQueues(config: ResolvedConfig): Promise<void> {
  const queues = [...config.jobs.values(), ...(config.schedules?.values() ?? [])].map(({ queue }) => queue)
  await runStatement(config, registerQueuesStatement([...new Set(queues)]))
}

/**
 * Makes the stored queues and schedules equal to the definitions in code, unless a newer deployment has done so.
 * Without a list of schedules, which is not an empty one, the stored schedules stay as they are.
 */
export async function syncDefinitions(config: ResolvedConfig): Promise<SyncReply | undefined> {
  await registerQueues(config)
  if (config.schedules === undefined) return undefined
  const schedules = await Promise.all(
    [...config.schedules.values()].map((schedule) => scheduleRow(schedule, config)),
  )
  const { app, deployedAt } = config
  const statement = syncSchedulesStatement({ app, deployedAt, removeMissing: true, schedules })
  const reply = await untilUncontended('The sync of schedules', async () =>
    readSyncReply(await runStatement(config, statement)),
  )
  if (reply.outdated) {
    config.log.info('schedules were left as a newer deployment has put them', { app, deployedAt })
  }
  if (reply.foreign.length > 0) {
    config.log.error('schedules were left out: another app, or schedules.put, has their names', {
      names: reply.foreign,
    })
  }
  return reply
}

/** The row of a definition; its payload is checked as an enqueue would. */
export async function scheduleRow(
  schedule: Schedule,
  limits: { payloadLimitBytes: number },
): Promise<ScheduleRow> {
  const { name, job, queue, priority, maxAttempts, missed, overlap } = schedule
  const row = {
    name,
    job: job.id,
    payload: await payloadOf(schedule, limits),
    queue,
    priority,
    maxAttempts,
    rule: JSON.stringify(schedule.rule),
    missed,
    overlap,
  }
  return { ...row, hash: createHash('sha256').update(JSON.stringify(row)).digest('base64url') }
}

async function payloadOf(
  { name, job, payload }: Schedule,
  limits: { payloadLimitBytes: number },
): Promise<string> {
  try {
    return await preparePayload(job, payload, limits)
  } catch (error) {
    if (!(error instanceof PayloadError)) throw error
    const { code, issues } = error
    throw new PayloadError(code, `Schedule "${name}": ${error.message}`, issues, { cause: error })
  }
}

/** Makes tasks of the slots that are near, of every schedule whose time for that has come. */
export async function planSchedules(config: ResolvedConfig): Promise<number> {
  let made = 0
  let dropped = 0
  let lagMs = 0
  let page: PlannableSchedule[]
  let lastName = ''
  do {
    page = readToPlan(await runStatement(config, toPlanStatement(schedulesPerPlan, lastName)))
    const plans = page.flatMap((schedule) => planOf(schedule, config))
    const planned =
      plans.length === 0
        ? new Map<string, number>()
        : readMade(await runStatement(config, planStatement(plans)))
    for (const { name, missed, droppedSlots, lateMs } of plans) {
      // Another tick may have planned it meanwhile, and speaks for it then.
      const tasks = planned.get(name)
      if (tasks === undefined) continue
      made += tasks
      dropped += droppedSlots
      lagMs = Math.max(lagMs, lateMs)
      if (droppedSlots > 0)
        config.log.info('missed slots make no task', { schedule: name, missed, dropped: droppedSlots })
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
function planOf(
  { name, hash, rule, missed, madeUntil, now }: PlannableSchedule,
  config: ResolvedConfig,
): Planned[] {
  try {
    const { slots, droppedSlots, ...plan } = planSlots({ rule: parseRule(rule), missed, madeUntil, now })
    const tasks = slots.map((slot) => ({ id: uuidv7(), slot }))
    const lateMs = Math.max(0, now.getTime() - (slots[0] ?? now).getTime())
    return [{ name, hash, missed, droppedSlots, lateMs, wasMadeUntil: madeUntil, tasks, ...plan }]
  } catch (error) {
    config.log.error('a schedule could not be planned', { schedule: name, error: readableMessage(error) })
    return []
  }
}
