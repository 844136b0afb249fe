// The results as a table, for the terminal and for the docs.
import Table from 'cli-table3'
import { isMet, median, quantile, type Row, type Target } from './row.ts'

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
    target === undefined ? '' : describeTarget(target),
    met === undefined ? '' : met ? 'met' : 'missed',
  ]
}

export function describeTarget({ of, atLeast, atMost, or }: Target): string {
  const bound = atLeast === undefined ? `≤ ${short(atMost ?? NaN)}` : `≥ ${short(atLeast)}`
  return `${bound}${of === 'ratio' ? ' ×' : ''}${or === undefined ? '' : ` or ${describeTarget(or)}`}`
}

/** Three digits that count. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '–'
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString('en')
  return String(Number(value.toPrecision(3)))
}

/** A table of Markdown; the first columns to the left, figures to the right. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  leftColumns = 1,
): string {
  const line = (words: readonly string[]) => `| ${words.join(' | ')} |`
  return [
    line(head),
    line(head.map((_, index) => (index < leftColumns ? '---' : '---:'))),
    ...rows.map(line),
  ].join('\n')
}
