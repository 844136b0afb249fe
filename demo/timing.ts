// How long tasks waited and ran, from the events of the runner.
import type { Izta } from '../src/index.ts'

export interface Timing {
  readonly what: string
  readonly p50Ms: number
  readonly p95Ms: number
  readonly maxMs: number
}

/** Listens from now on; the result tells of what has been heard by then. */
export function recordTimings(izta: Izta): () => Timing[] {
  const waitedMs: number[] = []
  const ranMs: number[] = []
  izta.on('task.started', (event) => waitedMs.push(event.waitedMs))
  izta.on('task.finished', (event) => ranMs.push(event.durationMs))
  izta.on('task.failed', (event) => ranMs.push(event.durationMs))
  return () => [summarise('due → started', waitedMs), summarise('started → settled', ranMs)]
}

export function summarise(what: string, durationsMs: readonly number[]): Timing {
  const sorted = durationsMs.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0
  return { what, p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) }
}
