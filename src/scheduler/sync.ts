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
import {
  readSyncReply,
  syncSchedulesStatement,
  type DeploymentSeen,
  type LeftOut,
  type ScheduleRow,
} from '../store/sync.ts'

/** Makes the rows of the queues that definitions use, and of those found in tasks. */
export async function registerQueues(config: ResolvedConfig): Promise<void> {
  const queues = [...config.jobs.values(), ...(config.schedules?.values() ?? [])].map(({ queue }) => queue)
  await runStatement(config, registerQueuesStatement([...new Set(queues)]))
}

/** A schedule that the database keeps otherwise than the code says. */
export interface LeftOutSchedule {
  readonly name: string
  /**
   * `'newer-deployment'`: not stored, and `'not-removed'`, because a newer deployment of the app holds its schedules;
   * `'name-taken'`: not stored, because another app, or `schedules.put`, has the name.
   */
  readonly reason: LeftOut['reason']
  /** The reason in words, and what to do. */
  readonly message: string
}

/** What became of the schedules in code. */
export interface StoredSchedules {
  /** Those that are stored as the code defines them, whether anything was to change or not. */
  readonly stored: readonly string[]
  /** Those of them that were added or changed. */
  readonly changed: readonly string[]
  /** Those that were removed, since the code defines them no longer. */
  readonly removed: readonly string[]
  readonly leftOut: readonly LeftOutSchedule[]
}

/**
 * Makes the stored queues and schedules equal to the definitions in code, unless a newer deployment holds them.
 * Without a list of schedules, which is not an empty one, the stored schedules stay as they are.
 */
export async function syncDefinitions(config: ResolvedConfig): Promise<StoredSchedules | undefined> {
  await registerQueues(config)
  if (config.schedules === undefined) return undefined
  const limits = {
    payloadLimitBytes: config.payloadLimitBytes,
    add: sumUpTo(callLimitBytes, payloadsTooLarge),
  }
  const schedules = await Promise.all(
    [...config.schedules.values()].map((schedule) => scheduleRow(schedule, limits)),
  )
  const { app, deployedAt } = config
  const statement = syncSchedulesStatement({ app, deployedAt, removeMissing: true, schedules })
  const { removed, newer, ...reply } = await untilUncontended('The sync of schedules', async () =>
    readSyncReply(await runStatement(config, statement)),
  )
  const leftOut = reply.leftOut.map((each) => ({
    name: each.name,
    reason: each.reason,
    message: leftOutMessage(each, app, newer),
  }))
  const names = new Set(leftOut.map(({ name }) => name))
  const stored = schedules.map(({ name }) => name).filter((name) => !names.has(name))
  return { stored, changed: reply.written, removed, leftOut }
}

/** What was logged last: the same again is not news. */
const told = new WeakMap<ResolvedConfig, string>()

/** Logs which schedules were left out, once until that changes. */
export function logLeftOut(config: ResolvedConfig, leftOut: readonly LeftOutSchedule[]): void {
  const news = leftOut.map(({ name, reason }) => `${reason} ${name}`).join(' ')
  if (told.get(config) === news) return
  told.set(config, news)
  for (const { name, reason, message } of leftOut) {
    // A newer deployment is what every deployment meets for a while; a taken name stays taken.
    config.log[reason === 'name-taken' ? 'error' : 'warn'](message, { schedule: name, reason })
  }
}

/** Why a schedule is not as the code says, and what ends that. */
export function leftOutMessage(
  { name, reason, owner }: LeftOut,
  app: string,
  newer: DeploymentSeen | undefined,
): string {
  const what = `Schedule "${name}" of the app "${app}" was not ${reason === 'not-removed' ? 'removed' : 'stored'}`
  if (reason === 'name-taken') {
    return owner === null
      ? `${what}: schedules.put has made one of this name. Rename it in the code, or remove the other: izta.schedules.remove('${name}').`
      : `${what}: the app "${owner}" has one of this name. Rename it in the code or, if that app is gone or was renamed, remove the other: izta.schedules.remove('${name}', { app: '${owner}' }).`
  }
  const minutes = defaults.schedule.silenceSeconds / 60
  const holder =
    newer === undefined
      ? ''
      : ` (deployed ${newer.deployedAt.toISOString()}, seen ${newer.seenAt.toISOString()})`
  return `${what}: a newer deployment${holder} holds the schedules of this app. If that one is gone, a tick of this one takes its place once it has been silent for ${minutes} minutes.`
}

const { callLimitBytes } = defaults

/** The definitions of an app are sent together. */
function payloadsTooLarge(bytes: number): PayloadError {
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
