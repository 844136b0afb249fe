// The least that storing a task can cost: one prepared insert a task into a table with the columns and indexes of
// izta's tasks, and nothing around it.
import { Pool } from 'pg'
import { uuidv7 } from 'uuidv7'
import { iztaQueue } from '../izta-queue.ts'
import type { OpenQueue } from '../queue.ts'
import { openTree } from '../tree.ts'

const openIzta = iztaQueue(await openTree('now'))

export const openQueue: OpenQueue = ({ url }) => {
  const pool = new Pool({ connectionString: url, max: 20 })
  return {
    unfinished: 'select exists (select from bare.task) as unfinished',
    async install() {
      const izta = openIzta({ url })
      await izta.install()
      await izta.close()
      await pool.query('create schema bare')
      await pool.query('create table bare.task (like izta.task including defaults including indexes)')
    },
    async enqueueMany() {
      throw new Error('bare-insert stores one task at a time')
    },
    async enqueueOne(n) {
      await pool.query({
        name: 'insert',
        text: `insert into bare.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, created_at)
          values ($1, 'default', 'note', $2, 5, 3, now(), now(), now())`,
        values: [uuidv7(), JSON.stringify({ n })],
      })
    },
    async work() {
      throw new Error('bare-insert runs nothing')
    },
    close: () => pool.end(),
  }
}
