// Removes history rows whose time is over, a bounded number at once.
import type { Row, Statement } from '../db/database.ts'
import { integer } from './encode.ts'

// Served by history_expires_at.
const prune = `
with gone as (
  delete from izta.history
  where id = any (array(
    select id from izta.history where expires_at <= izta.now() order by expires_at limit $1::integer
    for update skip locked))
  returning id)
select count(*) as pruned from gone`

export const pruneStatement = (rows: number): Statement => ({
  lane: 'quick',
  text: prune,
  values: [String(rows)],
})

export const readPruned = (rows: readonly Row[]): number => integer(rows[0] ?? {}, 'pruned')
