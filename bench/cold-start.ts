// A runner as a bundle carries it, bundled by its measure from either source tree: node cold-start.js DATABASE_URL prints one character
// when the first claim is sent and one when it is answered.
import { createIzta, defineJob, startRunner, type Database } from 'izta'
import { pgDatabase } from 'izta/pg'
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
