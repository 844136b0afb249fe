// Pruning keeps up: one tick removes all that is over, in portions.
import { createIzta } from 'izta'
import { expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { defaults } from '../../src/defaults.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const log = { debug() {}, info() {}, warn() {}, error() {} }
const izta = createIzta({ database, jobs: [], log })

test('a tick removes every row whose time is over, however many there are, and no other', async () => {
  const over = 2 * defaults.prune.rows + 1
  await pool.query(
    `insert into izta.history (id, queue, job, status, payload, priority, attempt, max_attempts, losses, claims,
      created_at, due_at, finished_at, expires_at)
    select gen_random_uuid(), 'default', 'job', 'finished', '{}', 5, 1, 3, 0, 1, now(), now(), now(),
      now() + case when n <= $1 then interval '-1 s' else interval '1 day' end
    from generate_series(1, $1::integer + 10) n`,
    [over],
  )
  expect(await tick(configOf(izta))).toMatchObject({ pruned: over })
  const { rows } = await pool.query('select count(*)::integer as kept from izta.history')
  expect(rows).toEqual([{ kept: 10 }])
})

test('rows of queues that were not used for a day go, unless they are paused', async () => {
  await pool.query(`insert into izta.queue (name, paused, used_at) values
    ('unused', false, now() - interval '25 hours'), ('stopped', true, now() - interval '25 hours'), ('used', false, now())`)
  const queues = async () => (await izta.queues.list()).map(({ name }) => name)
  await tick(configOf(izta))
  expect(await queues()).toEqual(['stopped', 'used'])
})
