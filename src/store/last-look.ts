// What a runner asks before it leaves: whether a task is due, or due so soon that it should wait.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, instant, optionalInstant, textArray } from './encode.ts'

// The last look of a runner. What is due now and held by nobody: a row that somebody has locked could not be claimed.
// If nothing is, takes the place of the one runner that waits for the next task of its queue, if that is due soon. Leased
// tasks are no reason to wait: their runners settle them long before. Served by task_due.
const look = `
with due as materialized (
  select from (
    select q.name from izta.queue q where pg_catalog.cardinality($1::text[]) = 0 and not q.paused
    union all
    select n.name from pg_catalog.unnest($1::text[]) n(name)
    where not exists (select from izta.queue q where q.name = n.name and q.paused)) q
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select from izta.task t
    where t.queue = q.name and t.priority = p.priority and t.run_at <= izta.now()
    order by t.run_at limit 1
    for no key update of t skip locked) t
  limit 1),
soon as materialized (
  select q.name, t.run_at
  from izta.queue q
  cross join generate_series(0, 9) p(priority)
  cross join lateral (
    select o.run_at from izta.task o
    where o.queue = q.name and o.priority = p.priority and o.lease is null
      and o.run_at > izta.now() and o.run_at <= izta.now() + $2::float8 * interval '1 ms'
    order by o.run_at limit 1) t
  where not q.paused and (pg_catalog.cardinality($1::text[]) = 0 or q.name = any ($1::text[]))
    and (q.lingers_until <= izta.now() or q.lingers_until > t.run_at)
    and not exists (select from due)
  order by t.run_at
  limit 1),
waiting as (
  update izta.queue q set lingers_until = s.run_at
  from soon s
  where q.name = any (array(
    select l.name from izta.queue l
    join soon o on o.name = l.name
    where l.lingers_until <= izta.now() or l.lingers_until > o.run_at
    for no key update of l skip locked))
  returning s.run_at)
select ${epochMs('izta.now()')} as now_ms, null::bigint as due_ms from due
union all
select ${epochMs('izta.now()')}, ${epochMs('run_at')} from waiting`

export const lastLookStatement = (queues: readonly string[], withinMs: number): Statement => ({
  text: look,
  values: [textArray(queues), String(Math.floor(withinMs))],
})

/** Milliseconds to wait, 0 when a task is due; undefined when none is due soon, or another runner waits for it. */
export function readLastLook(rows: readonly Row[]): number | undefined {
  const row = rows[0]
  if (row === undefined) return undefined
  const dueAt = optionalInstant(row, 'due_ms')
  // Both are rounded to milliseconds: one more, and it is never early.
  return dueAt === undefined ? 0 : dueAt.getTime() - instant(row, 'now_ms').getTime() + 1
}
