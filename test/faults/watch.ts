// The independent reader: checks the rules in one snapshot after the other, and tells what belongs to a violation.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Client } from 'pg'
import { checks, type Check } from './checks.ts'
import { checkCounts, countsRule } from './counts.ts'
import type { Server } from './server.ts'

export type Note = (rule: string, what: string, evidence?: readonly string[]) => void

/** Reads one snapshot and notes what breaks a rule. */
export async function checkOnce(client: Client, when: readonly Check['when'][], note: Note): Promise<void> {
  await client.query('begin isolation level repeatable read, read only')
  for (const { rule, text, when: its } of checks) {
    if (!when.includes(its)) continue
    const { rows } = await client.query<{ what: string }>(`${text} limit 3`)
    const what = rows[0]?.what
    if (what !== undefined) note(rule, what, await evidenceOf(client, what))
  }
  const wrong = await checkCounts(client)
  if (wrong !== undefined) note(countsRule, wrong)
  await client.query('commit')
}

const evidence = [
  `select 'run' as of, r.* from ledger.run r where task = $1 order by started_at`,
  `select 'takeover' as of, t.* from ledger.takeover t where task = $1 order by n`,
  `select 'claimed' as of, c.* from ledger.claimed c where task = $1 order by n`,
  `select 'said' as of, s.* from ledger.said s where task = $1 order by at`,
  `select 'freed' as of, f.* from ledger.freed f where task = $1 order by n`,
  `select 'made' as of, m.* from ledger.made m where task = $1 order by n`,
  `select 'ended' as of, e.* from ledger.ended e where task = $1 order by n`,
  `select 'hot' as of, attempt, losses, claims, lease, run_at, due_at, cancel, created_at from izta.task where id = $1`,
  `select 'history' as of, status, attempt, losses, claims, finished_at, left(result::text, 200) as result,
    left(errors::text, 1000) as errors from izta.history where id = $1`,
]

/** What the ledger and izta know of the task that a violation names first. */
async function evidenceOf(client: Client, what: string): Promise<string[]> {
  const [task] = /[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}/.exec(what) ?? []
  if (task === undefined) return []
  const lines: string[] = []
  for (const text of evidence) {
    const { rows } = await client.query<Record<string, unknown>>(text, [task])
    lines.push(...rows.map((row) => JSON.stringify(row)))
  }
  return lines
}

/** How long the oldest due task has waited, in seconds; leases that have ended do not count. */
export async function readLag(client: Client): Promise<number> {
  const { rows } = await client.query<{ lag: number }>(`
    select coalesce(extract(epoch from izta.now() - min(run_at)), 0)::float as lag
    from izta.task where run_at <= izta.now() and lease is null`)
  return rows[0]?.lag ?? 0
}

/** Works again and again on a connection that comes back whenever the server does. */
export async function keepWorking(
  server: Server,
  signal: AbortSignal,
  work: (client: Client) => Promise<void>,
  pauseMs = 100,
): Promise<void> {
  while (!signal.aborted) {
    const client = await server.connect().catch(() => undefined)
    try {
      let tookMs = 0
      while (client !== undefined && !signal.aborted) {
        // Long runs have long ledgers: reading them must not be what the machine does.
        await sleep(Math.max(pauseMs, 5 * tookMs))
        const startedAtMs = performance.now()
        await work(client)
        tookMs = performance.now() - startedAtMs
      }
    } catch (error) {
      const state = error instanceof Error && 'code' in error ? String(error.code) : ''
      if (/^(22|42)/.test(state)) throw error
    }
    await client?.end().catch(() => undefined)
  }
}

/** Holds back what vacuum may clear away. */
export const pinHorizon = (server: Server, signal: AbortSignal) =>
  keepWorking(server, signal, async (client) => {
    await client.query('begin isolation level repeatable read; select pg_current_xact_id()')
    while (!signal.aborted) {
      await client.query('select 1')
      await sleep(200)
    }
  })
