// One invocation: its id in every log line that it causes, and what is to be written at its end.
import type { Context } from 'aws-lambda'
import { environment } from '../environment.ts'
import { inLogScope } from '../observe/log.ts'
import type { FunctionMetrics } from './metrics.ts'

/** The parts of Lambda's context that are used, as far as they are there. */
export type InvocationContext = Partial<Pick<Context, 'awsRequestId'>> | undefined

/** Whether this process is a Lambda function. */
export const isLambda = (): boolean => environment('AWS_LAMBDA_RUNTIME_API') !== undefined

export async function runInvocation<T>(
  context: InvocationContext,
  metrics: FunctionMetrics | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const invocation = context?.awsRequestId
  try {
    return await inLogScope(invocation === undefined ? {} : { invocation }, work)
  } finally {
    metrics?.flush()
  }
}
