// `izta/opentelemetry`: a span for each enqueue and each run, joined by the trace context that travels with the task.
//
// Follows the conventions for messaging spans, https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/:
// an enqueue is a producer's span of type "send", a run is a consumer's span of type "process" with a link to it.
import {
  context,
  isSpanContextValid,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Link,
  type Span,
  type SpanContext,
  type Tracer,
} from '@opentelemetry/api'
import * as z from 'zod/mini'
import { IztaError } from '../errors.ts'
import { checkOptions } from '../options.ts'
import type { SentTask, TracedEnd, Tracing } from './tracing.ts'

/** What `openTelemetry` takes. */
export interface OpenTelemetryOptions {
  /** @default `trace.getTracer('izta')` of the provider that the application has registered */
  readonly tracer?: Tracer | undefined
  /**
   * Where a run belongs: `parent` puts it into the trace of its enqueue, `link` into that of its invocation. It has a
   * link to the enqueue in both cases; take `link` where tasks wait longer than your traces are kept open.
   * @default 'parent'
   */
  readonly relation?: 'parent' | 'link' | undefined
}

const openTelemetryOptions = z.strictObject({
  tracer: z.optional(
    z
      .custom<Tracer>((value) => typeof (value as Partial<Tracer> | null)?.startSpan === 'function')
      .check(z.describe('a tracer of OpenTelemetry')),
  ),
  relation: z._default(z.enum(['parent', 'link']), 'parent'),
})

/**
 * Traces enqueues and runs with OpenTelemetry, by the SDK that the application sets up itself: izta only knows
 * `@opentelemetry/api`. The context travels in the task's row as a W3C `traceparent`; children of a task belong to its
 * run, and tasks of schedules begin traces of their own.
 *
 * @throws {OptionError} when an option is unknown or wrong.
 *
 * @example
 * ```ts
 * import { createIzta } from 'izta'
 * import { openTelemetry } from 'izta/opentelemetry'
 *
 * const traced = createIzta({ database, jobs: [divide], tracing: openTelemetry() })
 * ```
 */
export function openTelemetry(options: OpenTelemetryOptions = {}): Tracing {
  const { tracer = trace.getTracer('izta'), relation } = checkOptions(
    'openTelemetry',
    openTelemetryOptions,
    options,
  )

  /** Runs `work` with the span active; it ends with the work. */
  async function within<T>(span: Span, work: () => Promise<T>): Promise<T> {
    try {
      return await context.with(trace.setSpan(context.active(), span), work)
    } catch (error) {
      span.setStatus({ code: SpanStatusCode.ERROR })
      span.setAttribute('error.type', error instanceof IztaError ? error.code : '_OTHER')
      if (error instanceof Error) span.recordException(error)
      throw error
    } finally {
      span.end()
    }
  }

  return {
    enqueue(tasks, send) {
      const span = tracer.startSpan(nameOf('enqueue', tasks), {
        kind: SpanKind.PRODUCER,
        attributes: sendAttributes(tasks),
      })
      return within(span, () => send(textOf(span.spanContext())))
    },
    current() {
      const span = trace.getSpanContext(context.active())
      return span && textOf(span)
    },
    run(task, run, describe) {
      const made = readText(task.trace)
      const links: Link[] = made === undefined ? [] : [{ context: made }]
      let parent = context.active()
      if (made !== undefined && relation === 'parent') {
        const invocation = trace.getSpanContext(parent)
        if (invocation !== undefined) links.push({ context: invocation })
        parent = trace.setSpanContext(parent, made)
      }
      const span = tracer.startSpan(
        nameOf('run', [task]),
        {
          kind: SpanKind.CONSUMER,
          links,
          attributes: {
            ...shared('run', 'process', [task]),
            'messaging.message.id': task.id,
            'izta.job': task.job,
            'izta.attempt': task.attempt,
            'izta.losses': task.losses,
          },
        },
        parent,
      )
      return within(span, async () => {
        const ended = await run(textOf(span.spanContext()))
        record(span, describe(ended))
        return ended
      })
    },
  }
}

const queueOf = (tasks: readonly SentTask[]): string | undefined =>
  new Set(tasks.map(({ queue }) => queue)).size === 1 ? tasks[0]?.queue : undefined

function nameOf(operation: string, tasks: readonly SentTask[]): string {
  const queue = queueOf(tasks)
  return queue === undefined ? operation : `${operation} ${queue}`
}

function shared(name: string, type: string, tasks: readonly SentTask[]): Attributes {
  const queue = queueOf(tasks)
  return {
    'messaging.system': 'izta',
    'messaging.operation.name': name,
    'messaging.operation.type': type,
    ...(queue === undefined ? {} : { 'messaging.destination.name': queue }),
  }
}

function sendAttributes(tasks: readonly SentTask[]): Attributes {
  const [task] = tasks
  const jobs = new Set(tasks.map(({ job }) => job))
  return {
    ...shared('enqueue', 'send', tasks),
    ...(jobs.size === 1 && task !== undefined ? { 'izta.job': task.job } : {}),
    ...(tasks.length === 1 && task !== undefined
      ? { 'messaging.message.id': task.id }
      : { 'messaging.batch.message_count': tasks.length }),
  }
}

function record(span: Span, { outcome, failure }: TracedEnd): void {
  span.setAttribute('izta.outcome', outcome)
  if (failure === undefined) return
  const { code, class: name, message, stack } = failure
  span.setAttributes({ 'error.type': name, 'izta.failure.code': code })
  span.setStatus({ code: SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) })
  span.recordException({ name, message: message ?? code, ...(stack === undefined ? {} : { stack }) })
}

// Text of the form that https://www.w3.org/TR/trace-context/#traceparent-header defines.
const traceparent = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/

function textOf(span: SpanContext): string | undefined {
  if (!isSpanContextValid(span)) return undefined
  return `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, '0')}`
}

function readText(text: string | undefined): SpanContext | undefined {
  const [, traceId = '', spanId = '', flags = ''] = traceparent.exec(text ?? '') ?? []
  const span = { traceId, spanId, traceFlags: Number.parseInt(flags, 16), isRemote: true }
  return isSpanContextValid(span) ? span : undefined
}
