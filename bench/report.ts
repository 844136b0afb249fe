// node bench/report.ts [results.json]: draws the chart of the results, writes their tables into
// docs/performance-tables.md and a summary into docs/performance.md. The bench does so at its end.
import { writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { drawChart } from './chart.ts'
import { performancePage, writeSection } from './markers.ts'
import { modelText } from './model.ts'
import { readResults, type Results } from './results.ts'
import { isMet, median, quantile, type Row } from './row.ts'
import { describeTarget, markdownTable, short } from './table.ts'

export interface ReportOptions {
  /** Where the chart goes; a published one stands beside the page as well. */
  readonly chart: string
  /** Whether the pages in docs/ shall show these figures. */
  readonly isPublished: boolean
}

export async function writeReport(results: Results, { chart, isPublished }: ReportOptions): Promise<void> {
  const drawn = drawChart(results.results)
  await writeFile(chart, drawn)
  if (!isPublished) return
  // The pages' own copy: it travels with the package, the bench does not.
  const shown = performancePage.replace(/\.md$/, '.svg')
  await writeFile(shown, drawn)
  await writeSection('summary', summary(results), performancePage)
  await writeSection('figures', figures(results, basename(shown)))
  const model = modelText(results)
  if (model !== undefined) await writeSection('model', model)
}

/** One line a measure: how many targets were met, and which were not. */
function summary({ results, machine, postgres, startedAt }: Results): string {
  const lines = results.map(({ measure, title, rows }) => {
    const judged = rows.filter((row) => isMet(row) !== undefined)
    const missed = judged.filter((row) => isMet(row) === false).map(describeMissed)
    const met = judged.length === 0 ? '' : `${judged.length - missed.length} of ${judged.length}`
    return [measure, title, met, missed.join('; ')]
  })
  const run = `Run of ${startedAt.slice(0, 10)}, ${machine.cores} cores (${machine.cpu}), PostgreSQL ${postgres.version}:`
  return `${run}\n\n${markdownTable(['measure', 'work', 'targets met', 'missed'], lines, 4)}`
}

function describeMissed({ subject, unit, values, ratio, target }: Row): string {
  const got =
    target?.of === 'ratio' && ratio !== undefined
      ? `${short(median(ratio.values))} × ${ratio.to}`
      : `${short(median(values))} ${unit}`
  return `${subject}: ${got} (${target === undefined ? '' : describeTarget(target)})`
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
  const [file = join(import.meta.dirname, 'results', 'results.json')] = process.argv.slice(2)
  const results = await readResults(file)
  if (results === undefined) throw new Error(`${file} does not exist: run the bench first`)
  await writeReport(results, { chart: file.replace(/json$/, 'svg'), isPublished: true })
}
