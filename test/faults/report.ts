// Writes the figures of a run, and of the breaks that were caught, into docs/reliability.md.
import { cpus } from 'node:os'
import { readFile, writeFile } from 'node:fs/promises'
import { checks } from './checks.ts'
import { kindNames, kinds } from './kinds.ts'
import type { MutationResult } from './mutate.ts'
import { leaseMs } from './pace.ts'
import type { Recovery } from './calm.ts'
import { countsRule } from './counts.ts'
import { recoveryRules, type RunReport } from './run.ts'

const number = (value: number | undefined) => (value ?? 0).toLocaleString('en-GB')
const seconds = (value: number) => (value < 0.95 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`)
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
  const parts = [
    summary(report),
    ...report.violations.map(({ rule, what }) => `- ${rule}: ${what}`),
    tasks(report),
    `From the end of a lost lease (${leaseMs / 1000} s after the claim at the latest) until somebody else has the task:`,
    recoveries(report),
    table(
      ['Fault', 'What it does', 'Injected'],
      kindNames
        .filter((name) => report.faults[name] !== undefined)
        .map((name) => [`\`${name}\``, kinds[name].what, number(report.faults[name])]),
    ),
    'The rules, each a query that must find nothing, in every snapshot or (*) when all has drained:',
    [
      ...checks.map(({ rule, when }) => `- ${rule}${when === 'end' ? ' (*)' : ''}`),
      `- ${countsRule}`,
      ...Object.values(recoveryRules).map((rule) => `- ${rule} (*)`),
    ].join('\n'),
  ]
  await replacePart(file, 'figures', parts.join('\n\n'))
}

function summary(report: RunReport): string {
  const total = Object.values(report.faults).reduce((sum, count) => sum + count, 0)
  const broken = report.violations.length
  return [
    `${number(total)} faults in ${number(Math.round(report.seconds / 60))} minutes, at up to ${report.rate} a second, to ${report.runners} processes of runners on PostgreSQL ${report.postgres}, all on one machine with ${cpus().length} cores; seed ${report.seed}.`,
    report.pgBouncer
      ? 'A third of the processes went through PgBouncer in transaction mode.'
      : 'PgBouncer was not installed, so nobody went through it.',
    report.ownDisk ? '' : 'No disk was filled, which takes root on Linux.',
    `${number(report.snapshots)} snapshots were checked.`,
    `**${broken === 0 ? 'Every rule held.' : `${broken} rules were violated.`}**`,
  ]
    .filter(Boolean)
    .join(' ')
}

function tasks({ figures, restarts, drainSeconds }: RunReport): string {
  const several = (...names: string[]) => names.map((name) => number(figures[name])).join(', ')
  return table(
    ['Tasks', ''],
    [
      ['made', several('made')],
      ['of them children, and slots of schedules', several('children', 'slots')],
      ['finished, failed, cancelled', several('finished', 'failed', 'cancelled')],
      ['runs of handlers', several('runs')],
      ['leases lost with their process', several('losses')],
      ['runs that went on after their lease was lost, beside the next', several('overlaps')],
      [
        'runs that had ended well, and were repeated since their process was lost before it settled',
        several('reruns'),
      ],
      [
        'tasks that ended after the end of their lease, before anybody else had taken them',
        several('late_settles'),
      ],
      ['tasks of innocent jobs that failed after three losses', several('lost_innocents')],
      ['processes started anew', number(restarts)],
      ['until all had drained, after the last fault', seconds(drainSeconds)],
    ],
  )
}

function recoveries({ recovery }: RunReport): string {
  const rows: [string, Recovery | undefined][] = [
    ['with everything that happened meanwhile', recovery.all],
    ['with live runners, after the last fault', recovery.undisturbed],
    ['where only a tick a minute starts runners', recovery.asleep],
  ]
  return table(
    ['', 'Leases', 'Half within', '99 % within', 'Longest'],
    rows.flatMap(([name, times]) => (times === undefined ? [] : [[name, ...recovered(times)]])),
  )
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
