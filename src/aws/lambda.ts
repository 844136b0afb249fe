// `izta/lambda`: the handlers of the three functions, wakes by invocation, and a database whose URL is a secret.
export { alarmWake, type AlarmWakeOptions } from './alarm-wake.ts'
export { AwsError, type AwsCredentials, type AwsOptions } from './api.ts'
export { createEnqueueHandler, type EnqueueHandler, type EnqueueHandlerOptions } from './enqueue-handler.ts'
export type { EnqueueAnswer, EnqueueIssue } from './enqueue-answer.ts'
export type { EnqueueBatchAnswer } from './enqueue-batch.ts'
export type { EnqueueHttpResponse } from './enqueue-http.ts'
export { invokeWake, type InvokeWakeOptions } from './invoke-wake.ts'
export type { MetricsOption } from './metrics.ts'
export { rdsToken, type RdsConnection, type RdsTokenOptions } from './rds-token.ts'
export { secretDatabase, type SecretDatabaseOptions } from './secret.ts'
export {
  createRunnerHandler,
  type RunnerContext,
  type RunnerEvent,
  type RunnerHandler,
  type RunnerHandlerOptions,
} from './runner-handler.ts'
export {
  createSchedulerHandler,
  type SchedulerHandler,
  type SchedulerHandlerOptions,
} from './scheduler-handler.ts'
export type { RunSummary } from '../runner/report.ts'
export type { Alarm } from '../wake/wakes.ts'
export type { TickSummary } from '../scheduler/tick.ts'
