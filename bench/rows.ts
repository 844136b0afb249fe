// Rows of the results from runs that took turns.
import type { Compared, Interleaved } from './interleave.ts'
import type { Row, Target } from './row.ts'

/** Rows of an interleaved comparison: the baseline, then each contender with its ratios. */
export function comparedRows(
  compared: readonly Compared[],
  unit: string,
  targets: Readonly<Record<string, Target | undefined>> = {},
  to = compared[0]?.contender.label ?? '',
): Row[] {
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
