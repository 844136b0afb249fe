// After the last fault: leases are lost one at a time, everything drains, and the times to recovery are taken.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { recoveries } from './checks.ts'
import type { Target } from './kinds/kind.ts'
import { untilDone } from './kinds/processes.ts'
import { invocationMs } from './pace.ts'
import type { Random } from './random.ts'

export interface Recovery {
  readonly count: number
  readonly p50: number
  readonly p99: number
  readonly max: number
}

const drainLimitMs = 60_000
/** Between two triggers, where nothing but a tick starts a runner. */
const tickMs = 60_000

/** Of the leases that ended since an instant on izta's clock. */
export async function recoverySince(admin: Client, since: Date): Promise<Recovery> {
  const { rows } = await admin.query<Recovery>(recoveries, [since])
  return rows[0] ?? { count: 0, p50: 0, p99: 0, max: 0 }
}

export async function iztaNow(admin: Client): Promise<Date> {
  const { rows } = await admin.query<{ now: Date }>('select izta.now() as now')
  return rows[0]?.now ?? new Date()
}

/** Runners die in their tasks, one after the other, beside others that live. */
export async function loseSome({ runners, clients }: Target, random: Random, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    clients.send({ burst: 4 })
    await untilDone(runners.any(random), { inTask: 'SIGKILL' })
    await sleep(1000)
  }
}

/** Waits until nothing is left but slots to come; resolves with the seconds that it took, or when it took too many. */
export async function drain(admin: Client, signal: AbortSignal): Promise<number> {
  const startedAtMs = performance.now()
  while (!signal.aborted && performance.now() < startedAtMs + drainLimitMs) {
    await sleep(250)
    const { rows } = await admin.query(
      `select from izta.task where schedule is null or due_at < izta.now() - interval '2 seconds' limit 1`,
    )
    if (rows.length === 0 && performance.now() - startedAtMs > 1500) break
  }
  return (performance.now() - startedAtMs) / 1000
}

/**
 * No runner is alive but by a wake: one dies in its tasks, and a tick, as the scheduler has it each minute, must
 * start the next.
 */
export async function loseAsleep(
  { runners, clients }: Target,
  random: Random,
  onWake: (listener: () => void) => () => void,
): Promise<void> {
  clients.send({ ticking: false })
  runners.setAsleep(true)
  await sleep(invocationMs + 1000)
  const chosen = runners.any(random)
  let isChosen = true
  const stopListening = onWake(() => {
    const child = isChosen ? chosen : runners.any(random)
    if (child?.connected === true) child.send({ storm: 1 }, () => undefined)
  })
  const dead = untilDone(chosen, { inTask: 'SIGKILL' })
  clients.send({ burst: 4 })
  await dead
  isChosen = false
  await sleep(tickMs)
  clients.send({ ticks: 1 })
  await sleep(3 * invocationMs)
  stopListening()
  runners.setAsleep(false)
  clients.send({ ticking: true })
}
