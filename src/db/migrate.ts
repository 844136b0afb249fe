// Brings the schema to this version: each migration in one statement that is safe to send twice and to race.

import { createHash } from 'node:crypto'
import { readFile, readdir } from 'node:fs/promises'
import { systemClock } from '../clock.ts'
import { DatabaseError, IztaError, SchemaTooNewError } from '../errors.ts'
import { bindSchema, type Database, type Statement } from './database.ts'
import { throughGate, type GatedDatabase } from './gated.ts'
import { sendForLocks, setLockTimeout, type LockHolder } from './migrate-locks.ts'
import { repeat } from './run.ts'
import { isDatabaseError } from './transient.ts'

export interface MigrateOptions {
  readonly schema: string
  /**
   * Makes the roles of `migrations/roles.sql`. Where they have been made for this schema, they follow each migration
   * without it. @default false
   */
  readonly roles?: boolean
  /** How long a migration is tried again while another session has a lock that it needs. @default 60 */
  readonly lockWaitSeconds?: number
  /** Called while another session has a lock that a migration needs, before each new try. */
  readonly onWait?: (wait: MigrationWait) => void
  /** Holds `NNNN_verb_object.sql`, and ends in a slash. @internal */
  readonly folder?: URL
}

/** A migration that waits, and who has locks on izta's tables meanwhile, as far as that can be told. */
export interface MigrationWait {
  readonly migration: string
  readonly holders: readonly LockHolder[]
}

export interface SchemaState {
  readonly state: 'not-migrated' | 'pending' | 'current' | 'too-new'
  /** Names of this version's migrations that the database has, and of those that it lacks. */
  readonly applied: readonly string[]
  readonly pending: readonly string[]
  /** Names of migrations in the database that this version does not know. */
  readonly unknown: readonly string[]
}

interface Migration {
  readonly id: number
  readonly name: string
  readonly text: string
  readonly checksum: string
  readonly breaking: boolean
}

interface AppliedMigration {
  readonly name: string
  readonly checksum: string
  readonly breaking: boolean
}

/** Both `src/db` and `dist/db` are two levels below the package's root. A CommonJS bundle has no place of its own. */
function packagedMigrations(): URL {
  try {
    return new URL('../../migrations/', import.meta.url)
  } catch (cause) {
    throw migrationsMissing('next to this code', cause)
  }
}

function migrationsMissing(place: string, cause: unknown): IztaError {
  return new IztaError(
    'migrations-missing',
    `The migrations ${place} cannot be read: run izta from its installed package, not from a bundle.`,
    { cause },
  )
}

const readApplied = `
-- Which migrations the database has; the table holds a few rows.
select name, checksum, breaking from izta.migration order by id`

/**
 * Applies what is missing and returns its names, also when a concurrent call was faster. Each migration is one
 * transaction; a failure leaves those before it applied.
 *
 * @throws {SchemaTooNewError} when a newer izta made a change that this version cannot work with.
 * @throws {DatabaseError} with code `migration-changed` when an applied migration's file has changed.
 */
export async function migrate(given: Database, options: MigrateOptions): Promise<{ applied: string[] }> {
  const database = forMigrations(given)
  const migrations = await readMigrations(options.folder)
  const before = await readState(database, options.schema, migrations)
  if (before.state === 'too-new') throw tooNew(before)
  const pending = migrations.filter(({ name }) => before.pending.includes(name))
  for (const migration of pending) {
    await apply(database, migration, migrations, options)
  }
  if (options.roles === true || (await hasRoles(database, migrations, options.schema))) {
    await grantRoles(database, options.schema)
  }
  return { applied: pending.map(({ name }) => name) }
}

/** An index of a large table takes longer than a call of the application may. */
const forMigrations = (database: Database) => throughGate(database, { callTimeoutSeconds: 900 })

/** Compares the database with this version's migrations, without changing anything. */
export async function checkSchema(database: Database, options: MigrateOptions): Promise<SchemaState> {
  return readState(forMigrations(database), options.schema, await readMigrations(options.folder))
}

async function apply(
  database: GatedDatabase,
  migration: Migration,
  all: readonly Migration[],
  { schema, lockWaitSeconds, onWait }: MigrateOptions,
): Promise<void> {
  let holders: readonly LockHolder[] = []
  try {
    await sendForLocks(database, applyStatement(schema, migration), {
      schema,
      lockWaitSeconds,
      onWait(found) {
        holders = found
        onWait?.({ migration: migration.name, holders })
      },
    })
  } catch (error) {
    // Under repeatable read the block cannot see what a concurrent call committed while it waited for the lock.
    const { applied } = await readState(database, schema, all).catch(() => ({
      applied: [] as readonly string[],
    }))
    if (!applied.includes(migration.name)) throw failedMigration(migration, error, holders)
  }
}

// Whether the roles may use the schema, and the user may grant what is in it. Reads catalogs of a few rows.
const rolesInUse = `
select exists (
  select from pg_catalog.pg_roles r
  join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) 'izta'::pg_catalog.regnamespace
  join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) 'izta.migration'::pg_catalog.regclass
  where r.rolname operator(pg_catalog.=) pg_catalog.concat(n.nspname, '_run')::pg_catalog.name
    and pg_catalog.has_schema_privilege(r.oid, n.oid, 'usage') and pg_catalog.pg_has_role(c.relowner, 'usage')) as used`

async function hasRoles(
  database: GatedDatabase,
  migrations: readonly Migration[],
  schema: string,
): Promise<boolean> {
  if (migrations.length === 0) return false
  const statement: Statement = { lane: 'quick', text: bindSchema(rolesInUse, schema), values: [] }
  const { rows } = await repeat(database, systemClock, () => statement)
  return rows[0]?.['used'] === 't'
}

async function grantRoles(database: GatedDatabase, schema: string): Promise<void> {
  const text = bindSchema(await readFile(new URL('roles.sql', packagedMigrations()), 'utf8'), schema)
  await repeat(database, systemClock, () => ({ lane: 'may-wait', text, values: [] }))
}

async function readState(
  database: GatedDatabase,
  schema: string,
  migrations: readonly Migration[],
): Promise<SchemaState> {
  const rows = await readRows(database, schema)
  const inDatabase = new Map(rows.map((row) => [row.name, row]))
  const [applied, pending]: [string[], string[]] = [[], []]
  for (const { name, checksum } of migrations) {
    const row = inDatabase.get(name)
    if (row !== undefined && row.checksum !== checksum) throw changed(name)
    ;(row === undefined ? pending : applied).push(name)
    inDatabase.delete(name)
  }
  const strangers = [...inDatabase.values()]
  const unknown = strangers.map(({ name }) => name)
  const isTooNew = strangers.some(({ breaking }) => breaking)
  const own = rows.length === 0 ? 'not-migrated' : pending.length > 0 ? 'pending' : 'current'
  return { state: isTooNew ? 'too-new' : own, applied, pending, unknown }
}

async function readRows(database: GatedDatabase, schema: string): Promise<AppliedMigration[]> {
  try {
    const text = bindSchema(readApplied, schema)
    const { rows } = await repeat(database, systemClock, () => ({ lane: 'quick', text, values: [] }))
    return rows.map(({ name, checksum, breaking }) => ({
      name: name ?? '',
      checksum: checksum ?? '',
      breaking: breaking === 't',
    }))
  } catch (error) {
    if (IztaError.is(error) && error.code === 'not-migrated') return []
    throw error
  }
}

async function readMigrations(folder = packagedMigrations()): Promise<Migration[]> {
  const names = await readdir(folder).catch((cause: unknown) => {
    throw migrationsMissing(`in ${folder.pathname}`, cause)
  })
  const files = names.filter((name) => /^\d{4}_\w+\.sql$/.test(name)).toSorted()
  return Promise.all(
    files.map(async (file) => {
      const text = await readFile(new URL(file, folder), 'utf8')
      return {
        id: Number(file.slice(0, 4)),
        name: file.slice(0, -'.sql'.length),
        text,
        checksum: createHash('sha256').update(text).digest('hex'),
        breaking: text.startsWith('--! breaking'),
      }
    }),
  )
}

/**
 * A DO block takes no parameters, so the values stand in its text. The schema is made only when it is missing:
 * `create schema if not exists` needs the privilege to create it even where it exists.
 */
function applyStatement(schema: string, { id, name, text, checksum, breaking }: Migration): Statement {
  const bound = bindSchema(text, schema)
  const table = bindSchema('izta.migration', schema)
  const body = `
begin
  -- Whoever migrates may do much: nothing here is looked up where others may create objects.
  perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
  ${setLockTimeout}
  perform pg_advisory_xact_lock(${lockKey(schema)});
  if not exists (select from pg_catalog.pg_namespace where nspname = ${literal(schema)}) then
    create schema ${bindSchema('izta', schema)};
  end if;
  if not exists (
    select from pg_catalog.pg_tables where schemaname = ${literal(schema)} and tablename = 'migration'
  ) then
    create table ${table} (
      id integer constraint migration_pkey primary key,
      name text not null,
      checksum text not null,
      breaking boolean not null,
      applied_at timestamptz not null default now()
    );
  end if;
  if exists (select from ${table} where name = ${literal(name)}) then
    return;
  end if;
  execute ${dollarQuoted(bound)};
  insert into ${table} (id, name, checksum, breaking)
  values (${id}, ${literal(name)}, ${literal(checksum)}, ${breaking});
end`
  return { lane: 'may-wait', text: `do ${dollarQuoted(body)}`, values: [] }
}

/** Two schemas of one database migrate independently. */
function lockKey(schema: string): bigint {
  return createHash('sha256').update(`izta.migrate.${schema}`).digest().readBigInt64BE()
}

function literal(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}

function dollarQuoted(text: string): string {
  let tag = '$m$'
  for (let n = 1; text.includes(tag); n++) tag = `$m${n}$`
  return `${tag}${text}${tag}`
}

function failedMigration({ name }: Migration, error: unknown, holders: readonly LockHolder[]): unknown {
  if (!isDatabaseError(error)) return error
  // A missing object inside a migration does not mean that the database is not migrated.
  const code = error.code === 'not-migrated' ? 'database-error' : error.code
  const reason = error.cause instanceof Error ? error.cause.message : error.message
  const who =
    holders.length === 0
      ? ''
      : ` Locks on its tables are held by ${holders.join(', ')}: end that, or try again later.`
  return new DatabaseError(code, `Migration ${name} was not applied: ${reason}.${who}`, {
    cause: error,
    retryable: error.retryable,
    sqlState: error.sqlState,
    outcome: error.outcome,
  })
}

function changed(name: string): DatabaseError {
  return new DatabaseError(
    'migration-changed',
    `Migration ${name} has changed since it was applied to this database: install an unchanged izta, or migrate a new database.`,
    {},
  )
}

function tooNew({ unknown }: SchemaState): SchemaTooNewError {
  return new SchemaTooNewError(
    'schema-too-new',
    `The database has ${unknown.join(', ')} of a newer izta, beside which this version must not run: deploy the newer code.`,
    {},
  )
}
