// Metrics of the functions, in CloudWatch's embedded format: counted from events, written once an invocation.
import { Metrics, MetricUnit } from '@aws-lambda-powertools/metrics'
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import { environment } from '../environment.ts'
import type { DueQueue } from '../observe/events.ts'
import { isLambda } from './invocation.ts'

export interface FunctionMetrics {
  /** Writes what has happened since the last time. */
  flush(): void
}

interface Metric {
  readonly unit: (typeof MetricUnit)[keyof typeof MetricUnit]
  readonly values: number[]
  /** How many there were, those left out included. */
  seen: number
}

/** Of one metric in one invocation: enough for percentiles, and a bound for the log. */
const mostValues = 500

/** The option `metrics` of the handlers: all of them, the few that the template's alarms read, or none. */
export type MetricsOption = boolean | 'few'

export const metricsSchema = z._default(
  z.union([z.boolean(), z.literal('few')]).check(z.describe("true, false or 'few'")),
  () => (isLambda() ? 'few' : false),
)

/** docs/telemetry.md lists the metrics. */
export function collectMetrics(
  { app, events }: ResolvedConfig,
  wanted: MetricsOption,
): FunctionMetrics | undefined {
  if (wanted === false) return undefined
  const all = wanted === true
  /** By queue; undefined for those of the function. */
  const groups = new Map<string | undefined, Map<string, Metric>>()
  const wakes = { sent: new Set<string>(), failed: new Set<string>() }

  function metric(queue: string | undefined, name: string, unit: Metric['unit']): Metric {
    const group = groups.get(queue) ?? new Map<string, Metric>()
    groups.set(queue, group)
    const found = group.get(name) ?? { unit, values: [], seen: 0 }
    group.set(name, found)
    return found
  }

  function add(queue: string | undefined, name: string, unit: Metric['unit'], amount: number): void {
    const { values } = metric(queue, name, unit)
    values[0] = (values[0] ?? 0) + amount
  }
  const count = (queue: string, name: string) => add(queue, name, MetricUnit.Count, 1)

  /** Beyond the most that are kept, each has the same chance to stay. */
  function sample(queue: string | undefined, name: string, unit: Metric['unit'], value: number): void {
    const sampled = metric(queue, name, unit)
    const place = sampled.seen < mostValues ? sampled.seen : Math.floor(Math.random() * (sampled.seen + 1))
    if (place < mostValues) sampled.values[place] = value
    sampled.seen++
  }
  const ran = ({ queue, durationMs }: { queue: string; durationMs: number }) =>
    sample(queue, 'RunDuration', MetricUnit.Milliseconds, durationMs)

  if (all) countTasks()

  events.on('wake.sent', ({ queue }) => wakes.sent.add(queue))
  events.on('wake.failed', ({ queue }) => wakes.failed.add(queue))
  events.on('tick.completed', ({ queues }) => {
    if (all) {
      for (const { queue, due, oldestDueMs } of queues) {
        sample(queue, 'Due', MetricUnit.Count, due)
        sample(queue, 'OldestDueAge', MetricUnit.Seconds, oldestDueMs / 1000)
      }
    }
    // A paused queue waits on purpose.
    const open = queues.filter(({ paused }) => !paused)
    const worst = (of: (queue: DueQueue) => number) => Math.max(0, ...open.map(of))
    add(undefined, 'Ticks', MetricUnit.Count, 1)
    const due = open.reduce((sum, queue) => sum + queue.due, 0)
    if (all) sample(undefined, 'AllDue', MetricUnit.Count, due)
    sample(undefined, 'AllOldestDueAge', MetricUnit.Seconds, worst(({ oldestDueMs }) => oldestDueMs) / 1000)
    const without = [...wakes.failed].filter((queue) => !wakes.sent.has(queue))
    sample(undefined, 'QueuesWithoutRunner', MetricUnit.Count, without.length)
  })

  function countTasks(): void {
    events.on('task.claimed', ({ queue }) => count(queue, 'Claimed'))
    events.on('task.started', ({ queue, waitedMs }) =>
      sample(queue, 'StartDelay', MetricUnit.Milliseconds, Math.max(0, waitedMs)),
    )
    events.on('task.finished', (event) => {
      count(event.queue, 'Finished')
      ran(event)
    })
    events.on('task.failed', (event) => {
      count(event.queue, 'Failed')
      ran(event)
    })
    events.on('task.retried', (event) => {
      count(event.queue, 'Retried')
      ran(event)
    })
    events.on('task.released', ({ queue }) => count(queue, 'Released'))
    events.on('task.deferred', ({ queue }) => count(queue, 'Released'))
    events.on('task.lost', ({ queue }) => count(queue, 'Lost'))
    events.on('statement.completed', ({ durationMs }) =>
      add(undefined, 'DatabaseTime', MetricUnit.Milliseconds, durationMs),
    )
    events.on('schedule.planned', ({ lagMs }) =>
      sample(undefined, 'SchedulerLag', MetricUnit.Milliseconds, lagMs),
    )
  }

  return {
    flush() {
      const functionName = environment('AWS_LAMBDA_FUNCTION_NAME') ?? 'local'
      for (const [queue, group] of groups) {
        // One a group: its dimensions stay when it writes a part early, for having a hundred values.
        const metrics = new Metrics({
          namespace: 'izta',
          serviceName: app,
          defaultDimensions: { function: functionName, ...(queue === undefined ? {} : { queue }) },
        })
        for (const [name, { unit, values }] of group) {
          for (const value of values) metrics.addMetric(name, unit, value)
        }
        if (metrics.hasStoredMetrics()) metrics.publishStoredMetrics()
      }
      groups.clear()
      wakes.sent.clear()
      wakes.failed.clear()
    },
  }
}
