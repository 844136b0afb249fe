// Whether the public counts add up: izta.counts() against SQL and the ledger, all in one snapshot.
import type { Client } from 'pg'
import { createIzta, type Database, type Row } from '../../src/index.ts'
import { quiet } from './child.ts'

export const countsRule = 'the counts by status add up, and are those of the rows'

const counted = `
select status, count(*)::integer as count
from (
  select case when lease is not null and not ready and run_at > izta.now() then 'running'
    when attempt = 0 then 'pending' else 'failing' end as status
  from izta.task
  union all
  select status from izta.history) t
group by status`
const inAll = 'select count(*)::integer as count from ledger.made'

/** What is wrong with them; the client must be in a transaction with one snapshot. */
export async function checkCounts(client: Client): Promise<string | undefined> {
  const { rows: byStatus } = await client.query<{ status: string; count: number }>(counted)
  const { rows: all } = await client.query<{ count: number }>(inAll)
  const izta = createIzta({ database: over(client), jobs: [], log: quiet })
  const given: Record<string, number> = {}
  for (const queue of Object.values(await izta.counts({ since: new Date(0) }))) {
    for (const [status, count] of Object.entries(queue)) given[status] = (given[status] ?? 0) + count
  }
  const sum = Object.values(given).reduce((total, count) => total + count, 0)
  const expected = Object.fromEntries(byStatus.map(({ status, count }) => [status, count]))
  const isRight =
    sum === all[0]?.count && Object.entries(given).every(([name, count]) => count === (expected[name] ?? 0))
  if (isRight) return undefined
  return `counts() says ${JSON.stringify(given)}, the rows ${JSON.stringify(expected)}, made were ${all[0]?.count}`
}

/** The port of izta on a connection, whatever transaction it is in. */
const over = (client: Client): Database => ({
  async query({ text, values }) {
    const types = { getTypeParser: () => (value: string) => value }
    const { rows } = await client.query<Row>({ text, values: [...values], types })
    return rows
  },
})
