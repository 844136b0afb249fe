// One invocation: its id in every log line that it causes, and what is to be written at its end.
import type { Context } from 'aws-lambda'
import * as z from 'zod/mini'
import { systemClock } from '../clock.ts'
import type { ResolvedConfig } from '../config.ts'
import { untilDeadline } from '../db/gated.ts'
import { environment } from '../environment.ts'
import { inLogScope } from '../observe/log.ts'

/** The parts of Lambda's context that are used, as far as they are there. */
export type InvocationContext =
  Partial<Pick<Context, 'awsRequestId' | 'getRemainingTimeInMillis'>> | undefined

/** What Lambda passes as the third argument, which ours do not read; it only fits the types of `aws-lambda`. */
export type UnusedCallback = (...values: never[]) => void

const wakeEvent = z.object({ hops: z.int().check(z.minimum(0)) })

/** How many functions have started each other for the same work; undefined for an event that is no wake. */
export const hopsOf = (event: unknown): number | undefined => wakeEvent.safeParse(event).data?.hops

/** Whether this process is a Lambda function. */
export const isLambda = (): boolean => environment('AWS_LAMBDA_RUNTIME_API') !== undefined

/** What a function keeps of its time for its answer. */
const answerMs = 500

/** The configuration for one invocation: its calls end before the function is killed, so that their errors are told. */
export function withinInvocation(config: ResolvedConfig, context: InvocationContext): ResolvedConfig {
  const remainingMs = context?.getRemainingTimeInMillis?.()
  if (remainingMs === undefined) return config
  const deadlineMs = systemClock.now() + Math.max(answerMs, remainingMs - answerMs)
  return { ...config, database: untilDeadline(config.database, deadlineMs) }
}

export async function runInvocation<T>(
  context: InvocationContext,
  metrics: { flush(): void } | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const invocation = context?.awsRequestId
  try {
    return await inLogScope(invocation === undefined ? {} : { invocation }, work)
  } finally {
    metrics?.flush()
  }
}
