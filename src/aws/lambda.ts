// `izta/lambda`: the handlers of the three functions.
export {
  createEnqueueHandler,
  type EnqueueHandler,
  type EnqueueHandlerOptions,
  type EnqueueHttpResponse,
} from './enqueue-handler.ts'
export type { EnqueueAnswer, EnqueueIssue } from './enqueue-request.ts'
export {
  createRunnerHandler,
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
export type { TickSummary } from '../scheduler.ts'
