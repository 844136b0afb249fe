// Checks of `izta doctor` on deployed functions and the connections they open: pure functions from facts to verdicts.
import { pgDefaults } from '../../adapters/pg.ts'
import { defaults } from '../../defaults.ts'
import { sharesConnections } from './connection.ts'
import type { Facts } from './facts.ts'
import { count, failure, ok, some, warning, type Verdict } from './finding.ts'
import type { StackFacts, StackFunction } from './stack.ts'

/** Where a verdict turns. */
export const functionLimits = {
  /** https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
  functionSeconds: 900,
  smallAccount: 100,
  /** As `engines` of package.json has it. */
  oldestNode: 22,
  /** Of a scheduler or enqueue function without a limit of its own. */
  usualInvocations: 2,
  usedShare: 0.8,
} as const

type Check = (facts: Facts) => readonly Verdict[]

/** A runner refuses to start when a job of its queues does not fit: src/runner/deadline.ts. */
export function checkTimeouts({ definitions, stack }: Facts): Verdict[] {
  if (definitions === undefined) return []
  const { stopSeconds } = defaults.runner
  const verdicts = definitions.flatMap(({ name, queue, timeoutSeconds }): Verdict[] => {
    const needed = timeoutSeconds + stopSeconds
    if (stack === undefined) {
      return needed <= functionLimits.functionSeconds
        ? []
        : [
            warning(
              `Job "${name}" may run ${timeoutSeconds} s and needs ${stopSeconds} s more: no Lambda function has more than ${functionLimits.functionSeconds} s. Lower its timeoutSeconds, or run it with startRunner only.`,
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
    return own
      .filter((runner) => needed > runner.timeoutSeconds)
      .map((runner) =>
        failure(
          `Job "${name}" may run ${timeoutSeconds} s and needs ${stopSeconds} s more; ${runner.name} has ${runner.timeoutSeconds} s and refuses to start: raise its timeout or lower timeoutSeconds.`,
        ),
      )
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
        `No function ${name}-… has the variable IZTA_QUEUES, by which runners are known: check the name of the stack (service-stage) and the region.`,
      ),
    ]
  }
  const verdicts = runners
    .filter(({ reservedConcurrency }) => reservedConcurrency === 0)
    .map((runner) => failure(`${runner.name} has a reserved concurrency of 0, so it never runs: raise it.`))
  const shared = runners.filter(({ reservedConcurrency }) => reservedConcurrency === undefined)
  if (accountConcurrency < functionLimits.smallAccount) {
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
  const reserved = invocationsOf(runners, 0)
  const share =
    reserved > 0
      ? `, ${reserved} of the account's ${count(accountConcurrency, 'invocation')} reserved for them`
      : ''
  return [ok(`${count(runners.length, 'runner')}${share}${rest}`)]
}

export function checkRuntime({ stack }: Facts): Verdict[] {
  if (stack === undefined) return []
  const functions = [...stack.runners, ...stack.others]
  const { oldestNode } = functionLimits
  const old = functions.filter(
    ({ runtime = '' }) => Number(/^nodejs(\d+)/.exec(runtime)?.[1] ?? oldestNode) < oldestNode,
  )
  if (old.length > 0) {
    return old.map(({ name, runtime }) =>
      failure(
        `${name} has the runtime ${runtime}, which is too old: izta needs nodejs${oldestNode}.x or newer. Set nodejs24.x and deploy again.`,
      ),
    )
  }
  const runtimes = [...new Set(functions.map(({ runtime }) => runtime ?? 'container image'))]
  return runtimes.length === 0 ? [] : [ok(runtimes.join(', '))]
}

/** An invocation opens as many as its pool has, `max` of `pgDatabase`, when it needs them. */
export function checkConnections({ server, stack, connectionString }: Facts): Verdict[] {
  if (server === undefined) return []
  if (connectionString !== undefined && sharesConnections(connectionString))
    return [ok("a pooler or Neon's HTTP stands between the functions and the server")]
  const { user, connections, ownConnections = connections, usedConnections } = server
  const most = Math.min(connections, ownConnections)
  const whose =
    ownConnections < connections ? ` that ${user} may have in this database` : ' that the server has'
  if (usedConnections >= connections * functionLimits.usedShare)
    return [
      warning(
        `${usedConnections} of ${count(connections, 'connection')} are in use: lower maxRunners or max of pgDatabase, raise max_connections, or put a pooler between.`,
      ),
    ]
  if (stack === undefined || stack.runners.length === 0) {
    return [ok(`${usedConnections} of ${connections} in use`)]
  }
  return [atFullLoad(stack, most, `${count(most, 'connection')}${whose}`)]
}

function atFullLoad(stack: StackFacts, most: number, limit: string): Verdict {
  const { max } = pgDefaults
  const shared = stack.runners.filter(({ reservedConcurrency }) => reservedConcurrency === undefined)
  const invocations =
    invocationsOf(stack.runners, 0) +
    invocationsOf(stack.others, functionLimits.usualInvocations) +
    (shared.length > 0 ? stack.unreservedConcurrency : 0)
  const needed = invocations * max
  const load = `${count(invocations, 'invocation')} at once × ${max} of each pool = ${needed}`
  if (needed <= most) return ok(`${load} at full load, of ${limit}`)
  const advice =
    shared.length > 0
      ? `set maxRunners of ${some(shared.map(({ name }) => name))}, which may use all of the account's concurrency`
      : 'lower maxRunners'
  return warning(
    `At full load the functions may open more than the ${limit} (${load}): ${advice}, lower max of pgDatabase, raise max_connections, or put a pooler between.`,
  )
}

const invocationsOf = (functions: readonly StackFunction[], unreserved: number) =>
  functions.reduce((sum, { reservedConcurrency = unreserved }) => sum + reservedConcurrency, 0)

/** In the order in which they are printed. */
export const functionChecks: Readonly<Record<string, Check>> = {
  timeouts: checkTimeouts,
  functions: checkFunctions,
  runtime: checkRuntime,
  connections: checkConnections,
}
