// A line of the results: its values, its ratio, its target, and the few statistics they need.

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
  /** Meeting this one is enough. */
  readonly or?: Target
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  const position = (sorted.length - 1) * share
  const low = sorted[Math.floor(position)] ?? NaN
  const high = sorted[Math.ceil(position)] ?? NaN
  return low + (high - low) * (position - Math.floor(position))
}

export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Whether the median meets the target, or the other one that is enough; undefined without one. */
export function isMet({ values, ratio, target }: Row): boolean | undefined {
  if (target === undefined) return undefined
  const meets = ({ of, atLeast = -Infinity, atMost = Infinity, or }: Target): boolean => {
    const got = median(of === 'ratio' ? (ratio?.values ?? []) : values)
    return (got >= atLeast && got <= atMost) || (or !== undefined && meets(or))
  }
  return meets(target)
}
