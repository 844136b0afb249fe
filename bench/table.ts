// The results as a table for the terminal.
import Table from 'cli-table3'
import { isMet, median, quantile, type Row, type Target } from './measure.ts'

export function printTable(
  results: readonly { measure: string; rows: readonly Row[] }[],
  print: (line: string) => void,
): void {
  const table = new Table({
    head: ['measure', 'subject', 'unit', 'median', 'min – max', 'ratio', 'target', ''],
    colAligns: ['left', 'left', 'left', 'right', 'right', 'left', 'left', 'left'],
    style: { head: [], border: [], compact: true },
  })
  for (const { measure, rows } of results) {
    rows.forEach((row, index) => table.push([index === 0 ? measure : '', ...cells(row)]))
  }
  print(table.toString())
}

function cells(row: Row): string[] {
  const { subject, unit, values, ratio, target } = row
  const met = isMet(row)
  return [
    subject,
    unit,
    short(median(values)),
    values.length > 1 ? `${short(quantile(values, 0))} – ${short(quantile(values, 1))}` : '',
    ratio === undefined ? '' : `${short(median(ratio.values))} × ${ratio.to}`,
    target === undefined ? '' : describe(target),
    met === undefined ? '' : met ? 'met' : 'missed',
  ]
}

const describe = ({ of, atLeast, atMost }: Target) =>
  `${atLeast === undefined ? `≤ ${short(atMost ?? NaN)}` : `≥ ${short(atLeast)}`}${of === 'ratio' ? ' ×' : ''}`

/** Three digits that count. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}
