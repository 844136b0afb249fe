// Removes history rows whose time is over, a bounded number at once, and rows of unused queues.
import type { Row, Statement } from '../db/database.ts'
import { integer } from './encode.ts'

// Served by history_expires_at.
const prune = `
select izta.prune_1($1::integer) as pruned`

export const pruneStatement = (rows: number): Statement => ({
  lane: 'quick',
  text: prune,
  values: [String(rows)],
})

export const readPruned = (rows: readonly Row[]): number => integer(rows[0] ?? {}, 'pruned')
