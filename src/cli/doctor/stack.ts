// The deployed functions of a stack, their limits and the account's: facts for `izta doctor --stack`.
import * as z from 'zod/mini'
import en from 'zod/v4/locales/en.js'
import type { AwsApi } from '../../aws/api.ts'
import { IztaError } from '../../errors.ts'

export interface StackFacts {
  readonly name: string
  readonly runners: readonly RunnerFunction[]
  /** Functions of izta that are no runners: scheduler and enqueue. */
  readonly others: readonly StackFunction[]
  /** Whether functions are told to set alarms, as in sleepy mode. */
  readonly setsAlarms: boolean
  /** Invocations at once of all functions of the account in this region. */
  readonly accountConcurrency: number
  /** Of these, what no function has reserved. */
  readonly unreservedConcurrency: number
}

export interface StackFunction {
  readonly name: string
  readonly timeoutSeconds: number
  /** `nodejs24.x`; absent for container images. */
  readonly runtime: string | undefined
  /** Invocations at once; absent when it shares the account's. */
  readonly reservedConcurrency: number | undefined
}

/** A function that has queues. */
export interface RunnerFunction extends StackFunction {
  /** Empty for all. */
  readonly queues: readonly string[]
}

const functionPage = z.object({
  NextMarker: z.nullish(z.string()),
  Functions: z.array(
    z.object({
      FunctionName: z.string(),
      Timeout: z.number(),
      Runtime: z.nullish(z.string()),
      Environment: z.nullish(z.object({ Variables: z._default(z.record(z.string(), z.string()), {}) })),
    }),
  ),
})
const concurrency = z.object({ ReservedConcurrentExecutions: z.nullish(z.number()) })
const accountSettings = z.object({
  AccountLimit: z.object({ ConcurrentExecutions: z.number(), UnreservedConcurrentExecutions: z.number() }),
})

/** Functions of izta are told from others by their variables, and runners by the one with their queues. */
const variablePrefix = 'IZTA_'
const queuesVariable = 'IZTA_QUEUES'
const alarmVariable = 'IZTA_ALARM_ROLE'

/**
 * Needs lambda:ListFunctions, lambda:GetFunctionConcurrency and lambda:GetAccountSettings.
 *
 * @throws {AwsError}
 */
export async function gatherStackFacts(aws: AwsApi, stack: string): Promise<StackFacts> {
  async function get<T>(path: string, schema: z.ZodMiniType<T>): Promise<T> {
    const { body } = await aws({ service: 'lambda', method: 'GET', path })
    const parsed = schema.safeParse(body, { error: en().localeError })
    if (parsed.success) return parsed.data
    throw new IztaError(
      'unexpected-answer',
      `AWS lambda ${path} gave an answer of another form: ${z.prettifyError(parsed.error)}`,
    )
  }
  async function reservedConcurrencyOf(name: string): Promise<number | undefined> {
    const path = `/2019-09-30/functions/${encodeURIComponent(name)}/concurrency`
    return (await get(path, concurrency)).ReservedConcurrentExecutions ?? undefined
  }
  const runners: RunnerFunction[] = []
  const others: StackFunction[] = []
  let setsAlarms = false
  let marker: string | null | undefined
  do {
    const query = new URLSearchParams({ MaxItems: '50', ...(marker ? { Marker: marker } : {}) })
    const page = await get(`/2015-03-31/functions?${query.toString()}`, functionPage)
    for (const {
      FunctionName: name,
      Timeout: timeoutSeconds,
      Runtime: runtime,
      Environment,
    } of page.Functions) {
      const variables = Environment?.Variables ?? {}
      if (!name.startsWith(`${stack}-`) || !Object.keys(variables).some(isOurs)) continue
      const reservedConcurrency = await reservedConcurrencyOf(name)
      const found = { name, timeoutSeconds, runtime: runtime ?? undefined, reservedConcurrency }
      const queues = variables[queuesVariable]
      if (queues === undefined) others.push(found)
      else runners.push({ ...found, queues: listOf(queues) })
      if (variables[alarmVariable]) setsAlarms = true
    }
    marker = page.NextMarker
  } while (marker)
  const { AccountLimit } = await get('/2016-08-19/account-settings', accountSettings)
  return {
    name: stack,
    runners,
    others,
    setsAlarms,
    accountConcurrency: AccountLimit.ConcurrentExecutions,
    unreservedConcurrency: AccountLimit.UnreservedConcurrentExecutions,
  }
}

const isOurs = (variable: string) => variable.startsWith(variablePrefix)

const listOf = (text: string) =>
  text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
