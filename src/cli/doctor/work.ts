// Checks of `izta doctor` on queues, tasks, schedules, alarms and history: pure functions from facts to verdicts.
import { defaults } from '../../defaults.ts'
import { leftOutMessage } from '../../scheduler/sync.ts'
import { healthRows, type ScheduleHealth } from '../../store/health.ts'
import { isSleepy, type Facts } from './facts.ts'
import { count, failure, ok, size, span, warning, type Verdict } from './finding.ts'

/** Where a verdict turns. */
export const workLimits = {
  /** Longer than a tick that comes once a minute. */
  waitingSeconds: 90,
  stalledSeconds: 600,
  lostTasks: 3,
  failedShare: 0.05,
  failingTasks: 10,
  /** Longer than a tick that comes every five minutes. */
  overdueSeconds: defaults.schedule.lateSeconds,
  stoppedSeconds: 3600,
  /** AWS starts an alarm within its minute; a cold scheduler takes some seconds more. */
  alarmSeconds: 120,
  expiredSeconds: 86_400,
} as const

type Check = (facts: Facts) => readonly Verdict[]

export function checkQueues(facts: Facts): Verdict[] {
  const { queues } = facts
  if (queues === undefined) return []
  const start = isSleepy(facts) ? 'that the alarm is set (see alarm)' : 'that ticks come'
  const verdicts = queues.flatMap(({ name, paused, due, oldestSeconds, running }): Verdict[] => {
    const waiting = due === 0 ? 'nothing due' : `${atLeast(due)} due, the oldest since ${span(oldestSeconds)}`
    if (paused)
      return [warning(`Queue "${name}" is paused, ${waiting}: izta.queues.resume('${name}') lets it go on.`)]
    if (due === 0 || oldestSeconds < workLimits.waitingSeconds) return []
    if (running)
      return oldestSeconds < workLimits.stalledSeconds
        ? []
        : [
            warning(
              `Queue "${name}" has ${waiting}, though runners work on it: allow more of them, or more concurrency.`,
            ),
          ]
    const level = oldestSeconds < workLimits.stalledSeconds ? warning : failure
    return [
      level(
        `Queue "${name}" has ${waiting}, and nobody claims: see that a runner has this queue, ${start}, and what the runner logs.`,
      ),
    ]
  })
  const due = queues.reduce((sum, queue) => sum + queue.due, 0)
  return verdicts.length > 0 ? verdicts : [ok(`${count(queues.length, 'queue')}, ${atLeast(due)} due`)]
}

const atLeast = (due: number) => (due < healthRows ? count(due, 'task') : `${count(due, 'task')} or more`)

export function checkLosses({ jobs }: Facts): Verdict[] {
  if (jobs === undefined) return []
  const verdicts = jobs.flatMap(({ job, lost, losses }): Verdict[] => {
    const isLast = losses === defaults.maxLosses - 1
    if (lost < workLimits.lostTasks && !isLast) return []
    const next = isLast ? `, one of them ${losses} times, and fails with the next` : ''
    return [
      warning(
        `Job "${job}": the process died under ${count(lost, 'task')}${next}: look for memory, timeouts and crashes in the runner's log.`,
      ),
    ]
  })
  return verdicts.length > 0 ? verdicts : [ok('no job loses its process often')]
}

export function checkFailures({ jobs }: Facts): Verdict[] {
  if (jobs === undefined) return []
  const verdicts = jobs.flatMap(({ job, ended, failed, failing, lastError }): Verdict[] => {
    const isOften = failed > 0 && failed >= ended * workLimits.failedShare
    if (!isOften && failing < workLimits.failingTasks) return []
    const why = lastError === undefined ? '' : ` The last: ${shorten(lastError)}`
    return [
      warning(
        `Job "${job}": ${failed.toLocaleString('en-US')} of ${count(ended, 'task')} failed within a day, ${count(failing, 'task')} will be tried again: see izta.list({ status: 'failed' }).${why}`,
      ),
    ]
  })
  const ended = jobs.reduce((sum, job) => sum + job.ended, 0)
  return verdicts.length > 0
    ? verdicts
    : [
        ok(
          ended === 0
            ? 'no task ended within a day'
            : `few of the ${count(ended, 'task')} that ended within a day`,
        ),
      ]
}

const shorten = (text: string) => {
  const line = text.replaceAll(/\s+/g, ' ')
  return line.length > 120 ? `${line.slice(0, 119)}…` : line
}

/** Whether ticks come, be it for slots or for tasks whose wake was lost. */
export function checkTicks(facts: Facts): Verdict[] {
  const { schedules } = facts
  if (schedules === undefined) return []
  const { tickedSeconds, overdueSeconds } = schedules
  const seconds = tickedSeconds ?? overdueSeconds
  if (isSleepy(facts) || seconds < workLimits.overdueSeconds) {
    return [
      ok(tickedSeconds === undefined ? 'none has come yet' : `the last one came ${span(tickedSeconds)} ago`),
    ]
  }
  const last =
    tickedSeconds === undefined ? 'No tick has ever come' : `The last tick came ${span(tickedSeconds)} ago`
  const isStopped = seconds >= workLimits.stoppedSeconds && schedules.schedules > schedules.paused
  return [
    (isStopped ? failure : warning)(
      `${last}: slots make no tasks, and a task whose wake was lost waits. See that the scheduler function is invoked, or that startRunner has scheduler: true.`,
    ),
  ]
}

export function checkSchedules(facts: Facts): Verdict[] {
  const { schedules } = facts
  if (schedules === undefined) return []
  const leftOut = schedules.leftOut.flatMap((app) =>
    app.leftOut.map((each) =>
      warning(`${leftOutMessage(each, app.app, app.newer)} (${app.at.toISOString()})`),
    ),
  )
  const planning = checkPlanning(facts, schedules)
  return leftOut.length > 0 && planning.every(({ level }) => level === 'ok')
    ? leftOut
    : [...planning, ...leftOut]
}

function checkPlanning(facts: Facts, schedules: ScheduleHealth): Verdict[] {
  const { overdue, oldest, overdueSeconds, tickedSeconds, paused } = schedules
  const active = schedules.schedules - paused
  const pausedToo = paused > 0 ? `, ${paused} paused` : ''
  if (overdueSeconds < workLimits.overdueSeconds) {
    return [
      ok(active === 0 ? `none to plan${pausedToo}` : `${count(active, 'schedule')} planned${pausedToo}`),
    ]
  }
  // A tick passes over a schedule that it cannot read, and plans the others.
  if (overdue < active) {
    return [
      failure(
        `Schedule "${oldest}" should have been planned ${span(overdueSeconds)} ago, while ${active - overdue} of ${active} are planned: look for "a schedule could not be planned" in the scheduler's log.`,
      ),
    ]
  }
  const waits = `"${oldest}" has waited for at least ${span(overdueSeconds)}`
  const level = overdueSeconds < workLimits.stoppedSeconds ? warning : failure
  if (isSleepy(facts)) {
    return [
      level(
        `No alarm has invoked the scheduler: ${waits}. Invoke it once, which sets the alarm again, and look in its log for why none was set.`,
      ),
    ]
  }
  if (tickedSeconds !== undefined && tickedSeconds < workLimits.overdueSeconds) {
    return [
      failure(
        `Ticks come, but plan nothing: ${waits}. Look for "a step of the tick failed" in the scheduler's log.`,
      ),
    ]
  }
  return [level(`Nothing is planned without ticks (see ticks): ${waits}.`)]
}

/** In sleepy mode nothing ticks, so an alarm has to be set for what is due next. */
export function checkAlarm(facts: Facts): Verdict[] {
  const { alarm, queues } = facts
  if (alarm === undefined || !isSleepy(facts)) return []
  const { now, armedAt, laterAt, overdueSince } = alarm
  const after = (at: Date, seconds: number) => new Date(at.getTime() + seconds * 1000)
  const { alarmSeconds } = workLimits
  // What is due only just has its wake on the way; for what is due soon a leaving runner may wait.
  const overdue =
    overdueSince !== undefined && overdueSince < after(now, -alarmSeconds) ? overdueSince : undefined
  const planned = laterAt !== undefined && laterAt > after(now, alarmSeconds) ? laterAt : undefined
  const isSet = armedAt !== undefined && armedAt > after(now, -alarmSeconds)
  if (isSet && (planned === undefined || armedAt <= after(planned, alarmSeconds))) {
    return [ok(`set for ${minute(armedAt)}`)]
  }
  const next = overdue ?? planned
  if (next === undefined) return [ok('nothing is planned, so none is needed')]
  if (queues?.some(({ running }) => running) === true) {
    return [ok('runners are at work, and set it when they leave')]
  }
  const known =
    armedAt === undefined
      ? 'no alarm was ever set'
      : `${isSet ? 'the alarm is set for' : 'the last alarm was for'} ${minute(armedAt)}`
  return [
    warning(
      `A task or slot ${overdue === undefined ? 'is due' : 'has been due since'} ${minute(next)}, but ${known}: only the sweep would start it. Invoke the scheduler once, which sets the alarm, and look in its log and the runners' for why none did.`,
    ),
  ]
}

const minute = (instant: Date) => `${instant.toISOString().slice(0, 16).replace('T', ' ')} UTC`

export function checkHistory(facts: Facts): Verdict[] {
  const { history, tables } = facts
  if (history === undefined) return []
  const { expired, oldestSeconds } = history
  const table = tables?.get('history')
  const extent = table === undefined ? 'an unknown size' : size(table.totalBytes)
  if (oldestSeconds < workLimits.expiredSeconds) return [ok(`pruned in time, ${extent}`)]
  return [
    warning(
      `Pruning is behind: ${atLeast(expired).replace('task', 'row')} should be gone, the oldest since ${span(oldestSeconds)} (the history takes ${extent}). ${isSleepy(facts) ? 'Each alarm and sweep' : 'Each tick'} removes ${count(defaults.prune.rows, 'row')}: see that ${isSleepy(facts) ? 'they come, or sweep' : 'ticks come, or tick'} more often.`,
    ),
  ]
}

/** In the order in which they are printed. */
export const workChecks: Readonly<Record<string, Check>> = {
  queues: checkQueues,
  losses: checkLosses,
  failures: checkFailures,
  ticks: checkTicks,
  schedules: checkSchedules,
  alarm: checkAlarm,
  history: checkHistory,
}
