// `izta/testing`: run jobs and schedules in tests, at times of their choosing.
export { createTestClock, type Span, type TestClock, type TestClockOptions } from './clock.ts'
export { drain, type DrainOptions } from './drain.ts'
export { runJob, type RunJobChild, type RunJobOptions, type RunJobResult } from './run-job.ts'
