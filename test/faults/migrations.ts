// Migrations that a later version might bring, applied one after the other while everything runs.
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { migrate } from '../../src/db/migrate.ts'

const add = `
alter table izta.task add column added text;
create index task_added on izta.task (added) where added is not null;
alter table izta.history add column added text default 'unknown';
`
const drop = `
alter table izta.task drop column added;
alter table izta.history drop column added;
`

/** Returns what applies the next one. */
export async function createMigrations(url: string, parent: string): Promise<() => Promise<void>> {
  const folder = join(parent, 'migrations')
  await mkdir(folder)
  await cp(new URL('../../migrations', import.meta.url), folder, { recursive: true })
  let count = 0
  return async () => {
    const text = count % 2 === 0 ? add : drop
    await writeFile(join(folder, `9${String(++count).padStart(3, '0')}_change_columns.sql`), text)
    const database = pgDatabase({ connectionString: url, max: 1 })
    try {
      await migrate(database, { schema: 'izta', folder: pathToFileURL(`${folder}/`) })
    } finally {
      await database.close?.()
    }
  }
}
