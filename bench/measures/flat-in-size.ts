// Whether a claim costs the same beside millions of future tasks and history rows.
import type { Bench } from '../bench.ts'
import { before, izta, type Contender } from '../contenders.ts'
import { median, quantile, type Measure, type Row } from '../measure.ts'
import type { StageResult } from '../tree-works/claims.ts'

const perClaim = 100

interface Case {
  readonly future: number
  readonly history: number
  /** Of the due tasks; future ones have all ten. */
  readonly priorities: number
}

interface Timed {
  readonly one: Case
  readonly times: StageResult
}

type Unit = readonly [unit: string, valueOf: (times: StageResult) => number]
const units: readonly Unit[] = [
  ['ms p50', ({ claimMs }) => quantile(claimMs, 0.5)],
  ['ms p99', ({ claimMs }) => quantile(claimMs, 0.99)],
  ['buffers', ({ claimBuffers }) => median(claimBuffers)],
  ['µs backend CPU/claim', ({ claimMicros }) => median(claimMicros)],
]

export const flatInSize: Measure = {
  name: 'flat-in-size',
  title: 'claims of 100 beside future tasks and history rows, 1 and 10 priorities',
  async run(bench) {
    // oxlint-disable no-await-in-loop -- one run at a time
    const then = await timeCases(bench, before)
    const now = await timeCases(bench, izta)
    return units.flatMap((unit) => [
      ...besideEmpty(before, then, unit),
      ...besideEmpty(izta, now, unit),
      ...(unit[0] === 'µs backend CPU/claim' ? besideBefore(then, now, unit) : []),
    ])
  },
}

function besideEmpty(contender: Contender, timed: readonly Timed[], [unit, valueOf]: Unit): Row[] {
  return timed.map(({ one, times }) => {
    const empty = timed.find((other) => other.one.priorities === one.priorities) ?? { times }
    const row = { subject: `${contender.label}, ${nameOf(one)}`, unit, values: [valueOf(times)] }
    if (empty.times === times) return row
    const ratio = { to: 'empty', values: [valueOf(times) / valueOf(empty.times)] }
    return contender === izta ? { ...row, ratio, target: { of: 'ratio', atMost: 1.25 } } : { ...row, ratio }
  })
}

function besideBefore(then: readonly Timed[], now: readonly Timed[], [unit, valueOf]: Unit): Row[] {
  return now.map(({ one, times }, index) => ({
    subject: `${izta.label}, ${nameOf(one)}`,
    unit,
    values: [valueOf(times)],
    ratio: { to: before.label, values: [valueOf(times) / valueOf(then[index]?.times ?? times)] },
    target: { of: 'ratio', atMost: 1.05 },
  }))
}

/** The rows are filled in once, and each size is looked at on the way. */
async function timeCases(bench: Bench, contender: Contender): Promise<Timed[]> {
  const { largest } = bench
  const claims = bench.size(200, 10)
  const inFuture = [0, largest / 10, largest]
  const future = inFuture.flatMap((count, index) => [
    { claims, priorities: 1, futureTasks: count - (inFuture[index - 1] ?? 0) },
    { claims, priorities: 10 },
  ])
  const history = [
    { claims, priorities: 1, history: largest },
    { claims, priorities: 10 },
  ]
  const besideFuture = await bench.run(contender, 'claims', { perClaim, stages: future })
  bench.log(`  ${contender.label}, future tasks`)
  const besideHistory = await bench.run(contender, 'claims', { perClaim, stages: history })
  bench.log(`  ${contender.label}, history`)
  return [...besideFuture.stages, ...besideHistory.stages].map((times, index) => {
    const count = inFuture[index >> 1]
    const priorities = index % 2 === 0 ? 1 : 10
    return { one: { future: count ?? 0, history: count === undefined ? largest : 0, priorities }, times }
  })
}

const nameOf = ({ future, history, priorities }: Case) =>
  `${millions(future)} future, ${millions(history)} history, ${priorities} prio`

const millions = (count: number) =>
  count === 0 ? '0' : count >= 1e6 ? `${count / 1e6} M` : `${count / 1e3} k`
