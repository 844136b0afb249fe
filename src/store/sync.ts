// Makes the stored schedules equal to their definitions.
import type { Row, Statement } from '../db/database.ts'
import { onlyRow, flag, json, plainArray, textArray } from './encode.ts'

/** A schedule as it is stored. */
export interface ScheduleRow {
  readonly name: string
  readonly job: string
  /** JSON text. */
  readonly payload: string
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  /** JSON text. */
  readonly rule: string
  readonly missed: string
  readonly overlap: string
  /** Of everything above: tells whether the definition has changed. */
  readonly hash: string
}

// Makes the stored schedules of one app (or one dynamic schedule: app null) equal to the given definitions, unless a
// newer deployment has synced already. What has changed or is gone loses its tasks that never started, and the cursor
// goes back to before the first of them, so that no slot falls between the old definition and the new one.
//
// A statement sees the tables as they were when it began. One that then waited for a tick would miss the tasks that
// the tick made, and leave them beside those of the new definition. Hence "seen" and "locked": only rows that are still
// as they were seen are touched; the others are reported as contended, and the statement is sent again.
// Served by schedule_pkey and task_schedule.
const sync = `
with newest as (
  insert into izta.app (name, deployed_at, syncs)
  select $1::text, coalesce($2::timestamptz, '-infinity'), 1 where $1 is not null
  on conflict (name) do update set
    deployed_at = greatest(app.deployed_at, excluded.deployed_at),
    syncs = app.syncs + 1
    where $2::timestamptz is null or app.deployed_at <= excluded.deployed_at
  returning name, syncs),
sole as materialized (
  select n.name from newest n
  where n.syncs = 1 + coalesce((select a.syncs from izta.app a where a.name = $1), 0)),
definition as materialized (
  select *
  from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[], $9::smallint[], $10::text[],
    $11::text[], $12::text[], $13::text[])
    as d(name, job, payload, queue, priority, max_attempts, rule, missed, overlap, hash)
  where $1 is null or exists (select from sole)),
seen as materialized (
  select s.name, s.xmin as version
  from izta.schedule s
  left join definition d on d.name = s.name
  where s.app is not distinct from $1
    and (d.hash <> s.hash or (d.name is null and $3::boolean and exists (select from sole)))),
locked as materialized (
  select s.name
  from izta.schedule s
  join seen on seen.name = s.name and seen.version = s.xmin
  order by s.name
  for update of s),
dropped as (
  delete from izta.task t
  where t.schedule in (select l.name from locked l) and t.slot is not null and t.claims = 0
  returning t.schedule, t.slot),
removed as (
  delete from izta.schedule s
  where s.name in (select l.name from locked l where l.name not in (select d.name from definition d))
  returning s.name),
changed as (
  update izta.schedule s set
    job = d.job, payload = d.payload::json, queue = d.queue, priority = d.priority, max_attempts = d.max_attempts,
    rule = d.rule::json, missed = d.missed, overlap = d.overlap, hash = d.hash,
    made_until = case
      when s.paused then s.made_until
      else date_trunc('milliseconds', least(s.made_until, izta.now(),
        (select min(o.slot) - interval '1 ms' from dropped o where o.schedule = s.name)))
    end,
    plan_at = izta.now(), updated_at = izta.now()
  from definition d
  where d.name = s.name and s.name in (select l.name from locked l)
  returning s.name),
added as (
  insert into izta.schedule (name, app, job, payload, queue, priority, max_attempts, rule, missed, overlap,
    hash, made_until, plan_at, created_at, updated_at)
  select d.name, $1, d.job, d.payload::json, d.queue, d.priority, d.max_attempts, d.rule::json, d.missed, d.overlap,
    d.hash, date_trunc('milliseconds', izta.now()), izta.now(), izta.now(), izta.now()
  from definition d
  where not exists (select from izta.schedule s where s.name = d.name)
  order by d.name
  on conflict do nothing
  returning name)
select
  $1 is not null and not exists (select from newest) as outdated,
  exists (select from newest where name not in (select name from sole))
    or exists (select from seen where name not in (select name from locked))
    or exists (
      select from definition d
      where not exists (select from izta.schedule s where s.name = d.name) and d.name not in (select name from added))
    as contended,
  (select pg_catalog.json_agg(w.name) from (select name from changed union all select name from added) w) as written,
  (select pg_catalog.json_agg(r.name) from removed r) as removed,
  (select pg_catalog.json_agg(s.name) from izta.schedule s join definition d on d.name = s.name
    where s.app is distinct from $1) as foreign_names`

export interface SyncRequest {
  /** Undefined for a dynamic schedule. */
  readonly app: string | undefined
  readonly deployedAt: Date | undefined
  readonly removeMissing: boolean
  readonly schedules: readonly ScheduleRow[]
}

export function syncSchedulesStatement({
  app,
  deployedAt,
  removeMissing,
  schedules,
}: SyncRequest): Statement {
  return {
    lane: 'may-wait',
    text: sync,
    values: [
      app ?? null,
      deployedAt?.toISOString() ?? null,
      String(removeMissing),
      textArray(schedules.map((schedule) => schedule.name)),
      textArray(schedules.map((schedule) => schedule.job)),
      textArray(schedules.map((schedule) => schedule.payload)),
      textArray(schedules.map((schedule) => schedule.queue)),
      plainArray(schedules.map((schedule) => schedule.priority)),
      plainArray(schedules.map((schedule) => schedule.maxAttempts)),
      textArray(schedules.map((schedule) => schedule.rule)),
      textArray(schedules.map((schedule) => schedule.missed)),
      textArray(schedules.map((schedule) => schedule.overlap)),
      textArray(schedules.map((schedule) => schedule.hash)),
    ],
  }
}

export interface SyncReply {
  /** A newer deployment has synced before: nothing was changed. */
  readonly outdated: boolean
  /** Another statement was at work on the same rows: send it again. */
  readonly contended: boolean
  readonly written: readonly string[]
  readonly removed: readonly string[]
  /** Names that another app, or `schedules.put`, has taken: left as they are. */
  readonly foreign: readonly string[]
}

export function readSyncReply(rows: readonly Row[]): SyncReply {
  const row = onlyRow(rows)
  return {
    outdated: flag(row, 'outdated'),
    contended: flag(row, 'contended'),
    written: json<string[]>(row, 'written', []),
    removed: json<string[]>(row, 'removed', []),
    foreign: json<string[]>(row, 'foreign_names', []),
  }
}
