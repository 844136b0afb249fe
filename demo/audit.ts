// The course of the demo: start the stack, let the schedule fire, watch the tasks, and account for all of them.
import type { Izta } from '../src/index.ts'
import { endedOf, followCounts, sumOf, totalOf } from './counts.ts'
import { createCrash, type Crash } from './crash.ts'
import { readFindings, type Findings } from './findings.ts'
import { auditPackage, checkFiles, dailyAudit } from './jobs.ts'
import { recount } from './recount.ts'
import { describeFindings, showFailures, showLicences, showRecount, showTimings, tasks } from './report.ts'
import type { Screen } from './screen.ts'
import { describePostgres, startStack } from './stack.ts'
import { recordTimings, summarise } from './timing.ts'

export interface AuditOptions {
  /** The folder whose node_modules is audited. */
  readonly root: string
  /** Whether the runner is a process of its own that is killed half way. */
  readonly crash: boolean
  readonly screen: Screen
  /** Aborts when the user has had enough. */
  readonly signal: AbortSignal
}

type Scene = AuditOptions & { readonly izta: Izta; readonly url: string }

/** Answers whether every package was audited and the stored totals equal an independent count. */
export async function runAudit(options: AuditOptions): Promise<boolean> {
  const { root, crash, screen, signal } = options
  const startedAtMs = performance.now()
  screen.print(screen.colors.bold(`A licence and integrity audit of ${root}/node_modules`))
  await using stack = await startStack({ crash })
  signal.throwIfAborted()
  const { izta, url } = stack
  const scene = { ...options, izta, url }
  screen.step(`Started ${await describePostgres(stack.databaseUrl ?? '')}, with scheduler and runner`)
  screen.step(`Tasks can be posted to ${url}`)
  const timings = recordTimings(izta)

  const slot = await fireSchedule(scene)
  const killer = crash ? createCrash(stack, screen) : undefined
  await watch(scene, slot, killer)

  const findings = await readFindings(izta)
  showLicences(findings, screen)
  showFailures(describeFindings(findings.failures), findings.failures, screen)
  if (findings.failures.length > 0) {
    const meaning =
      'Each is a task that failed for good, as its job asked; one with attempts left would be failing.'
    screen.print(screen.colors.dim(`  ${meaning}`))
  }
  showFailures(`${tasks(findings.broken.length)} went wrong`, findings.broken, screen)
  // The events of a runner in another process stay there; what its rows tell is known to all.
  showTimings([...(crash ? [] : timings()), summarise('due → ended', findings.endedAfterMs)], screen)
  screen.print('')
  if (killer?.hasKilled === false) {
    screen.print('All audits ended before the runner could be killed: take a folder with more packages.')
    return false
  }
  if (crash) screen.step(`${tasks(findings.lost)} died with the killed runner, run again since`)
  const isSame = await auditAgain(scene, findings)
  signal.throwIfAborted()
  const isExact = showRecount(findings, recount(root), screen)
  screen.print(screen.colors.dim(`Took ${((performance.now() - startedAtMs) / 1000).toFixed(1)} s.`))
  return isSame && isExact && findings.broken.length === 0
}

/** Stores a schedule whose first slot is a second or two ahead, and removes it when that slot's task runs. */
async function fireSchedule({ izta, root, screen, signal }: Scene): Promise<Date> {
  const slot = new Date(Math.ceil(Date.now() / 1000 + 1) * 1000)
  const schedule = dailyAudit(root, slot)
  await izta.schedules.put(schedule)
  screen.step(`Schedule ${schedule.name} fires at ${slot.toLocaleTimeString('en-GB')}, and would every day`)
  for await (const { scans } of followCounts(izta, signal)) if (scans.running + endedOf(scans) > 0) break
  // Or tomorrow's task would be pending all the time.
  await izta.schedules.remove(schedule.name)
  return slot
}

/** Shows the progress until no task is left. */
async function watch({ izta, screen, signal }: Scene, startedAt: Date, crash?: Crash): Promise<void> {
  try {
    for await (const { scans, audits, checks } of followCounts(izta, signal)) {
      const counts = sumOf([scans, audits, checks])
      const lanes = [
        { name: auditPackage.name, ended: endedOf(audits), total: totalOf(audits) },
        // An audit that finishes makes a check in the same transaction.
        { name: checkFiles.name, ended: endedOf(checks), total: totalOf(audits) - audits.failed },
      ]
      const tasksPerSecond = (1000 * endedOf(counts)) / (Date.now() - startedAt.getTime())
      const note = (await crash?.observe(audits)) ?? ''
      screen.show({ lanes, counts, tasksPerSecond, note })
      if (endedOf(counts) === totalOf(counts)) return
    }
  } finally {
    screen.end()
  }
}

/** Asks for one more audit by HTTP, as a program in any language can, and compares. */
async function auditAgain({ izta, url, root, screen }: Scene, { heaviest }: Findings): Promise<boolean> {
  if (heaviest === undefined) return true
  const { path, sha256 } = heaviest
  const body = JSON.stringify({ tasks: [{ job: auditPackage.id, payload: { root, path } }] })
  const response = await fetch(url, { method: 'POST', body })
  screen.step(`Posted ${path} to ${url}: ${response.status}`)
  const answer = (await response.json()) as { tasks: [{ id: string }] }
  const task = await izta.wait(auditPackage, answer.tasks[0].id)
  const isSame = task.status === 'finished' && task.result.sha256 === sha256
  screen.step(`Audited it again: ${isSame ? 'the same' : 'another'} SHA-256, ${sha256.slice(0, 32)}…`)
  return isSame
}
