// The database as the rest of izta uses it: with an event for each call, and told when its schema is too new.
import type { Clock } from '../clock.ts'
import { traitsOf, type Database, type SqlText } from '../db/database.ts'
import { isDatabaseError } from '../db/transient.ts'
import { SchemaTooNewError } from '../errors.ts'
import type { Events } from '../observe/events.ts'
import { text } from './encode.ts'

/** The last migration that this code knows; stands here because bundles leave the migrations behind. */
export const newestMigration = 5

// What a newer izta did that older code cannot live with; the table holds a few rows.
const breakingSince: SqlText = {
  text: `
select name
from izta.migration
where breaking and id > $1::integer
order by id`,
  values: [String(newestMigration)],
}

/** The database with a second look at every missing object. Costs nothing while nothing is missing. */
export function tellTooNew(database: Database): Database {
  return {
    ...traitsOf(database),
    close: async () => database.close?.(),
    async query(statement, options) {
      try {
        return await database.query(statement, options)
      } catch (error) {
        if (!isDatabaseError(error) || error.code !== 'not-migrated') throw error
        // Where the table itself is missing, the first error says it all.
        const newer = await database.query(breakingSince, options).catch(() => [])
        if (newer.length === 0) throw error
        const names = newer.map((row) => text(row, 'name')).join(', ')
        throw new SchemaTooNewError(
          'schema-too-new',
          `The database was migrated by a newer izta (${names}), beside which this version cannot run: deploy the newer code.`,
          { cause: error, sqlState: error.sqlState },
        )
      }
    },
  }
}

/** The database with an event for each call. */
export function measured(database: Database, events: Events, clock: Clock): Database {
  return {
    ...database,
    async query(statement, options) {
      const startedAtMs = clock.now()
      let succeeded = false
      try {
        const rows = await database.query(statement, options)
        succeeded = true
        return rows
      } finally {
        events.emit('statement.completed', { durationMs: clock.now() - startedAtMs, succeeded })
      }
    },
  }
}
