// Nothing that others put into the search path is ever executed: neither their functions and operators nor their tables.
import { readdirSync } from 'node:fs'
import { createIzta, defineJob, defineSchedule } from 'izta'
import { pgDatabase } from 'izta/pg'
import { drain } from 'izta/testing'
import { describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import type { Statement } from '../../src/db/database.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { testDatabase } from '../support/database.ts'

const { pool, url } = await testDatabase()

/** Stands for any argument of what makes a statement. */
const anything: unknown = new Proxy(() => {}, {
  get(_, key) {
    if (key === Symbol.toPrimitive) return (hint: string) => (hint === 'number' ? 0 : '0')
    if (key === 'map' || key === 'flatMap') return () => []
    if (key === Symbol.iterator) return Array.prototype[Symbol.iterator].bind([])
    return anything
  },
  apply: () => anything,
})

const isStatement = (value: unknown): value is Statement =>
  typeof value === 'object' && value !== null && 'text' in value && 'values' in value

/** Every statement that the store can make, by the name of what makes it. */
async function statements(): Promise<[string, string][]> {
  const folder = new URL('../../src/store/', import.meta.url)
  const found = new Map<string, string>()
  for (const file of readdirSync(folder)) {
    const module = (await import(new URL(file, folder).href)) as Record<string, unknown>
    for (const [name, made] of Object.entries(module)) {
      if (!name.endsWith('Statement')) continue
      const statement = typeof made === 'function' ? made(anything, anything, anything, anything) : made
      if (!isStatement(statement)) throw new Error(`${file}: ${name} makes no statement`)
      found.set(name, statement.text)
    }
  }
  return [...found]
}
const all = await statements()

const types = [
  [
    'text',
    'varchar',
    'name',
    'boolean',
    'smallint',
    'integer',
    'bigint',
    'real',
    'double precision',
    'numeric',
    'oid',
  ],
  ['timestamptz', 'timestamp', 'date', 'interval', 'uuid', 'json', 'jsonb'],
  ['text[]', 'uuid[]', 'bigint[]', 'integer[]', 'json[]', 'xid'],
].flat()

/** The functions of the schema: how each is protected, and the parsed bodies that call it. */
const { rows: functions } = await pool.query<{
  name: string
  source: string
  isOwners: boolean
  hasPath: boolean
  isParsed: boolean
  callers: string[]
}>(
  `select p.proname as name, p.prosrc as source, p.prosecdef as "isOwners",
    coalesce('search_path=pg_catalog, pg_temp' = any (p.proconfig), false) as "hasPath",
    p.prosqlbody is not null as "isParsed",
    array(
      select c.proname::text from pg_depend d join pg_proc c on c.oid = d.objid and d.classid = 'pg_proc'::regclass
      where d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid) as callers
  from pg_proc p where p.pronamespace = 'izta'::regnamespace`,
)

/** In the schema "hostile": each operator and function that statements and functions use, for all types that lack it. */
async function shadow(): Promise<void> {
  const operators = ['=', '<>', '<', '>', '<=', '>=', '+', '-', '*', '/', '||', '&&', '~', '!~']
  const sources = [...all.map(([, text]) => text), ...functions.map(({ source }) => source)]
  const words = sources.flatMap((text) =>
    [...text.matchAll(/(?<![.\w])([a-z_]+)\(/g)].map((match) => match[1]),
  )
  await pool.query('create schema hostile')
  await pool.query(
    `do $do$
    declare
      a text; b text; o text;
    begin
      foreach a in array '{${types.join(',')}}'::text[] loop
        foreach b in array '{${types.join(',')}}'::text[] loop
          execute format('create function hostile.steal(%s, %s) returns boolean language plpgsql as $f$begin raise ''stolen''; end$f$', a, b);
          foreach o in array '{${operators.map((operator) => `"${operator}"`).join(',')}}'::text[] loop
            if to_regoperator(format('pg_catalog.%s(%s,%s)', o, a, b)) is null then
              execute format('create operator hostile.%s (function = hostile.steal, leftarg = %s, rightarg = %s)', o, a, b);
            end if;
          end loop;
        end loop;
      end loop;
    end
    $do$`,
  )
  const names = [...new Set(words)].filter((word) => word !== undefined)
  const { rows } = await pool.query<{ name: string }>(
    'select distinct proname as name from pg_proc where pronamespace = $1::regnamespace and proname = any ($2)',
    ['pg_catalog', names],
  )
  for (const { name } of rows) {
    await pool.query(
      `do $do$
      declare
        a text; b text;
      begin
        foreach a in array '{${types.join(',')}}'::text[] loop
          execute format('create function hostile.${name}(%s) returns boolean language plpgsql as $f$begin raise ''stolen''; end$f$', a);
          foreach b in array '{${types.join(',')}}'::text[] loop
            execute format('create function hostile.${name}(%s, %s) returns boolean language plpgsql as $f$begin raise ''stolen''; end$f$', a, b);
          end loop;
        end loop;
      end
      $do$`,
    )
  }
}
await shadow()

describe('statements outside functions look up nothing where others may create objects', () => {
  test.for(all)('%s', async ([, text]) => {
    const count = Math.max(0, ...[...text.matchAll(/\$(\d+)/g)].map((match) => Number(match[1])))
    const client = await pool.connect()
    try {
      await client.query('begin')
      await client.query('set local search_path = hostile')
      // The body is parsed now, and what it refers to is recorded.
      await client.query(
        `create function public.probe(${Array.from({ length: count }, () => 'text').join(', ')}) returns void language sql
        begin atomic ${text.replace(/;\s*$/, '')}; end`,
      )
      await client.query('set local search_path = pg_catalog')
      const { rows } = await client.query<{ object: string }>(
        `select distinct pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) as object
        from pg_depend d where d.objid = 'public.probe'::regproc::oid
          and pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) like '%hostile.%'`,
      )
      expect(rows.map(({ object }) => object)).toEqual([])
    } finally {
      await client.query('rollback')
      client.release()
    }
  })
})

test('the proof sees what is stolen', async () => {
  const { rows } = await pool.query(
    `select proname from pg_proc where pronamespace = 'hostile'::regnamespace limit 1`,
  )
  expect(rows).toHaveLength(1)
  const client = await pool.connect()
  await client.query('set search_path = hostile')
  await expect(client.query(`select 1::bigint * interval '1 second'`)).rejects.toThrow('stolen')
  await client.query('reset search_path')
  client.release()
})

const double = defineJob({
  id: 'double',
  run(_, ctx) {
    if (ctx.task.parent === undefined) ctx.enqueue(double)
  },
})
const log = { debug() {}, info() {}, warn() {}, error() {} }

test('everything works for a user whose search path leads to what steals', async () => {
  const hostile = new URL(url)
  hostile.searchParams.set('options', '-c search_path=hostile')
  const schedules = [defineSchedule({ name: 'hourly', job: double, every: { hours: 1 } })]
  await using izta = createIzta({ database: pgDatabase(hostile.href), jobs: [double], schedules, log })
  await izta.migrate()
  const { id } = await izta.enqueue(double, undefined, { key: 'a' })
  await izta.enqueue(double, undefined, { key: 'a' })
  const { finished } = await drain(izta)
  expect(finished).toBe(2)
  await izta.retry(id, { force: true })
  await izta.cancel(id)
  await tick(configOf(izta))
  await izta.schedules.list()
  await izta.queues.list()
  expect(await izta.counts({ since: new Date(0) })).toMatchObject({ default: { finished: 1, cancelled: 1 } })
  expect(await izta.get(double, id)).toMatchObject({ status: 'cancelled' })
})

describe('functions of the schema look up nothing in the search path of their caller', () => {
  const called = new Set(
    all.flatMap(([, text]) => [...text.matchAll(/\bizta\.(\w+)\(/g)].map(([, name]) => name)),
  )

  test('statements call no function that the schema lacks', () => {
    const names = new Set<string | undefined>(functions.map(({ name }) => name))
    expect([...called].filter((name) => !names.has(name))).toEqual([])
    expect(called.size).toBeGreaterThan(10)
  })

  // Any other function is a part of these: it runs with their search path, and no caller may execute it.
  test.for(
    functions.filter(({ name, isOwners, callers }) => isOwners || called.has(name) || callers.length > 0),
  )('$name', ({ name, source, isOwners, hasPath, isParsed }) => {
    if (name === 'now') expect(source).toBe('select pg_catalog.now()')
    else if (isOwners) expect(hasPath).toBe(true)
    else expect(hasPath || isParsed).toBe(true)
  })
})

test('temporary objects of the caller do not stand in for those of the schema', async () => {
  const client = await pool.connect()
  await client.query(`
    create temp table task (like izta.task); create temp table queue (like izta.queue);
    create temp table history (like izta.history); create temp table wake (like izta.wake);
    create function pg_temp.now() returns timestamptz language sql as 'select ''epoch''::timestamptz';
    create domain pg_temp.uuid as text check (false); create domain pg_temp.timestamptz as text check (false);
    create domain pg_temp.json as text check (false);`)
  const [first, second, third] = ['5797', '5798', '5799'].map(
    (end) => `01890a5d-ac96-774b-bcce-b302099a${end}`,
  )
  await client.query(
    `select izta.enqueue_1($1::pg_catalog.json, 'default', 'temporary', 5::smallint, 3::smallint, 0, true, true)`,
    [JSON.stringify([first, second].map((id) => ({ id, payload: 'null', key: id, keyUntil: 'finished' })))],
  )
  await client.query(
    `select izta.enqueue_task_1($1, 'default', 'temporary', 'null', 5::smallint, 3::smallint, 0, null, null, null, null)`,
    [third],
  )
  const holder = await client.query(`select id, status from izta.key_holder_1('temporary', $1)`, [second])
  expect(holder.rows).toEqual([{ id: second, status: 'pending' }])
  const ready = await client.query(`select izta.ready_queues_1('{}', '', 10) as queues`)
  expect(ready.rows).toEqual([{ queues: ['default'] }])
  const claimed = await client.query(
    `select id from izta.turn_1(p_lease => $1, p_lease_ms => 60000, p_queues => '{}', p_limit => 10,
      p_reply_bytes => 1000000, p_after => null, p_ids => null, p_claims => null, p_kinds => null,
      p_bodies => null, p_delays_ms => null, p_keep_seconds => null, p_children => null, p_children_may_exist => null,
      p_watch => null, p_range_queues => null, p_lowest => null, p_highest => null, p_from_ms => null,
      p_linger_ms => null)`,
    [first],
  )
  expect(claimed.rows.map(({ id }: { id: string }) => id).toSorted()).toEqual([first, second, third])
  const { rows } = await client.query(
    `select izta.status_1(t) as status, created_at > pg_catalog.now() - interval '1 minute' as recent
    from izta.task t where job = 'temporary'`,
  )
  expect(rows).toEqual(Array.from({ length: 3 }, () => ({ status: 'running', recent: true })))
  const temporary = await client.query(`select from pg_temp.task union all select from pg_temp.queue`)
  expect(temporary.rowCount).toBe(0)
  await client.query('discard temp')
  client.release()
})
