// Writes the figures of a run, and of the breaks that were caught, into docs/reliability.md.
import { cpus } from 'node:os'
import { readFile, writeFile } from 'node:fs/promises'
import { checks } from './checks.ts'
import { kindNames, kinds } from './kinds.ts'
import type { MutationResult } from './mutate.ts'
import { leaseMs } from './pace.ts'
import type { Recovery } from './calm.ts'
import type { RunReport } from './run.ts'

const number = (value: number | undefined) => (value ?? 0).toLocaleString('en-GB')
const seconds = (value: number) => `${value.toFixed(1)} s`
const row = (...cells: string[]) => `| ${cells.join(' | ')} |`
const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
  [row(...head), row(...head.map(() => '---')), ...rows.map((cells) => row(...cells))].join('\n')
const recovered = ({ count, p50, p99, max }: Recovery) => [
  number(count),
  seconds(p50),
  seconds(p99),
  seconds(max),
]

/** Replaces what stands between the marks of this name; what people wrote around them stays. */
async function replacePart(file: string, name: string, text: string): Promise<void> {
  const page = await readFile(file, 'utf8')
  const [start, end] = [`<!-- ${name}: written by npm run test:faults -->`, `<!-- end of ${name} -->`]
  const [before, rest] = page.split(start)
  const after = rest?.split(end)[1]
  if (before === undefined || after === undefined)
    throw new Error(`${file} lacks the marks "${start}" and "${end}".`)
  await writeFile(file, `${before}${start}\n\n${text}\n\n${end}${after}`)
}

export async function writeReport(file: string, report: RunReport): Promise<void> {
  const { figures, recovery } = report
  const total = Object.values(report.faults).reduce((sum, count) => sum + count, 0)
  const parts = [
    `${number(total)} faults in ${number(Math.round(report.seconds / 60))} minutes, on ${cpus().length} cores${report.pgBouncer ? ', half of the processes through PgBouncer in transaction mode' : ''}; seed ${report.seed}. ${number(report.snapshots)} snapshots were checked. **${report.violations.length === 0 ? 'Every invariant held.' : `${report.violations.length} invariants were violated.`}**`,
    ...report.violations.map(({ rule, what }) => `- ${rule}: ${what}`),
    table(
      ['Tasks', ''],
      [
        ['made', number(figures['made'])],
        [
          'of them children, and slots of schedules',
          `${number(figures['children'])}, ${number(figures['slots'])}`,
        ],
        [
          'finished, failed, cancelled',
          ['finished', 'failed', 'cancelled'].map((name) => number(figures[name])).join(', '),
        ],
        ['runs of handlers', number(figures['runs'])],
        ['leases lost with their process', number(figures['losses'])],
        ['runs that went on after their lease was lost, beside the next', number(figures['overlaps'])],
        [
          'runs that had ended well, and were repeated since their process was lost before it settled',
          number(figures['reruns']),
        ],
        ['tasks of innocent jobs that failed after three losses', number(figures['lost_innocents'])],
        ['processes started anew', number(report.restarts)],
      ],
    ),
    `From the end of a lost lease (${leaseMs / 1000} s at the most) until somebody else has the task:`,
    table(
      ['', 'Leases', 'Half within', '99 % within', 'Longest'],
      [
        ['with everything that happened meanwhile', ...recovered(recovery.all)],
        ['after the last fault', ...recovered(recovery.undisturbed)],
      ],
    ),
    table(
      ['Fault', 'What it does', 'Injected'],
      kindNames
        .filter((name) => report.faults[name] !== undefined)
        .map((name) => [`\`${name}\``, kinds[name].what, number(report.faults[name])]),
    ),
    'The rules, each a query that must return nothing, in every snapshot or (*) when all has drained:',
    checks.map(({ rule, when }) => `- ${rule}${when === 'end' ? ' (*)' : ''}`).join('\n'),
  ]
  await replacePart(file, 'figures', parts.join('\n\n'))
}

export async function writeMutations(file: string, results: readonly MutationResult[]): Promise<void> {
  const caught = results.filter(({ caughtBy }) => caughtBy !== undefined).length
  const rows = results.map(({ name, caughtBy, afterSeconds }) => [
    name.replaceAll('-', ' '),
    caughtBy ?? '**not caught**',
    seconds(afterSeconds),
  ])
  const text = `${caught} of ${results.length} were caught:\n\n${table(['The engine, broken', 'Caught by', 'After'], rows)}`
  await replacePart(file, 'mutations', text)
}
