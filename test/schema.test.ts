// The schema as the migrations leave it, written to schema.sql, so that a review sees the net effect of a migration.
import { expect, test } from 'vitest'
import { testDatabase } from './support/database.ts'

const { pool } = await testDatabase()

/** One definition a row, in an order of its own; the same text on every version of Postgres. */
const tables = `
select format(E'create table %s.%s (\\n%s\\n)%s;', n.nspname, c.relname,
  concat_ws(E',\\n',
    (select string_agg(
      '  ' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
        || case when a.attnotnull then ' not null' else '' end
        || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''), E',\\n' order by a.attnum)
    from pg_attribute a
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    (select string_agg('  constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid), E',\\n'
      order by k.contype = 'p' desc, k.conname)
    -- Since version 18 columns that are not null have constraints of their own.
    from pg_constraint k where k.conrelid = c.oid and k.contype <> 'n')),
  coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', '')) as definition
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'izta' and c.relkind = 'r'
order by c.relname`
const indexes = `
select pg_get_indexdef(i.indexrelid) || ';'
  || coalesce(format(E'\\ncomment on index izta.%s is %L;', c.relname, obj_description(c.oid)), '') as definition
from pg_index i
join pg_class c on c.oid = i.indexrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'izta' and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
order by c.relname`
const functions = `
select pg_get_functiondef(p.oid) || ';' as definition
from pg_proc p join pg_namespace n on n.oid = p.pronamespace
where n.nspname = 'izta'
order by p.proname, pg_get_function_identity_arguments(p.oid)`
const others = `
select c.relkind::text || ' ' || c.relname as definition
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'izta' and c.relkind not in ('r', 'i')
union all
select 'trigger ' || t.tgname from pg_trigger t
join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'izta'
union all
select 'type ' || t.typname from pg_type t join pg_namespace n on n.oid = t.typnamespace
where n.nspname = 'izta' and t.typtype in ('e', 'd')
order by 1`

async function definitions(query: string): Promise<string[]> {
  const { rows } = await pool.query<{ definition: string }>(query)
  return rows.map(({ definition }) => definition.replaceAll(/[ \t]+$/gm, '').trim())
}

test('schema.sql is what the migrations make; after a change: npx vitest run test/schema.test.ts --update', async () => {
  const header = '-- What the migrations make, read back from the catalogs. Written by test/schema.test.ts.'
  const parts = [
    header,
    ...(await definitions(tables)),
    ...(await definitions(indexes)),
    ...(await definitions(functions)),
  ]
  await expect(`${parts.join('\n\n')}\n`).toMatchFileSnapshot('./schema.sql')
})

test('there is nothing in the schema that the dump leaves out', async () => {
  expect(await definitions(others)).toEqual([])
})
