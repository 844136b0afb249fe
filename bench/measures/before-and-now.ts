// One case of izta now between runs of izta before.
import type { Bench, WorkResult } from '../bench.ts'
import type { OptionsOf, WorkName } from '../child.ts'
import { before, izta, type Contender } from '../contenders.ts'
import { compare, interleave } from '../interleave.ts'
import type { Row, Target } from '../measure.ts'
import { comparedRows } from '../rows.ts'

/** One figure of the results: its unit, and the target of now. */
export interface Figure<Result> {
  readonly unit: string
  valueOf(result: Result): number
  readonly target?: Target | undefined
}

/**
 * The rows of each figure, before and now.
 *
 * @param what the case, as the rows name it; empty where there is one only
 * @param options of the queue, the same for both
 */
export async function beforeAndNow<Name extends WorkName>(
  bench: Bench,
  work: Name,
  options: OptionsOf<Name>,
  figures: readonly Figure<WorkResult<Name>>[],
  what = '',
  queueOptions: Contender['options'] = {},
): Promise<Row[]> {
  const named = (contender: Contender): Contender => ({
    ...contender,
    label: what === '' ? contender.label : `${contender.label}, ${what}`,
    options: { ...contender.options, ...queueOptions },
  })
  const now = named(izta)
  const interleaved = await interleave(bench, work, options, named(before), [now])
  return figures.flatMap(({ unit, valueOf, target }) =>
    comparedRows(compare(interleaved, valueOf), unit, { [now.label]: target }, before.label),
  )
}
