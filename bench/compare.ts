// node bench/compare.ts STORED.json NEW.json [TOLERANCE]: whether a run is worse than a stored one; ends with code 1
// if it is. `npm run bench -- --compare` does so after a run.
import { readResults, type Results } from './results.ts'
import { median, type Row } from './row.ts'
import { markdownTable, short } from './table.ts'

export const defaultTolerance = 1.05

export interface Compared {
  readonly measure: string
  readonly subject: string
  readonly unit: string
  /** What the ratio is to; a count has none. */
  readonly to?: string
  readonly stored: number
  readonly now: number
  /** Above 1 is worse, whichever direction the unit has. */
  readonly factor: number
}

export interface Comparison {
  readonly compared: readonly Compared[]
  readonly worse: readonly Compared[]
  /** Stored rows of the measures that ran, which the new run has not. */
  readonly missing: readonly string[]
}

/** Counts are the same on every machine. All else is compared by its ratio to a run of the same time. */
const counts = new Set([
  'buffers',
  'buffers/settle',
  'bytes on disk/task',
  'dead rows/task',
  'kB',
  'lock timeouts',
  'statements/invocation',
  'statements/task',
  'WAL bytes/task',
])

const isHigherBetter = (unit: string) => unit.endsWith('/s')

/** Compares the measures that both runs have. */
export function compareRuns(
  stored: Pick<Results, 'results'>,
  fresh: Pick<Results, 'results'>,
  tolerance = defaultTolerance,
): Comparison {
  const compared: Compared[] = []
  const missing: string[] = []
  for (const { measure, rows } of fresh.results) {
    const before = stored.results.find((result) => result.measure === measure)?.rows ?? []
    for (const row of before) {
      const figure = figureOf(row)
      if (figure === undefined) continue
      const same = rows.find((other) => keyOf(other) === keyOf(row))
      const now = same && figureOf(same)
      if (now === undefined) missing.push(`${measure}: ${keyOf(row)}`)
      else {
        const { subject, unit, ratio } = row
        const factor = isHigherBetter(unit) ? figure / now : now / figure
        // Nothing and nothing again is no change.
        const change = figure === now ? 1 : factor
        compared.push({
          measure,
          subject,
          unit,
          ...(ratio && { to: ratio.to }),
          stored: figure,
          now,
          factor: change,
        })
      }
    }
  }
  return { compared, worse: compared.filter(({ factor }) => !(factor <= tolerance)), missing }
}

const keyOf = ({ subject, unit, ratio }: Row) =>
  `${subject}, ${unit}${ratio === undefined ? '' : `, to ${ratio.to}`}`

function figureOf({ values, unit, ratio }: Row): number | undefined {
  if (ratio !== undefined) return median(ratio.values)
  return counts.has(unit) ? median(values) : undefined
}

export function describeComparison({ compared, worse, missing }: Comparison, tolerance: number): string {
  const lines = missing.map((row) => `not measured: ${row}`)
  const sum = `${compared.length} figures compared, ${worse.length} above ${tolerance} × the stored ones`
  if (worse.length === 0) return [...lines, sum].join('\n')
  const table = markdownTable(
    ['measure', 'subject', 'unit', 'to', 'stored', 'now', 'worse by'],
    worse.map(({ measure, subject, unit, to = '', stored, now, factor }) => [
      measure,
      subject,
      unit,
      to,
      short(stored),
      short(now),
      `${short(factor)} ×`,
    ]),
    4,
  )
  return [...lines, table, sum].join('\n')
}

if (import.meta.main) {
  const [stored, fresh, tolerance = `${defaultTolerance}`] = process.argv.slice(2)
  const [one, other] = await Promise.all([readResults(stored ?? ''), readResults(fresh ?? '')])
  if (one === undefined || other === undefined) throw new Error('node bench/compare.ts STORED.json NEW.json')
  const comparison = compareRuns(one, other, Number(tolerance))
  process.stdout.write(`${describeComparison(comparison, Number(tolerance))}\n`)
  process.exitCode = comparison.worse.length === 0 && comparison.missing.length === 0 ? 0 : 1
}
