// A runner as a bundle carries it, bundled by its measure: node cold-start.js DATABASE_URL prints one character
// when the first claim is sent and one when it is answered.
import { pgDatabase } from '../src/adapters/pg.ts'
import type { Database } from '../src/db/database.ts'
import { createIzta, defineJob, startRunner } from '../src/index.ts'
import { z } from 'zod'

const pg = pgDatabase(process.argv[2] ?? '')
const database: Database = {
  async query(statement) {
    process.stdout.write('s')
    const rows = await pg.query(statement)
    process.stdout.write('a')
    process.exit()
    return rows
  },
}
const job = defineJob({ id: 'note', payload: z.object({ n: z.number() }), run() {} })
startRunner(createIzta({ database, jobs: [job] }))
