// Makes the stored schedules equal to their definitions.
import type { Row, Statement } from '../db/database.ts'
import { defaults } from '../defaults.ts'
import { epochMs, flag, instant, json, onlyRow, plainArray, textArray } from './encode.ts'

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
// newer deployment holds them: one that has synced within the last $14 seconds. Without that end a rollback would leave
// the schedules of code that is gone for ever. What has changed or is gone loses its tasks that never started, and the
// cursor goes back to before the first of them, so that no slot falls between the old definition and the new one. What is
// left otherwise than the definitions say is recorded with its reason.
//
// A statement sees the tables as they were when it began. One that then waited for a tick would miss the tasks that
// the tick made, and leave them beside those of the new definition. Hence "seen" and "locked": only rows that are still
// as they were seen are touched; the others are reported as contended, and the statement is sent again.
// Served by schedule_pkey and task_schedule.
const sync = `
with given as materialized (
  select *
  from unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::smallint[], $9::smallint[], $10::text[],
    $11::text[], $12::text[], $13::text[])
    as d(name, job, payload, queue, priority, max_attempts, rule, missed, overlap, hash)),
taken as materialized (
  select g.name, 'name-taken' as reason, s.app as owner
  from given g
  join izta.schedule s on s.name = g.name
  where s.app is distinct from $1),
different as materialized (
  select t.name, t.reason, t.owner from taken t
  union all
  select g.name, 'newer-deployment', null from given g
  where not exists (select from taken t where t.name = g.name)
    and not exists (select from izta.schedule s where s.name = g.name and s.hash = g.hash)
  union all
  select s.name, 'not-removed', null from izta.schedule s
  where s.app = $1 and $3::boolean and not exists (select from given g where g.name = s.name)),
newest as (
  insert into izta.app (name, deployed_at, seen_at, syncs, left_out, left_out_at)
  select $1::text, coalesce($2::timestamptz, '-infinity'), izta.now(), 1,
    (select pg_catalog.json_agg(t) from taken t), izta.now()
  where $1 is not null
  on conflict (name) do update set
    deployed_at = coalesce($2::timestamptz, app.deployed_at),
    seen_at = case when $2::timestamptz is null then app.seen_at else excluded.seen_at end,
    syncs = app.syncs + 1,
    left_out = excluded.left_out, left_out_at = excluded.left_out_at, left_out_by = null
    where $2::timestamptz is null or app.deployed_at <= excluded.deployed_at
      or app.seen_at <= izta.now() - $14::float8 * interval '1 second'
  returning name, syncs),
refused as (
  update izta.app a set
    left_out = (select pg_catalog.json_agg(d) from different d), left_out_at = izta.now(),
    left_out_by = case when exists (select from different) then $2::timestamptz end
  where a.name = $1 and not exists (select from newest)
  returning a.deployed_at, a.seen_at),
sole as materialized (
  select n.name from newest n
  where n.syncs = 1 + coalesce((select a.syncs from izta.app a where a.name = $1), 0)),
definition as materialized (
  select * from given
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
    plan_at = izta.now(), ahead = '[]', zone_data = null, updated_at = izta.now()
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
  exists (select from refused) as outdated,
  exists (select from newest where name not in (select name from sole))
    or ($1 is not null and not exists (select from newest) and not exists (select from refused))
    or exists (select from seen where name not in (select name from locked))
    or exists (
      select from definition d
      where not exists (select from izta.schedule s where s.name = d.name) and d.name not in (select name from added))
    as contended,
  (select pg_catalog.json_agg(w.name) from (select name from changed union all select name from added) w) as written,
  (select pg_catalog.json_agg(r.name) from removed r) as removed,
  case when exists (select from refused) then (select pg_catalog.json_agg(d) from different d)
    else (select pg_catalog.json_agg(t) from taken t) end as left_out,
  (select ${epochMs('r.deployed_at')} from refused r) as newer_ms,
  (select ${epochMs('r.seen_at')} from refused r) as seen_ms`

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
      String(defaults.schedule.silenceSeconds),
    ],
  }
}

/** A schedule that the database keeps otherwise than the code says. */
export interface LeftOut {
  readonly name: string
  /**
   * `'newer-deployment'`: not stored, and `'not-removed'`, because a newer deployment holds the app's schedules;
   * `'name-taken'`: not stored, because the name belongs to another app or to `schedules.put`.
   */
  readonly reason: 'newer-deployment' | 'not-removed' | 'name-taken'
  /** The app that has the name; null: `schedules.put`. */
  readonly owner: string | null
}

/** The deployment that holds an app's schedules. */
export interface DeploymentSeen {
  readonly deployedAt: Date
  /** When it synced last. */
  readonly seenAt: Date
}

export interface SyncReply {
  /** A newer deployment holds the schedules: nothing was changed. */
  readonly newer: DeploymentSeen | undefined
  /** Another statement was at work on the same rows: send it again. */
  readonly contended: boolean
  readonly written: readonly string[]
  readonly removed: readonly string[]
  readonly leftOut: readonly LeftOut[]
}

export function readSyncReply(rows: readonly Row[]): SyncReply {
  const row = onlyRow(rows)
  return {
    newer: flag(row, 'outdated')
      ? { deployedAt: instant(row, 'newer_ms'), seenAt: instant(row, 'seen_ms') }
      : undefined,
    contended: flag(row, 'contended'),
    written: json<string[]>(row, 'written', []),
    removed: json<string[]>(row, 'removed', []),
    leftOut: json<LeftOut[]>(row, 'left_out', []),
  }
}
