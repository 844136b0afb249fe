// node bench/report.ts [results.json [page.md]]: draws the chart of the results and writes their table into
// docs/performance.md. The bench does so at its end.
import { writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { drawChart } from './chart.ts'
import { performancePage, writeSection } from './markers.ts'
import { isMet, median, quantile, type Row } from './measure.ts'
import { modelText } from './model.ts'
import { readResults, type Results } from './results.ts'
import { describeTarget, markdownTable, short } from './table.ts'

export interface ReportOptions {
  /** Where the chart goes; a published one stands beside the page as well. */
  readonly chart: string
  /** Whether docs/performance.md shall show these figures. */
  readonly isPublished: boolean
  readonly page?: string
}

export async function writeReport(
  results: Results,
  { chart, isPublished, page = performancePage }: ReportOptions,
): Promise<void> {
  const drawn = drawChart(results.results)
  await writeFile(chart, drawn)
  if (!isPublished) return
  // The page's own copy: it travels with the package, the bench does not.
  const shown = page.replace(/\.md$/, '.svg')
  await writeFile(shown, drawn)
  await writeSection('figures', figures(results, basename(shown)), page)
  await writeSection('model', modelText(results), page)
}

function figures(results: Results, chart: string): string {
  const { machine, postgres, complete, startedAt, skipped } = results
  const notes = [
    `Run of ${startedAt.slice(0, 10)} on ${machine.cores} cores (${machine.cpu}), ${Math.round(machine.memoryBytes / 2 ** 30)} GB of memory, Node ${machine.node.slice(1)}, PostgreSQL ${postgres.version}.`,
    ...(complete ? [] : ['**The run is not complete:** measures without a table are missing.']),
    ...Object.entries(skipped).map(([label, reason]) => `Skipped: ${label} (${reason}).`),
  ]
  const tables = results.results.map(
    ({ measure, title, rows, measuredAt, rounds, scale }) =>
      `**${measure}**: ${title}; ${rounds} ${rounds === 1 ? 'round' : 'rounds'}${scale === 1 ? '' : `, ${scale} × the tasks`}, ${measuredAt.slice(0, 16).replace('T', ' ')} UTC.\n\n${markdownTable(
        ['subject', 'unit', 'median', 'min – max', 'ratio', 'target', ''],
        rows.map(cells),
        2,
      )}`,
  )
  return [notes.join('\n'), `![Ratios of the run](${chart})`, ...tables].join('\n\n')
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
    met === undefined ? '' : met ? 'met' : '**missed**',
  ]
}

if (import.meta.main) {
  const [file = join(import.meta.dirname, 'results', 'results.json'), page = performancePage] =
    process.argv.slice(2)
  const results = await readResults(file)
  if (results === undefined) throw new Error(`${file} does not exist: run the bench first`)
  await writeReport(results, { chart: file.replace(/json$/, 'svg'), isPublished: true, page })
}
