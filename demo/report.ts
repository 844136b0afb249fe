// The end of the demo on the screen: licences, failures, times, and whether an independent count agrees.
import { isDeepStrictEqual } from 'node:util'
import type { Finding, Findings } from './findings.ts'
import type { Totals } from './recount.ts'
import type { Screen } from './screen.ts'
import type { Timing } from './timing.ts'

export function showLicences({ licences, totals }: Findings, { print, table }: Screen): void {
  const rows = [...licences, { licence: 'all', ...totals }].map(({ licence, packages, files, bytes }) => [
    shorten(licence, 36),
    packages.toLocaleString('en'),
    files.toLocaleString('en'),
    megabytes(bytes),
  ])
  print('')
  table(['licence', 'packages', 'files', 'MB'], rows, true)
}

export function showFailures(
  title: string,
  failures: readonly Finding[],
  { colors, print, width }: Screen,
): void {
  if (failures.length === 0) return
  print('')
  print(colors.bold(title))
  for (const { path, code, detail } of failures) {
    const name = path.replace(/^node_modules\//, '').replaceAll('/node_modules/', ' › ')
    const start = `${name}: ${code}`
    const end = detail === '' ? '' : ` ${colors.dim(shorten(detail, width - start.length - 3))}`
    print(`${colors.red('✖')} ${start}${end}`)
  }
}

/** The packages' own: each is a task that failed with an error its job declares, as it should. */
export function describeFindings(failures: readonly Finding[]): string {
  const kinds = Map.groupBy(failures, ({ code }) => code)
  const parts = [...kinds].map(([code, { length }]) => {
    const [one, many] = findingTexts[code] ?? [code, code]
    return `${length} ${length === 1 ? `package ${one}` : `packages ${many}`}`
  })
  return `Findings: ${parts.join(', ')} (a fact about them, not about izta)`
}

const findingTexts: Readonly<Record<string, readonly [one: string, many: string]>> = {
  'missing-files': ['names files that it does not contain', 'name files that they do not contain'],
  'no-licence': ['names no licence', 'name no licence'],
  'unreadable-manifest': [
    'has a package.json that cannot be read',
    'have a package.json that cannot be read',
  ],
}

export const tasks = (count: number) => `${count} ${count === 1 ? 'task' : 'tasks'}`

export function showTimings(timings: readonly Timing[], { print, table }: Screen): void {
  print('')
  const rows = timings.map(({ what, p50Ms, p95Ms, maxMs }) => [what, ...[p50Ms, p95Ms, maxMs].map(duration)])
  table(['how long', 'p50', 'p95', 'max'], rows)
}

/** Says whether both counts agree, and where they differ. */
export function showRecount(findings: Findings, recounted: Totals, { colors, print }: Screen): boolean {
  const { totals: stored, isFollowedUp } = findings
  print('')
  if (!isFollowedUp) print(`${colors.red('✖')} Some audits were followed by no check, or by more than one`)
  if (isDeepStrictEqual(stored, recounted)) {
    print(`${colors.green('✔')} ${colors.bold('Exact')}: a count without izta finds the same totals,`)
    print(`  ${describeTotals(recounted)},`)
    print(`  and the same SHA-256 over all of them, ${stored.sha256.slice(0, 32)}…`)
    return isFollowedUp
  }
  print(`${colors.red('✖')} ${colors.bold('Not exact')}. Has something been installed meanwhile?`)
  print(`  The tasks have counted     ${describeTotals(stored)} (${stored.sha256.slice(0, 8)}…)`)
  print(`  A count without izta finds ${describeTotals(recounted)} (${recounted.sha256.slice(0, 8)}…)`)
  return false
}

const describeTotals = ({ packages, files, bytes }: Totals) =>
  `${packages.toLocaleString('en')} packages, ${files.toLocaleString('en')} files, ${bytes.toLocaleString('en')} bytes`

const megabytes = (bytes: number) =>
  (bytes / 1e6).toLocaleString('en', { minimumFractionDigits: 2, maximumFractionDigits: 2 })

const duration = (ms: number) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`)

const shorten = (text: string, length: number) =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text
