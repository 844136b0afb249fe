// The deployed functions of a stack, their limits and the account's: facts for `izta doctor --stack`.
import * as z from 'zod/mini'
import en from 'zod/v4/locales/en.js'
import type { AwsApi } from '../aws/api.ts'
import { IztaError } from '../errors.ts'

export interface StackFacts {
  readonly name: string
  readonly runners: readonly RunnerFunction[]
  /** Invocations at once of all functions of the account in this region. */
  readonly accountConcurrency: number
  /** Of these, what no function has reserved. */
  readonly unreservedConcurrency: number
}

/** A function that has queues. */
export interface RunnerFunction {
  readonly name: string
  readonly timeoutSeconds: number
  /** Empty for all. */
  readonly queues: readonly string[]
  /** Invocations at once; absent when it shares the account's. */
  readonly reservedConcurrency: number | undefined
}

const functionPage = z.object({
  NextMarker: z.nullish(z.string()),
  Functions: z.array(
    z.object({
      FunctionName: z.string(),
      Timeout: z.number(),
      Environment: z.nullish(z.object({ Variables: z._default(z.record(z.string(), z.string()), {}) })),
    }),
  ),
})
const concurrency = z.object({ ReservedConcurrentExecutions: z.nullish(z.number()) })
const accountSettings = z.object({
  AccountLimit: z.object({ ConcurrentExecutions: z.number(), UnreservedConcurrentExecutions: z.number() }),
})

/** Runners are told from other functions by the variable with their queues. */
const queuesVariable = 'IZTA_QUEUES'

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
  const found: Omit<RunnerFunction, 'reservedConcurrency'>[] = []
  let marker: string | null | undefined
  do {
    const query = new URLSearchParams({ MaxItems: '50', ...(marker ? { Marker: marker } : {}) })
    const page = await get(`/2015-03-31/functions?${query.toString()}`, functionPage)
    for (const { FunctionName: name, Timeout: timeoutSeconds, Environment } of page.Functions) {
      const queues = Environment?.Variables[queuesVariable]
      if (!name.startsWith(`${stack}-`) || queues === undefined) continue
      found.push({ name, timeoutSeconds, queues: listOf(queues) })
    }
    marker = page.NextMarker
  } while (marker)
  const runners: RunnerFunction[] = []
  for (const runner of found) {
    const path = `/2019-09-30/functions/${encodeURIComponent(runner.name)}/concurrency`
    const { ReservedConcurrentExecutions: reserved } = await get(path, concurrency)
    runners.push({ ...runner, reservedConcurrency: reserved ?? undefined })
  }
  const { AccountLimit } = await get('/2016-08-19/account-settings', accountSettings)
  return {
    name: stack,
    runners,
    accountConcurrency: AccountLimit.ConcurrentExecutions,
    unreservedConcurrency: AccountLimit.UnreservedConcurrentExecutions,
  }
}

const listOf = (text: string) =>
  text
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '')
