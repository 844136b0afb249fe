// The public API: define jobs and schedules, enqueue, read, and run in process.
export { createIzta, type Izta } from './client/izta.ts'
export type { CancelOutcome, RetryOutcome } from './client/tasks.ts'
export type { Enqueued, EnqueueItem, EnqueueStatement, SharedEnqueueOptions } from './client/enqueue.ts'
export type { ListOptions, StatusCounts, TaskPage } from './client/read.ts'
export type { Schedules } from './client/schedules.ts'
export type { Clock } from './clock.ts'
export type { IztaOptions } from './config.ts'
export type { CallOptions } from './db/call-end.ts'
export type { Database, Lane, QueryOptions, Row, SqlText, Statement } from './db/database.ts'
export {
  DatabaseAccessError,
  DatabaseError,
  DatabaseUnreachableError,
  DefinitionError,
  IztaError,
  JobMismatchError,
  KeyTakenError,
  NotMigratedError,
  OptionError,
  PayloadError,
  SchemaTooNewError,
  StateError,
  UnknownJobError,
  WaitTimeoutError,
  type InputIssue,
  type FailureCode,
} from './errors.ts'
export type { EnqueueArguments, EnqueueOptions, FailOptions, JobContext, TaskInfo } from './job/context.ts'
export {
  defineJob,
  implementJob,
  type AnyJob,
  type DefinedJob,
  type ErrorOutput,
  type Handler,
  type Job,
  type JobDefinition,
  type JobOptions,
  type Kept,
  type PayloadInput,
  type ResultOutput,
  type RetentionOptions,
} from './job/job.ts'
export type { JsonValue } from './job/json-types.ts'
export type { BackoffOptions } from './job/retry.ts'
export {
  defineSchedule,
  type CronFields,
  type Schedule,
  type ScheduleInterval,
  type ScheduleOptions,
  type ScheduleRule,
} from './job/schedule.ts'
export type { EndedTask, Task, TaskError, TaskStatus } from './job/task.ts'
export { consoleLogger, type Logger } from './observe/log.ts'
export { startRunner, type Runner, type RunnerOptions } from './runner/server.ts'
export type { LeftOutSchedule, StoredSchedules } from './scheduler/sync.ts'
export type { QueueInfo } from './store/queues.ts'
export type { ScheduleInfo } from './store/schedules.ts'
export type { DueQueue, IztaEventName, IztaEvents } from './observe/events.ts'
export type { SentTask, StartedTask, TracedEnd, Tracing } from './observe/tracing.ts'
export type { Wake } from './wake/wakes.ts'
