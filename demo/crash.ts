// Kills the runner's process half way, and says what one waits for then.
import type { StatusCounts } from '../src/index.ts'
import type { LocalStack } from '../src/local/index.ts'
import { endedOf, totalOf } from './counts.ts'
import { tasks } from './report.ts'
import type { Screen } from './screen.ts'

export interface Crash {
  readonly hasKilled: boolean
  /** Is shown how far the audits are; answers with what one waits for, if anything. */
  observe(audits: StatusCounts): Promise<string>
}

export function createCrash(stack: LocalStack, screen: Screen): Crash {
  let killed: { readonly pid: number; readonly leasesEndAtMs: number } | undefined
  let successorPid: number | undefined

  async function kill(pid: number, audits: StatusCounts): Promise<typeof killed> {
    process.kill(pid, 'SIGKILL')
    const { tasks: held } = await stack.izta.listPage({ status: 'running', pageSize: 1000 })
    const leaseEnds = held.map((task) => (task.status === 'running' ? task.leaseExpiresAt.getTime() : 0))
    const audited = `after ${endedOf(audits)} of ${totalOf(audits)} audits`
    screen.step(`Killed runner ${pid} (SIGKILL) ${audited}, with ${tasks(held.length)} running`)
    return { pid, leasesEndAtMs: Math.max(0, ...leaseEnds) }
  }

  async function observe(audits: StatusCounts): Promise<string> {
    const [pid] = stack.runnerPids()
    if (killed === undefined) {
      const isHalfWay = audits.running > 0 && endedOf(audits) >= totalOf(audits) / 2
      if (isHalfWay && pid !== undefined) killed = await kill(pid, audits)
      return ''
    }
    if (successorPid === undefined && pid !== undefined && pid !== killed.pid) {
      successorPid = pid
      screen.step(`Runner ${pid} has taken over`)
    }
    const leftSeconds = Math.ceil((killed.leasesEndAtMs - Date.now()) / 1000)
    if (audits.pending > 0 || leftSeconds <= 0) return ''
    // Lambda ends an invocation then at the latest: nobody may run its tasks before.
    return `The dead runner's tasks are leased until its deadline, ${leftSeconds} s from now`
  }

  return {
    observe,
    get hasKilled() {
      return killed !== undefined
    },
  }
}
