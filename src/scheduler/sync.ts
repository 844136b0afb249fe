// Makes the stored queues and schedules equal to their definitions in code.
import { createHash } from 'node:crypto'
import type { ResolvedConfig } from '../config.ts'
import { untilUncontended } from '../db/contended.ts'
import { runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { PayloadError } from '../errors.ts'
import { showValue } from '../options.ts'
import { sumUpTo } from '../job/payload-sum.ts'
import { preparePayload, type PrepareLimits } from '../job/prepare.ts'
import { parseRule } from '../job/rule.ts'
import type { Schedule } from '../job/schedule.ts'
import { registerQueuesStatement } from '../store/queues.ts'
import { readSyncReply, syncSchedulesStatement, type ScheduleRow, type SyncReply } from '../store/sync.ts'

/** Makes the rows of the queues that definitions use, and of those found in tasks. */
export async function registerQueues(config: ResolvedConfig): Promise<void> {
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
  const limits = { payloadLimitBytes: config.payloadLimitBytes, add: sumUpTo(callLimitBytes, tooLarge) }
  const schedules = await Promise.all(
    [...config.schedules.values()].map((schedule) => scheduleRow(schedule, limits)),
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

const { callLimitBytes } = defaults

/** The definitions of an app are sent together. */
function tooLarge(bytes: number): PayloadError {
  const message = `the payloads of the schedules up to this one are ${bytes} bytes together, above the limit of ${callLimitBytes} bytes: pass references`
  return new PayloadError('payloads-too-large', message, [{ path: '', code: 'too-large', message }])
}

/** The row of a definition; its payload is checked as an enqueue would. */
export async function scheduleRow(schedule: Schedule, limits: PrepareLimits): Promise<ScheduleRow> {
  const { name, job, queue, priority, maxAttempts, missed, overlap } = schedule
  const row = {
    name,
    job: job.id,
    payload: await payloadOf(schedule, limits),
    queue,
    priority,
    maxAttempts,
    rule: JSON.stringify(parseRule(schedule.rule, `Schedule ${showValue(name)}`)),
    missed,
    overlap,
  }
  return { ...row, hash: createHash('sha256').update(JSON.stringify(row)).digest('base64url') }
}

async function payloadOf({ name, job, payload }: Schedule, limits: PrepareLimits): Promise<string> {
  try {
    return await preparePayload(job, payload, limits)
  } catch (error) {
    if (!(error instanceof PayloadError)) throw error
    const { code, issues } = error
    throw new PayloadError(code, `Schedule "${name}": ${error.message}`, issues, { cause: error })
  }
}
