// Inserts tasks: one statement for any number of them, all or nothing, safe to repeat by their ids.
import type { Row, Statement } from '../db/database.ts'
import type { TaskStatus } from '../job/task.ts'
import { alarmMarginSeconds } from './alarms.ts'
import { instantArray, json, optionalInstant, optionalText, plainArray, textArray } from './encode.ts'

/** A task as it goes into the table: checked, with its defaults filled in. */
export interface NewTask {
  readonly id: string
  readonly queue: string
  readonly job: string
  /** JSON text. */
  readonly payload: string
  readonly priority: number
  readonly maxAttempts: number
  readonly delayMs: number
  readonly runAt: Date | undefined
  readonly key: string | undefined
  readonly keyUntil: 'finished' | 'started' | undefined
  /** W3C traceparent of what enqueues it. */
  readonly trace?: string | undefined
}

/** The status of an unfinished task `t`. */
export const unfinishedStatus = `case
    when t.lease is not null and t.run_at > izta.now() then 'running'
    when t.attempt > 0 then 'failing'
    else 'pending'
  end`

/** The columns of new tasks, one array a column, in the order of every insert. */
export function taskColumns(tasks: readonly NewTask[]): string[] {
  return [
    plainArray(tasks.map((task) => task.id)),
    textArray(tasks.map((task) => task.queue)),
    textArray(tasks.map((task) => task.job)),
    textArray(tasks.map((task) => task.payload)),
    plainArray(tasks.map((task) => task.priority)),
    plainArray(tasks.map((task) => task.maxAttempts)),
    plainArray(tasks.map((task) => task.delayMs)),
    instantArray(tasks.map((task) => task.runAt)),
    textArray(tasks.map((task) => task.key ?? null)),
    textArray(tasks.map((task) => task.keyUntil ?? null)),
    textArray(tasks.map((task) => task.trace ?? null)),
  ]
}

// Inserts what neither exists nor has its key taken; names the holders of the rest. Identity goes before the key: a
// repeat is told of its own task, not of a later one with the same key.
// Served by task_pkey, task_key and, where ids may have been used before ($12), history_pkey.
const made = `
with input as materialized (
  select *
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], $6::smallint[], $7::bigint[],
    $8::timestamptz[], $9::text[], $10::text[], $11::text[]) with ordinality
    as i(id, queue, job, payload, priority, max_attempts, delay_ms, run_at, key, key_until, trace, n)),
made as (
  insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, key, key_until, created_at,
    trace)
  select i.id, i.queue, i.job, i.payload::json, i.priority, i.max_attempts, w.at, w.at, i.key, i.key_until, izta.now(),
    i.trace
  from input i
  cross join lateral (select coalesce(i.run_at, izta.now() + i.delay_ms * interval '1 ms') as at) w
  where not ($12::boolean and exists (select from izta.history h where h.id = i.id))
  -- One order for everybody, or two inserts of mixed keys deadlock.
  order by i.job, i.key, i.id
  on conflict do nothing
  returning id, queue, run_at),
refused as (
  select i.n - 1 as index, f.id, f.status
  from input i
  left join lateral (
    select t.id, ${unfinishedStatus} as status from izta.task t where t.id = i.id
    union all
    select h.id, h.status from izta.history h where $12::boolean and h.id = i.id
    union all
    select t.id, ${unfinishedStatus} from izta.task t
    where i.key_until is not null and t.job = i.job and t.key = i.key and t.key_until is not null
    limit 1) f on true
  where i.id not in (select m.id from made m))`

const refusals = `
  (select json_agg(json_build_object('index', r.index, 'id', r.id, 'status', r.status)) from refused r) as refused`

// Inserts tasks, marks their queues as woken and says which want a runner. A mark that somebody else has locked
// counts as old: waiting for it could take as long as a stranger's transaction. So does any mark when the insert took
// long, for the lock on a key or for its size: meanwhile the runner may have cleared the mark, looked twice and left.
const enqueueAndWake = `${made},
due as (select distinct m.queue as name from made m where m.run_at <= izta.now()),
known as (
  insert into izta.queue (name, woken_at)
  select m.queue, case when bool_or(m.run_at <= izta.now()) then izta.now() else '-infinity' end
  from made m
  where not exists (select from izta.queue q where q.name = m.queue)
  group by m.queue
  order by m.queue
  on conflict do nothing),
stale as materialized (
  select d.name
  from due d
  left join izta.queue q on q.name = d.name
  where q.name is null or (not q.paused and (
    q.woken_at < izta.now() - interval '1 second'
    -- Less than a leaving runner waits before its last look.
    or clock_timestamp() > statement_timestamp() + interval '40 ms'))),
marked as (
  update izta.queue q set woken_at = izta.now()
  where q.name = any (array(
    select l.name from izta.queue l where l.name in (select s.name from stale s)
    order by l.name for no key update skip locked))),
later as (select min(m.run_at) as at from made m where m.run_at > izta.now())
select ${refusals},
  (select json_agg(s.name) from stale s) as wake,
  (select (date_part('epoch', l.at) * 1000)::bigint
  from later l
  where not exists (
    -- Unless it may go off before this commits: alarms are set to full minutes, none for one that has begun.
    select from izta.wake w
    where w.armed_at > izta.now() + interval '${alarmMarginSeconds} seconds' + (clock_timestamp() - statement_timestamp())
      and w.armed_at <= greatest(
        date_trunc('minute', l.at),
        date_trunc('minute', izta.now() + interval '${alarmMarginSeconds} seconds') + interval '1 minute'))) as later_ms`

// The same without a word to the queues: inside an application's transaction their rows would stay locked.
const enqueueOnly = `${made}
select ${refusals}`

export function enqueueStatement(tasks: readonly NewTask[], lookInHistory: boolean): Statement {
  return { text: enqueueAndWake, values: [...taskColumns(tasks), String(lookInHistory)] }
}

export function enqueueOnlyStatement(tasks: readonly NewTask[], lookInHistory: boolean): Statement {
  return { text: enqueueOnly, values: [...taskColumns(tasks), String(lookInHistory)] }
}

/** A task that was not inserted. `id` is null where the holder committed or ended only now: look again. */
export interface Refusal {
  readonly index: number
  readonly id: string | null
  readonly status: TaskStatus | null
}

export interface EnqueueReply {
  readonly refused: readonly Refusal[]
  /** Queues that want a runner now. */
  readonly wake: readonly string[]
  /** The first due instant among tasks that are not due yet, when no alarm is set for it. */
  readonly laterAt: Date | undefined
}

export function readEnqueueReply(rows: readonly Row[]): EnqueueReply {
  const row = rows[0] ?? {}
  return {
    refused: json<Refusal[]>(row, 'refused', []),
    wake: json<string[]>(row, 'wake', []),
    laterAt: optionalInstant(row, 'later_ms'),
  }
}

// Who holds a key. Served by task_key.
const keyHolder = `
select t.id, ${unfinishedStatus} as status
from izta.task t where t.job = $1::text and t.key = $2::text and t.key_until is not null`

export function keyHolderStatement(job: string, key: string): Statement {
  return { text: keyHolder, values: [job, key] }
}

export function readKeyHolder(rows: readonly Row[]): { id: string; status: TaskStatus } | undefined {
  const id = optionalText(rows[0] ?? {}, 'id')
  return id === undefined ? undefined : { id, status: rows[0]?.['status'] as TaskStatus }
}
