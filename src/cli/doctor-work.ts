// Checks of `izta doctor` on queues, tasks, schedules, history and functions: pure functions from facts to verdicts.
import { defaults } from '../defaults.ts'
import { healthRows } from '../store/health.ts'
import type { Facts } from './doctor-facts.ts'
import { count, failure, ok, size, some, span, warning, type Verdict } from './doctor-finding.ts'

/** Where a verdict turns. */
export const workLimits = {
  /** Longer than a tick that comes once a minute. */
  waitingSeconds: 90,
  stalledSeconds: 600,
  lostTasks: 3,
  failedShare: 0.05,
  failingTasks: 10,
  /** Longer than a tick that comes every five minutes. */
  overdueSeconds: 360,
  stoppedSeconds: 3600,
  expiredSeconds: 86_400,
  /** https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
  functionSeconds: 900,
  smallAccount: 100,
} as const

type Check = (facts: Facts) => readonly Verdict[]

export function checkQueues({ queues }: Facts): Verdict[] {
  if (queues === undefined) return []
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
        `Queue "${name}" has ${waiting}, and nobody claims: see that a runner has this queue, that ticks come, and what the runner logs.`,
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

export function checkSchedules({ schedules }: Facts): Verdict[] {
  if (schedules === undefined) return []
  const { overdue, oldest, overdueSeconds, paused } = schedules
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
  const level = overdueSeconds < workLimits.stoppedSeconds ? warning : failure
  return [
    level(
      `No tick for at least ${span(overdueSeconds)}: "${oldest}" waits for it. See that the scheduler function is invoked, or that startRunner has scheduler: true.`,
    ),
  ]
}

export function checkHistory({ history, tables }: Facts): Verdict[] {
  if (history === undefined) return []
  const { expired, oldestSeconds } = history
  const table = tables?.get('history')
  const extent = table === undefined ? 'an unknown size' : size(table.totalBytes)
  if (oldestSeconds < workLimits.expiredSeconds) return [ok(`pruned in time, ${extent}`)]
  return [
    warning(
      `Pruning is behind: ${atLeast(expired).replace('task', 'row')} should be gone, the oldest since ${span(oldestSeconds)} (the history takes ${extent}). Each tick removes ${count(defaults.prune.rows, 'row')}: see that ticks come, or tick more often.`,
    ),
  ]
}

/** A runner refuses to start when a job with a handler does not fit: src/runner/deadline.ts. */
export function checkTimeouts({ definitions, stack }: Facts): Verdict[] {
  if (definitions === undefined) return []
  const { stopSeconds } = defaults.runner
  const verdicts = definitions.flatMap(({ name, queue, timeoutSeconds }): Verdict[] => {
    const needed = timeoutSeconds + stopSeconds
    if (stack === undefined) {
      return needed <= workLimits.functionSeconds
        ? []
        : [
            warning(
              `Job "${name}" may run ${timeoutSeconds} s and needs ${stopSeconds} s more: no Lambda function has more than ${workLimits.functionSeconds} s. Lower its timeoutSeconds, or run it with startRunner only.`,
            ),
          ]
    }
    const own = stack.runners.filter(({ queues }) => queues.length === 0 || queues.includes(queue))
    if (own.length === 0) {
      return [
        failure(
          `Job "${name}" waits in queue "${queue}", which no function of ${stack.name} runs: add it to IZTA_QUEUES of one.`,
        ),
      ]
    }
    return stack.runners
      .filter((runner) => needed > runner.timeoutSeconds)
      .map((runner) => {
        const level = own.includes(runner) ? failure : warning
        const aside = own.includes(runner)
          ? ''
          : ' if its bundle has the job, though the job is of another queue'
        return level(
          `Job "${name}" may run ${timeoutSeconds} s and needs ${stopSeconds} s more; ${runner.name} has ${runner.timeoutSeconds} s and refuses to start${aside}: raise its timeout or lower timeoutSeconds.`,
        )
      })
  })
  const longest = Math.max(0, ...definitions.map(({ timeoutSeconds }) => timeoutSeconds))
  return verdicts.length > 0
    ? verdicts
    : [ok(`${count(definitions.length, 'job')}, the longest ${longest} s`)]
}

export function checkFunctions({ stack }: Facts): Verdict[] {
  if (stack === undefined) return []
  const { name, runners, accountConcurrency, unreservedConcurrency } = stack
  if (runners.length === 0) {
    return [
      failure(
        `No function ${name}-… with the variable IZTA_QUEUES: check the name of the stack (service-stage) and the region.`,
      ),
    ]
  }
  const verdicts = runners
    .filter(({ reservedConcurrency }) => reservedConcurrency === 0)
    .map((runner) => failure(`${runner.name} has a reserved concurrency of 0, so it never runs: raise it.`))
  const shared = runners.filter(({ reservedConcurrency }) => reservedConcurrency === undefined)
  if (accountConcurrency < workLimits.smallAccount) {
    verdicts.push(
      warning(
        `The account runs ${accountConcurrency} invocations at once, all functions together: ask AWS for more (Service Quotas, Concurrent executions) before maxRunners is set.`,
      ),
    )
  }
  if (verdicts.length > 0) return verdicts
  const rest =
    shared.length > 0
      ? `; ${some(shared.map((runner) => runner.name))} may use all of ${unreservedConcurrency}`
      : ''
  return [ok(`${count(runners.length, 'runner')}${rest}`)]
}

/** In the order in which they are printed. */
export const workChecks: Readonly<Record<string, Check>> = {
  queues: checkQueues,
  losses: checkLosses,
  failures: checkFailures,
  schedules: checkSchedules,
  history: checkHistory,
  timeouts: checkTimeouts,
  functions: checkFunctions,
}
