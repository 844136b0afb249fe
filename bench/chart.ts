// The ratios as an SVG chart: one bar a subject, 1 is the peer it stands beside, ticks mark the single rounds.
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import { median, type Row } from './row.ts'

export function drawChart(results: readonly { measure: string; rows: readonly Row[] }[]): string {
  const bars = results.flatMap(({ measure, rows }) =>
    rows.flatMap(({ subject, unit, ratio, target }) =>
      ratio === undefined
        ? []
        : [
            {
              name: `${measure}: ${subject} / ${ratio.to}, ${unit}`,
              ratio: median(ratio.values),
              rounds: ratio.values,
              target: target?.of === 'ratio' ? (target.atLeast ?? target.atMost) : undefined,
              isIzta: /^izta(,|$| )/.test(subject) && !subject.includes('crate'),
            },
          ],
    ),
  )
  const { document } = parseHTML('<html><body></body></html>')
  const rounds = bars.flatMap(({ name, rounds: values }) => values.map((ratio) => ({ name, ratio })))
  const chart = Plot.plot({
    document,
    width: 960,
    marginLeft: 400,
    x: { label: 'ratio (black line: 1; dashed: target)', grid: true },
    y: { label: null, domain: bars.map(({ name }) => name) },
    color: { domain: [true, false], range: ['#2563eb', '#9ca3af'] },
    marks: [
      Plot.barX(bars, { x: 'ratio', y: 'name', fill: 'isIzta' }),
      Plot.tickX(rounds, { x: 'ratio', y: 'name', stroke: '#111827', strokeOpacity: 0.5 }),
      Plot.tickX(
        bars.filter(({ target }) => target !== undefined),
        { x: 'target', y: 'name', stroke: '#dc2626', strokeDasharray: '3,2', strokeWidth: 2 },
      ),
      Plot.text(bars, {
        x: 'ratio',
        y: 'name',
        text: (bar: { ratio: number }) => bar.ratio.toFixed(2),
        textAnchor: 'start',
        dx: 4,
      }),
      Plot.ruleX([1]),
    ],
  })
  chart.setAttribute('xmlns', 'http://www.w3.org/2000/svg')
  return `${chart.outerHTML}\n`
}
