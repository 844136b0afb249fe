// What the server, the user and the tables of an installation look like: facts for `izta doctor`.
import type { Row, Statement } from '../db/database.ts'
import { epochMs, flag, integer, json, optionalText, text } from './encode.ts'

// Who is asking what; reads catalogs of a few rows.
const server = `
select current_setting('server_version') as version, current_setting('server_version_num') as version_number,
  ${epochMs('clock_timestamp()')} as now_ms, current_user as "user", r.rolsuper as superuser,
  pg_has_role(r.oid, 'pg_read_all_stats', 'usage') as sees_sessions,
  pg_catalog.has_database_privilege(current_database(), 'create') as may_create_schema,
  pg_is_in_recovery() or current_setting('transaction_read_only')::boolean as read_only,
  current_setting('synchronous_commit') as synchronous_commit,
  current_setting('autovacuum')::boolean and current_setting('track_counts')::boolean as vacuums,
  current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
    - coalesce(current_setting('reserved_connections', true)::integer, 0) as connections,
  (select min(l.connections) from (
    values (r.rolconnlimit), ((select d.datconnlimit from pg_database d where d.datname = current_database()))
    ) l(connections) where l.connections >= 0) as own_connections,
  (select sum(d.numbackends) from pg_stat_database d) as used_connections,
  (select pg_catalog.json_agg(o.nspname) from (
    select n.nspname from pg_namespace n
    where n.nspname not in ($1::text, 'information_schema') and n.nspname !~ '^pg_'::text
      and (n.nspowner = r.oid or exists (
        select from pg_class c where c.relnamespace = n.oid and c.relowner = r.oid and c.relkind in ('r', 'p')))
    order by n.nspname) o)::text as owned,
  (select o.rolname
    from pg_namespace n
    join pg_class c on c.relnamespace = n.oid and c.relname = 'task'
    join pg_roles o on o.oid = c.relowner
    where n.nspname = $1::text and o.rolsuper) as superuser_owner,
  (select pg_catalog.json_agg(g.role) from (
    select t.role from pg_catalog.unnest('{enqueue,run,read}'::text[]) with ordinality t(role, n)
    join pg_roles m on m.rolname = $1::text || '_'::text || t.role
    where pg_has_role(r.oid, m.oid, 'usage') order by t.n) g)::text as group_roles
from pg_roles r
where r.rolname = current_user`

export const serverStatement = (schema: string): Statement => ({
  lane: 'quick',
  text: server,
  values: [schema],
})

export interface ServerFacts {
  readonly version: string
  /** 150004 is 15.4. */
  readonly versionNumber: number
  readonly nowMs: number
  readonly user: string
  readonly superuser: boolean
  /** Whether the user is shown what other users' sessions do. */
  readonly seesSessions: boolean
  readonly mayCreateSchema: boolean
  readonly readOnly: boolean
  /** Whether a commit is on disk when it is answered (`synchronous_commit`). */
  readonly keepsCommits: boolean
  /** Whether dead rows are counted and removed at all. */
  readonly vacuums: boolean
  /** What the server has for users that are no superusers. */
  readonly connections: number
  /** What the user, or everybody in this database, may have at most. */
  readonly ownConnections: number | undefined
  /** Of all users in all databases, now. */
  readonly usedConnections: number
  /** Schemas beside izta's that belong to the user, or that have tables of the user. */
  readonly owned: readonly string[]
  /** The owner of izta's tables and functions, if it is a superuser. */
  readonly superuserOwner: string | undefined
  /** Of the roles that `izta migrate --roles` makes, those that the user has: `enqueue`, `run`, `read`. */
  readonly groupRoles: readonly string[]
}

export function readServer([row = {}]: readonly Row[]): ServerFacts {
  return {
    version: text(row, 'version'),
    versionNumber: integer(row, 'version_number'),
    nowMs: integer(row, 'now_ms'),
    user: text(row, 'user'),
    superuser: flag(row, 'superuser'),
    seesSessions: flag(row, 'sees_sessions'),
    mayCreateSchema: flag(row, 'may_create_schema'),
    readOnly: flag(row, 'read_only'),
    keepsCommits: text(row, 'synchronous_commit') !== 'off',
    vacuums: flag(row, 'vacuums'),
    connections: integer(row, 'connections'),
    ownConnections: optionalNumber(row, 'own_connections'),
    usedConnections: integer(row, 'used_connections'),
    owned: json<readonly string[]>(row, 'owned', []),
    superuserOwner: optionalText(row, 'superuser_owner'),
    groupRoles: json<readonly string[]>(row, 'group_roles', []),
  }
}

// The privileges that the user lacks of those that migrations/roles.sql grants for running: some columns are enough for an
// insert or update. Reads catalogs of a few rows.
const missingPrivileges = `
with needed(name, privileges) as (
  values ('task', '{select,insert,delete}'::text[]), ('history', '{select}'), ('queue', '{select,insert,update}'),
    ('schedule', '{select,insert,update,delete}'), ('app', '{select,insert,update}'), ('wake', '{select}'),
    ('migration', '{select}'))
select 'usage' as privileges, pg_catalog.format('schema %I', n.nspname) as object
from pg_namespace n
where n.nspname = $1::text and not has_schema_privilege(n.oid, 'usage')
union all
select string_agg(p.name, ', ' order by p.n), pg_catalog.format('%I.%I', n.nspname, c.relname)
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
join needed on needed.name = c.relname
cross join pg_catalog.unnest(needed.privileges) with ordinality as p(name, n)
where n.nspname = $1::text and not case
  when p.name in ('insert', 'update') then has_any_column_privilege(c.oid, p.name)
  else has_table_privilege(c.oid, p.name) end
group by n.nspname, c.relname
union all
select 'execute', pg_catalog.format('function %I.%I', n.nspname, f.proname)
from pg_namespace n
join pg_proc f on f.pronamespace = n.oid
where n.nspname = $1::text and not has_function_privilege(f.oid, 'execute')
  and (f.prosecdef or f.proname ~ '^(now|epoch_ms|(status|ready_queues)_[0-9]+)$'::text)
order by object`

export const missingPrivilegesStatement = (schema: string): Statement => ({
  lane: 'quick',
  text: missingPrivileges,
  values: [schema],
})

/** Each as it stands in a `grant`: `update, delete on izta.task`. */
export const readMissingPrivileges = (rows: readonly Row[]): string[] =>
  rows.map((row) => `${text(row, 'privileges')} on ${text(row, 'object')}`)

// How large the tables are, and how many of their rows are dead: from the counters that autovacuum goes by.
const tables = `
select c.relname as name, pg_catalog.pg_relation_size(c.oid) as table_bytes, pg_catalog.pg_indexes_size(c.oid) as index_bytes,
  pg_catalog.pg_total_relation_size(c.oid) as total_bytes, coalesce(s.n_live_tup, 0) as live, coalesce(s.n_dead_tup, 0) as dead
from pg_namespace n
join pg_class c on c.relnamespace = n.oid and c.relkind = 'r'
left join pg_stat_all_tables s on s.relid = c.oid
where n.nspname = $1::text and c.relname in ('task', 'history')`

export const tablesStatement = (schema: string): Statement => ({
  lane: 'quick',
  text: tables,
  values: [schema],
})

export interface TableFacts {
  readonly tableBytes: number
  readonly indexBytes: number
  /** With indexes and with values too large for a row. */
  readonly totalBytes: number
  /** Estimates. */
  readonly live: number
  readonly dead: number
}

export const readTables = (rows: readonly Row[]): ReadonlyMap<string, TableFacts> =>
  new Map(
    rows.map((row) => [
      text(row, 'name'),
      {
        tableBytes: integer(row, 'table_bytes'),
        indexBytes: integer(row, 'index_bytes'),
        totalBytes: integer(row, 'total_bytes'),
        live: integer(row, 'live'),
        dead: integer(row, 'dead'),
      },
    ]),
  )

// What keeps vacuum from removing dead rows, oldest first. Sessions of other databases count only as walsenders, and
// vacuums do not count: https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-BASICS
const holders = `
select kind, name, seconds, transactions
from (
  select case a.backend_type when 'walsender' then 'standby' else 'transaction' end as kind,
    pg_catalog.concat_ws(' ', 'pid ' || a.pid::text, 'user ' || a.usename::text, nullif(a.application_name, ''), a.state) as name,
    date_part('epoch', clock_timestamp() - a.xact_start)::bigint as seconds, age(a.backend_xmin) as transactions
  from pg_stat_activity a
  where coalesce(a.backend_xmin, a.backend_xid) is not null and a.pid <> pg_backend_pid()
    and (a.datname = current_database() or a.datname is null) and a.backend_type <> 'autovacuum worker'
    and not exists (select from pg_stat_progress_vacuum v where v.pid = a.pid)
  union all
  select 'slot', s.slot_name::text || case when s.active then '' else ' (inactive)' end, null, age(s.xmin)
  from pg_replication_slots s
  where s.xmin is not null
  union all
  select 'prepared', quote_literal(p.gid), date_part('epoch', clock_timestamp() - p.prepared)::bigint, age(p.transaction)
  from pg_prepared_xacts p
  where p.database = current_database()) h
order by seconds desc nulls last, transactions desc nulls last
limit 20`

export const holdersStatement: Statement = { lane: 'quick', text: holders, values: [] }

/** Something that holds the xmin horizon. */
export interface Holder {
  readonly kind: 'transaction' | 'standby' | 'slot' | 'prepared'
  readonly name: string
  /** Absent for standbys and slots. */
  readonly seconds: number | undefined
  /** How many transactions have begun since; absent for one that has only written. */
  readonly transactions: number | undefined
}

export const readHolders = (rows: readonly Row[]): Holder[] =>
  rows.map((row) => ({
    kind: text(row, 'kind') as Holder['kind'],
    name: text(row, 'name'),
    seconds: optionalNumber(row, 'seconds'),
    transactions: optionalNumber(row, 'transactions'),
  }))

function optionalNumber(row: Row, column: string): number | undefined {
  const value = optionalText(row, column)
  return value === undefined ? undefined : Number(value)
}
