// The shape of a measure and of its answers, and the few statistics they need.
import type { Bench, Compared, Interleaved } from './bench.ts'

export interface Measure {
  readonly name: string
  /** One sentence for the table and `--help`. */
  readonly title: string
  run(bench: Bench): Promise<Row[]>
}

/** One line of the table. */
export interface Row {
  readonly subject: string
  readonly unit: string
  readonly values: readonly number[]
  /** Against what, round by round. */
  readonly ratio?: { readonly to: string; readonly values: readonly number[] } | undefined
  readonly target?: Target | undefined
}

export interface Target {
  readonly of: 'value' | 'ratio'
  readonly atLeast?: number
  readonly atMost?: number
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const position = (sorted.length - 1) * share
  const low = sorted[Math.floor(position)] ?? NaN
  const high = sorted[Math.ceil(position)] ?? NaN
  return low + (high - low) * (position - Math.floor(position))
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Whether the median meets the target; undefined without one. */
export function isMet({ values, ratio, target }: Row): boolean | undefined {
  if (target === undefined) return undefined
  const got = median(target.of === 'ratio' ? (ratio?.values ?? []) : values)
  return got >= (target.atLeast ?? -Infinity) && got <= (target.atMost ?? Infinity)
}

/** Rows of an interleaved comparison: the baseline, then each contender with its ratios. */
export function comparedRows(
  compared: readonly Compared[],
  unit: string,
  targets: Readonly<Record<string, Target>> = {},
): Row[] {
  const to = compared[0]?.contender.label ?? ''
  return compared.map(({ contender, values, ratios }) => ({
    subject: contender.label,
    unit,
    values,
    ratio: ratios.length === 0 ? undefined : { to, values: ratios },
    target: targets[contender.label],
  }))
}

/** A ratio between two contenders of the same comparison, round by round. */
export function ratioRow(
  compared: readonly Compared[],
  label: string,
  to: string,
  unit: string,
  target: Target,
): Row[] {
  const [one, other] = [label, to].map((name) => compared.find(({ contender }) => contender.label === name))
  if (one === undefined || other === undefined) return []
  const values = one.ratios.map((ratio, round) => ratio / (other.ratios[round] ?? NaN))
  return [{ subject: label, unit, values: one.values, ratio: { to, values }, target }]
}

/** What the server's processes used, of the contenders where it could be measured. */
export function serverCpuRows(
  interleaved: readonly Interleaved<{ readonly serverCpuMicrosPerTask?: number }>[],
): Row[] {
  return interleaved.flatMap(({ contender, runs }) => {
    const values = runs.flatMap(({ result }) => result.serverCpuMicrosPerTask ?? [])
    if (values.length === 0 || values.some((value) => !Number.isFinite(value))) return []
    return [{ subject: contender.label, unit: 'µs server CPU/task', values }]
  })
}
