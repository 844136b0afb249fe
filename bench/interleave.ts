// Runs of contenders that take turns with a baseline, and their ratios to it.
import type { Bench, WorkResult } from './bench.ts'
import type { OptionsOf, WorkName } from './child.ts'
import {
  before,
  bullmq,
  graphileWorker,
  izta,
  iztaCrate,
  iztaKept,
  iztaUnchecked,
  pgBoss,
  river,
  type Contender,
} from './contenders.ts'
import { short } from './table.ts'

/** The runs of one contender, each with the baseline's runs before and after it. */
export interface Interleaved<Result> {
  readonly contender: Contender
  readonly runs: { readonly result: Result; readonly beside?: readonly [Result, Result] }[]
}

/**
 * Runs every contender in every round, each between two runs of the baseline: what disturbs the machine for a
 * while disturbs both. The baseline itself comes first in the answer.
 */
export async function interleave<Name extends WorkName>(
  bench: Bench,
  work: Name,
  options: OptionsOf<Name>,
  baseline: Contender,
  contenders: readonly Contender[],
): Promise<Interleaved<WorkResult<Name>>[]> {
  const measure = async (contender: Contender) => {
    const result = await bench.run(contender, work, options)
    bench.log(`  ${contender.label}${glance(result)}`)
    return result
  }
  const base: Interleaved<WorkResult<Name>> = { contender: baseline, runs: [] }
  const all = contenders.map((contender): typeof base => ({ contender, runs: [] }))
  // oxlint-disable no-await-in-loop -- runs side by side would measure each other
  if (!bench.quick) await measure(baseline)
  let last = await measure(baseline)
  base.runs.push({ result: last })
  for (let round = 1; round <= bench.rounds; round++) {
    for (const { contender, runs } of all) {
      if (round > (contender.rounds ?? Infinity)) continue
      const result = await measure(contender)
      const after = await measure(baseline)
      runs.push({ result, beside: [last, after] })
      base.runs.push({ result: after })
      last = after
    }
  }
  return [base, ...all]
}

/** What the log tells of a run. */
function glance(result: object): string {
  const facts = [
    'perSecond' in result ? `${short(Number(result.perSecond))}/s` : '',
    'backendCpuMicrosPerTask' in result
      ? `${short(Number(result.backendCpuMicrosPerTask))} µs of the server`
      : '',
  ].filter((fact) => fact !== '')
  return facts.length === 0 ? '' : `: ${facts.join(', ')}`
}

/** The values of one contender, one a round, and their ratios to the baseline's runs before and after each. */
export interface Compared {
  readonly contender: Contender
  readonly values: readonly number[]
  readonly ratios: readonly number[]
}

export function compare<Result>(
  interleaved: readonly Interleaved<Result>[],
  valueOf: (result: Result) => number,
): Compared[] {
  return interleaved.map(({ contender, runs }) => ({
    contender,
    values: runs.map(({ result }) => valueOf(result)),
    ratios: runs.flatMap(({ result, beside }) =>
      beside === undefined ? [] : [valueOf(result) / ((valueOf(beside[0]) + valueOf(beside[1])) / 2)],
    ),
  }))
}

/** The drains that several measures look at: run once, by the first that asks. */
export function drains(bench: Bench): Promise<Interleaved<WorkResult<'drain'>>[]> {
  const begun = drainsOf.get(bench)
  if (begun !== undefined) return begun
  const begin = async () => {
    const contenders = await bench.present([
      izta,
      iztaKept,
      iztaUnchecked,
      before,
      pgBoss,
      river,
      bullmq,
      iztaCrate,
    ])
    return interleave(bench, 'drain', { tasks: bench.size(300_000, 5000) }, graphileWorker, contenders)
  }
  const drained = begin()
  drainsOf.set(bench, drained)
  return drained
}

const drainsOf = new WeakMap<Bench, Promise<Interleaved<WorkResult<'drain'>>[]>>()
