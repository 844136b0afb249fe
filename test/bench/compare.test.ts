// The bench's comparison of two runs tells what has become worse, whatever the machine.
import { expect, test } from 'vitest'
import { compareRuns, describeComparison } from '../../bench/compare.ts'
import type { Row } from '../../bench/row.ts'

const run = (...rows: Row[]) => ({
  results: [{ measure: 'drain', title: '', measuredAt: '', minutes: 1, rounds: 1, scale: 1, rows }],
})
const ratio = (unit: string, value: number, subject = 'izta'): Row => ({
  subject,
  unit,
  values: [1000],
  ratio: { to: 'before', values: [value] },
})

test('a cost is worse when its ratio grows, a rate when it falls', () => {
  const stored = run(ratio('µs backend CPU/task', 0.5), ratio('tasks/s', 2))
  const grown = run(ratio('µs backend CPU/task', 0.6), ratio('tasks/s', 2.4))
  const fallen = run(ratio('µs backend CPU/task', 0.4), ratio('tasks/s', 1.6))
  expect(compareRuns(stored, grown).worse.map(({ unit }) => unit)).toEqual(['µs backend CPU/task'])
  expect(compareRuns(stored, fallen).worse.map(({ unit }) => unit)).toEqual(['tasks/s'])
})

test('1.05 × is accepted unless another tolerance is given', () => {
  const [stored, fresh] = [run(ratio('ms p50', 1)), run(ratio('ms p50', 1.049))]
  expect(compareRuns(stored, fresh).worse).toEqual([])
  expect(compareRuns(stored, fresh, 1.01).worse).toHaveLength(1)
  expect(compareRuns(stored, run(ratio('ms p50', 1.06))).worse).toHaveLength(1)
  expect(compareRuns(stored, run(ratio('ms p50', 1.06)), 1.1).worse).toEqual([])
})

test('figures of a machine are not compared, counts are', () => {
  const row = (unit: string, value: number): Row => ({ subject: 'izta', unit, values: [value] })
  const stored = run(row('tasks/s', 30_000), row('statements/invocation', 2), row('lock timeouts', 0))
  const fresh = run(row('tasks/s', 10_000), row('statements/invocation', 3), row('lock timeouts', 1))
  const { compared, worse } = compareRuns(stored, fresh)
  expect(compared).toHaveLength(2)
  expect(worse.map(({ unit }) => unit)).toEqual(['statements/invocation', 'lock timeouts'])
  expect(compareRuns(stored, stored).worse).toEqual([])
})

test('a stored row that the new run has not is named, a measure that did not run is not', () => {
  const stored = run(ratio('tasks/s', 1), ratio('tasks/s', 1, 'izta, results kept'))
  const { missing } = compareRuns(stored, run(ratio('tasks/s', 1)))
  expect(missing).toEqual(['drain: izta, results kept, tasks/s, to before'])
  expect(compareRuns(stored, { results: [] })).toEqual({ compared: [], worse: [], missing: [] })
})

test('what is no number is worse', () => {
  expect(compareRuns(run(ratio('tasks/s', 1)), run(ratio('tasks/s', NaN))).worse).toHaveLength(1)
})

test('the description shows what is worse, and by how much', () => {
  const comparison = compareRuns(run(ratio('ms p50', 1)), run(ratio('ms p50', 1.2)))
  const text = describeComparison(comparison, 1.05)
  expect(text).toContain('| drain | izta | ms p50 | before | 1 | 1.2 | 1.2 × |')
  expect(text).toContain('1 figures compared, 1 above 1.05 × the stored ones')
})
