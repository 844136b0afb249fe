// How the work of an installation goes: queues, jobs, schedules and history, as facts for `izta doctor`.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, flag, integer, json, optionalInteger, optionalText, text } from './encode.ts'
import type { DeploymentSeen, LeftOut } from './sync.ts'

/** No statement here counts more rows than this of one queue, or of one table. */
export const healthRows = 10_000

/** How many of the next waiting tasks are looked at for leases; delayed tasks are among them. */
const waitingRows = 100_000

// Every queue that has a row, tasks that are due or running ones: how many are due, the age of the oldest, and whether a
// runner holds any. Hops from queue to queue, so that only ready tasks are read. A due task that no claim has made ready
// yet counts as well. Served by task_ready and task_later.
const queues = `
with recursive ready(queue) as (
  (select t.queue from izta.task t where t.ready order by t.queue, t.priority, t.run_at limit 1)
  union all
  select (
    select t.queue from izta.task t where t.ready and t.queue > r.queue order by t.queue, t.priority, t.run_at limit 1)
  from ready r where r.queue is not null),
overdue as (
  select o.queue, count(*) as tasks, min(o.run_at) as oldest
  from (
    select t.queue, t.run_at from izta.task t
    where not t.ready and t.run_at <= izta.now() order by t.run_at limit $1::integer) o
  group by o.queue),
running as (
  select distinct l.queue
  from (
    select t.queue, t.lease from izta.task t
    where not t.ready and t.run_at > izta.now() order by t.run_at limit $2::integer) l
  where l.lease is not null),
named as (
  select q.name from izta.queue q
  union
  select r.queue from ready r where r.queue is not null
  union
  select o.queue from overdue o
  union
  select u.queue from running u)
select n.name, coalesce(q.paused, false) as paused, due.tasks + coalesce(o.tasks, 0) as due,
  u.queue is not null as running,
  coalesce(date_part('epoch', izta.now() - least(due.oldest, o.oldest))::bigint, 0) as oldest_seconds
from named n
left join izta.queue q on q.name = n.name
left join overdue o on o.queue = n.name
left join running u on u.queue = n.name
cross join lateral (
  select count(*) as tasks, min(d.run_at) as oldest
  from (
    select t.run_at from izta.task t where t.ready and t.queue = n.name
    order by t.priority, t.run_at limit $1::integer) d) due
order by n.name`

export const queueHealthStatement: Statement = {
  lane: 'quick',
  text: queues,
  values: [String(healthRows), String(waitingRows)],
}

export interface QueueHealth {
  readonly name: string
  readonly paused: boolean
  /** At most `healthRows` that are ready and as many that no claim has made ready yet. */
  readonly due: number
  /** How long the oldest of them is due. */
  readonly oldestSeconds: number
  /** Whether a task of it is leased now. */
  readonly running: boolean
}

export const readQueueHealth = (rows: readonly Row[]): QueueHealth[] =>
  rows.map((row) => ({
    name: text(row, 'name'),
    paused: flag(row, 'paused'),
    due: integer(row, 'due'),
    oldestSeconds: integer(row, 'oldest_seconds'),
    running: flag(row, 'running'),
  }))

// What became of the tasks of the last day, the newest of them, and how those that have not ended stand, by job. The
// entry of the newest failure goes out as text: a database cannot read all that JSON may hold.
// Served by history_finished_at and history_job.
const jobs = `
with ended as (
  select h.job, count(*) as ended, count(*) filter (where h.status = 'failed') as failed,
    count(*) filter (where h.losses > 0) as lost
  from (
    select job, status, losses from izta.history
    where finished_at > izta.now() - interval '1 day'
    order by finished_at desc limit $1::integer) h
  group by h.job),
unfinished as (
  select t.job, count(*) filter (where t.attempt > 0) as failing, count(*) filter (where t.losses > 0) as lost,
    max(t.losses) as losses
  from (select job, attempt, losses from izta.task limit $1::integer) t
  group by t.job)
select coalesce(e.job, u.job) as job, coalesce(e.ended, 0) as ended, coalesce(e.failed, 0) as failed,
  coalesce(u.failing, 0) as failing, coalesce(e.lost, 0) + coalesce(u.lost, 0) as lost, coalesce(u.losses, 0) as losses,
  case when e.failed > 0 then (
    select h.errors[pg_catalog.cardinality(h.errors)]::text from izta.history h
    where h.job = e.job and h.status = 'failed'
    order by h.id desc limit 1)
  end as last_error
from ended e
full join unfinished u on u.job = e.job
order by job`

export const jobHealthStatement: Statement = { lane: 'quick', text: jobs, values: [String(healthRows)] }

export interface JobHealth {
  readonly job: string
  /** Of the last day. */
  readonly ended: number
  /** Of these, without success. */
  readonly failed: number
  /** Failed at least once and to be tried again. */
  readonly failing: number
  /** Tasks whose process died under them, of the last day and unfinished. */
  readonly lost: number
  /** The most losses of one unfinished task. */
  readonly losses: number
  /** Why the newest failed task has failed. */
  readonly lastError: string | undefined
}

export const readJobHealth = (rows: readonly Row[]): JobHealth[] =>
  rows.map((row) => ({
    job: text(row, 'job'),
    ended: integer(row, 'ended'),
    failed: integer(row, 'failed'),
    failing: integer(row, 'failing'),
    lost: integer(row, 'lost'),
    losses: integer(row, 'losses'),
    lastError: json<{ message?: string }>(row, 'last_error', {}).message,
  }))

// How far behind the schedules are; a tick moves plan_at of each that it has planned into the future. The table holds
// as many rows as there are schedules. When the last tick came is recorded. The difference of the two clocks is there to
// find one that a test has replaced.
const schedules = `
with overdue as materialized (
  select s.name, s.plan_at from izta.schedule s where not s.paused and s.plan_at <= izta.now())
select count(*) as schedules, count(*) filter (where s.paused) as paused,
  (select count(*) from overdue) as overdue,
  (select o.name from overdue o order by o.plan_at limit 1) as oldest,
  coalesce(date_part('epoch', izta.now() - (select min(o.plan_at) from overdue o))::bigint, 0) as overdue_seconds,
  (select date_part('epoch', izta.now() - w.ticked_at)::bigint from izta.wake w where isfinite(w.ticked_at))
    as ticked_seconds,
  ${epochMs('izta.now() - now()')} as clock_moved_ms,
  (select pg_catalog.json_agg(pg_catalog.json_build_object(
    'app', a.name, 'leftOut', a.left_out, 'at', ${epochMs('a.left_out_at')},
    'newer', case when a.left_out_by is not null then pg_catalog.json_build_object(
      'deployedAt', ${epochMs('a.deployed_at')}, 'seenAt', ${epochMs('a.seen_at')}) end))
  from izta.app a where a.left_out is not null) as left_out
from izta.schedule s`

export const scheduleHealthStatement: Statement = { lane: 'quick', text: schedules, values: [] }

export interface ScheduleHealth {
  readonly schedules: number
  readonly paused: number
  /** How many a tick should have planned. */
  readonly overdue: number
  /** The name of the one that waits longest, and since when. */
  readonly oldest: string | undefined
  readonly overdueSeconds: number
  /** Since when the last tick came; undefined when none ever did. */
  readonly tickedSeconds: number | undefined
  /** How far the schema's clock is from the server's. */
  readonly clockMovedMs: number
  /** Of each app whose last sync has left schedules otherwise than its code says. */
  readonly leftOut: readonly AppLeftOut[]
}

export interface AppLeftOut {
  readonly app: string
  readonly leftOut: readonly LeftOut[]
  /** When that sync came. */
  readonly at: Date
  /** The deployment that held the schedules, where it was newer. */
  readonly newer: DeploymentSeen | undefined
}

interface StoredLeftOut extends Pick<AppLeftOut, 'app' | 'leftOut'> {
  readonly at: number
  readonly newer?: { readonly deployedAt: number; readonly seenAt: number }
}

export function readScheduleHealth([row = {}]: readonly Row[]): ScheduleHealth {
  return {
    schedules: integer(row, 'schedules'),
    paused: integer(row, 'paused'),
    overdue: integer(row, 'overdue'),
    oldest: optionalText(row, 'oldest'),
    overdueSeconds: integer(row, 'overdue_seconds'),
    tickedSeconds: optionalInteger(row, 'ticked_seconds'),
    clockMovedMs: integer(row, 'clock_moved_ms'),
    leftOut: json<StoredLeftOut[]>(row, 'left_out', []).map(({ at, newer, ...rest }) => ({
      ...rest,
      at: new Date(at),
      newer: newer && { deployedAt: new Date(newer.deployedAt), seenAt: new Date(newer.seenAt) },
    })),
  }
}

// What pruning has left. Served by history_expires_at.
const history = `
select (select count(*) from (
    select from izta.history where expires_at <= izta.now() order by expires_at limit $1::integer) e) as expired,
  coalesce(date_part('epoch', izta.now() - min(h.expires_at))::bigint, 0) as oldest_seconds
from (select expires_at from izta.history order by expires_at limit 1) h`

export const historyHealthStatement: Statement = {
  lane: 'quick',
  text: history,
  values: [String(healthRows)],
}

export interface HistoryHealth {
  /** Rows whose time is over, at most `healthRows`. */
  readonly expired: number
  /** For how long the oldest of them is over. */
  readonly oldestSeconds: number
}

export function readHistoryHealth([row = {}]: readonly Row[]): HistoryHealth {
  return { expired: integer(row, 'expired'), oldestSeconds: integer(row, 'oldest_seconds') }
}
