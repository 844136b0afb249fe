// Traces: a port that izta/opentelemetry implements, and the default that traces nothing.
import { redactedText, type Redact } from './log.ts'

/** A task on its way into the database. */
export interface SentTask {
  readonly id: string
  readonly queue: string
  readonly job: string
}

/** A task that starts to run. */
export interface StartedTask extends SentTask {
  /** What `enqueue` or `current` gave to the task, when it was made. */
  readonly trace: string | undefined
  /** Number of this run, from 1. */
  readonly attempt: number
  readonly losses: number
}

/** How a run has ended, without anything that quotes payloads and results. */
export interface TracedEnd {
  /** What becomes of the task. */
  readonly outcome:
    'finish' | 'fail' | 'drop' | 'cancel' | 'retry' | 'retry-after-lease' | 'defer' | 'release'
  readonly failure?:
    | { readonly code: string; readonly class: string; readonly message?: string; readonly stack?: string }
    | undefined
}

/** What `createIzta({ tracing })` takes. None of the methods fails by itself. */
export interface Tracing {
  /** Calls `send` within a span; the text that it gets travels with the tasks. */
  enqueue<T>(tasks: readonly SentTask[], send: (trace: string | undefined) => Promise<T>): Promise<T>
  /** The text for tasks of a statement that the application sends itself. */
  current(): string | undefined
  /** Calls `run` within a span; the text that it gets travels with the children. */
  run<T>(
    task: StartedTask,
    run: (trace: string | undefined) => Promise<T>,
    describe: (ended: T) => TracedEnd,
  ): Promise<T>
}

/** The messages and stacks of its spans pass through `redact` first. */
export const redactedTracing = (tracing: Tracing, redact: Redact): Tracing => ({
  enqueue: (tasks, send) => tracing.enqueue(tasks, send),
  current: () => tracing.current(),
  run: (task, run, describe) =>
    tracing.run(task, run, (ended) => {
      const { outcome, failure } = describe(ended)
      if (failure === undefined) return { outcome }
      const { message, stack, ...rest } = failure
      const text = (name: 'message' | 'stack', value: string | undefined) =>
        value === undefined ? {} : { [name]: redactedText(value, redact) }
      return { outcome, failure: { ...rest, ...text('message', message), ...text('stack', stack) } }
    }),
})

export const noTracing: Tracing = {
  enqueue: (_tasks, send) => send(undefined),
  current: () => undefined,
  run: (_task, run) => run(undefined),
}
