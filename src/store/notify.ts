// Tells listening runners of queues that want one, by NOTIFY.
import type { Statement } from '../db/database.ts'
import { textArray } from './encode.ts'

/** Of the database, whatever the schema: a look too many does no harm. */
export const wakeChannel = 'izta_wake'

// A notification a queue: a name has at most 100 bytes, where all of a call would not fit into the 8,000 of one.
const notify = `
select pg_catalog.pg_notify('${wakeChannel}', queue) from pg_catalog.unnest($1::text[]) queue`

export function notifyStatement(queues: readonly string[]): Statement {
  return { lane: 'quick', text: notify, values: [textArray(queues)] }
}
