// The facts behind `izta doctor`, on a real server: what its statements count, and what they leave out.
import { createIzta, defineJob } from 'izta'
import { drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import {
  healthRows,
  historyHealthStatement,
  jobHealthStatement,
  queueHealthStatement,
  readHistoryHealth,
  readJobHealth,
  readQueueHealth,
  readScheduleHealth,
  scheduleHealthStatement,
} from '../../src/store/health.ts'
import {
  holdersStatement,
  missingPrivilegesStatement,
  readHolders,
  readMissingPrivileges,
  readServer,
  readTables,
  serverStatement,
  tablesStatement,
} from '../../src/store/health-server.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, expireLeases, newTask, newTasks, onConnection, pidOf } from './statements.ts'

const { database, pool, connect } = await testDatabase()
const throws = defineJob({
  id: 'throws',
  maxAttempts: 1,
  run: () => {
    throw new Error('a\u0000b')
  },
})
const izta = createIzta({
  database,
  jobs: [throws],
  log: { debug() {}, info() {}, warn() {}, error() {} },
})

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue, izta.schedule')
})

const queues = async () => readQueueHealth(await database.query(queueHealthStatement))
const jobs = async () => readJobHealth(await database.query(jobHealthStatement))
interface PlanNode {
  readonly 'Actual Rows': number
  readonly 'Actual Loops': number
  readonly 'Index Name'?: string
  readonly 'Relation Name'?: string
  readonly Plans?: readonly PlanNode[]
}

const ago = (seconds: number) => new Date(Date.now() - seconds * 1000)

test('a queue counts what is due over all priorities, and tells whether a runner holds any', async () => {
  await enqueue(database, [
    newTask({ priority: 9, runAt: ago(100) }),
    newTask({ priority: 0, runAt: ago(10) }),
    newTask({ delayMs: 60_000 }),
    newTask({ queue: 'later', delayMs: 60_000 }),
  ])
  expect(await queues()).toEqual([
    { name: 'default', paused: false, due: 2, oldestSeconds: expect.closeTo(100, -1), running: false },
    { name: 'later', paused: false, due: 0, oldestSeconds: 0, running: false },
  ])
  expect(await claim(database, 1)).toHaveLength(1)
  expect((await queues())[0]).toMatchObject({ due: 1, oldestSeconds: expect.closeTo(100, -1), running: true })
})

test('a lease that ran out makes its task due again, and nobody holds it', async () => {
  await enqueue(database, [newTask()])
  await claim(database, 1)
  await expireLeases(pool)
  expect(await queues()).toMatchObject([{ due: 1, running: false }])
})

test('a due task that no claim has made ready, in a queue without a row, counts', async () => {
  await enqueue(database, [
    newTask({ queue: 'mail', delayMs: 60_000 }),
    newTask({ queue: 'other', delayMs: 60_000 }),
  ])
  await pool.query(`
    update izta.task set run_at = now() - interval '30 seconds' where queue = 'mail';
    delete from izta.queue`)
  expect(await queues()).toEqual([
    { name: 'mail', paused: false, due: 1, oldestSeconds: expect.closeTo(30, -1), running: false },
  ])
})

test('a backlog is counted up to the cap, in each queue', async () => {
  await pool.query(
    `insert into izta.task (id, queue, job, payload, priority, ready, run_at, due_at, max_attempts, created_at)
    select gen_random_uuid(), case when n % 20 = 0 then 'small' else 'large' end, 'job', 'null', n % 10, true, now(), now(), 3,
      now()
    from generate_series(1, $1) n`,
    [healthRows * 1.2],
  )
  expect(await queues()).toMatchObject([
    { name: 'large', due: healthRows },
    { name: 'small', due: healthRows * 0.06 },
  ])
})

test('the cost of the counts follows the due tasks, not the waiting tasks and their queues', async () => {
  const client = await connect()
  await client.query(`
    insert into izta.task (id, queue, job, payload, priority, ready, run_at, due_at, max_attempts, created_at)
    select gen_random_uuid(), 'queue-' || n % 500, 'job', 'null', n % 10, n <= 20,
      now() + (n - 20) * interval '1 minute', now(), 3, now()
    from generate_series(1, 150000) n;
    analyze izta.task`)
  const { text: sql, values } = queueHealthStatement
  const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
    `explain (analyze, timing off, format json) ${sql}`,
    [...values],
  )
  const read = (how: (node: PlanNode) => boolean, node: PlanNode): number =>
    (how(node) ? node['Actual Rows'] * node['Actual Loops'] : 0) +
    (node.Plans ?? []).reduce((sum, plan) => sum + read(how, plan), 0)
  const plan = rows[0]!['QUERY PLAN'][0].Plan
  const [tasks, ready, later] = [
    read((node) => node['Relation Name'] === 'task', plan),
    read((node) => node['Index Name'] === 'task_ready', plan),
    read((node) => node['Index Name'] === 'task_later', plan),
  ]
  // A hop and a count for each due task; of the waiting ones, which may be leased, no more than a fixed number.
  expect(ready).toBeLessThan(3 * 20)
  expect(later).toBe(Number(values[1]))
  expect(tasks).toBe(ready + later)
})

test('the newest error is read back whatever characters it holds', async () => {
  await izta.enqueue(throws)
  await drain(izta)
  expect(await jobs()).toMatchObject([{ job: 'throws', ended: 1, failed: 1, lastError: 'a\u0000b' }])
})

test('jobs with unfinished tasks only, with ended tasks only, and with both stand in one list', async () => {
  await enqueue(database, [...newTasks(2, { job: 'both' }), newTask({ job: 'waiting' })])
  await pool.query(`update izta.task set losses = 1, attempt = 1 where job = 'both'`)
  await pool.query(`
    insert into izta.history (id, queue, job, status, priority, attempt, max_attempts, losses, claims, created_at,
      due_at, finished_at, expires_at)
    select gen_random_uuid(), 'default', e.job, e.status, 5, 1, 3, 1, 1, now(), now(), now() - e.age, now()
    from (values ('both', 'failed', interval '1 hour'), ('ended', 'finished', interval '1 hour'),
      ('ended', 'finished', interval '25 hours')) e(job, status, age)`)
  const none = { ended: 0, failed: 0, failing: 0, lost: 0, losses: 0, lastError: undefined }
  expect(await jobs()).toEqual([
    { ...none, job: 'both', ended: 1, failed: 1, failing: 2, lost: 3, losses: 1 },
    { ...none, job: 'ended', ended: 1, lost: 1 },
    { ...none, job: 'waiting' },
  ])
})

test('empty tables have nothing overdue and nothing expired', async () => {
  expect(readScheduleHealth(await database.query(scheduleHealthStatement))).toEqual({
    schedules: 0,
    paused: 0,
    overdue: 0,
    oldest: undefined,
    overdueSeconds: 0,
    clockMovedMs: 0,
    leftOut: [],
  })
  expect(readHistoryHealth(await database.query(historyHealthStatement))).toEqual({
    expired: 0,
    oldestSeconds: 0,
  })
})

test('an open snapshot and an open write hold the xmin horizon, the question itself does not', async () => {
  const [reader, writer] = await Promise.all([connect(), connect()])
  const [readerPid, writerPid] = await Promise.all([pidOf(reader), pidOf(writer)])
  const held = async () => readHolders(await database.query(holdersStatement)).map(({ name }) => name)
  expect(await held()).toEqual([])
  await reader.query('begin isolation level repeatable read')
  await reader.query('select 1')
  await writer.query('begin')
  await writer.query(`insert into izta.queue (name) values ('x')`)
  const names = (await held()).map((name) => name.split(' user ')[0])
  await Promise.all([reader.query('rollback'), writer.query('rollback')])
  expect(new Set(names)).toEqual(new Set([`pid ${readerPid}`, `pid ${writerPid}`]))
})

test('the superuser of a test owns what it made and lacks nothing', async () => {
  await pool.query('create schema mine')
  const server = readServer(await database.query(serverStatement('izta')))
  expect(server).toMatchObject({ superuser: true, mayCreateSchema: true, readOnly: false, vacuums: true })
  expect(server.owned).toContain('mine')
  expect(server.owned).not.toContain('izta')
  expect(server.versionNumber).toBeGreaterThanOrEqual(140_000)
  expect(readMissingPrivileges(await database.query(missingPrivilegesStatement('izta')))).toEqual([])
})

test('every table of the schema counts when privileges are compared', async () => {
  const client = await connect()
  // A role belongs to the whole server; the rollback takes it away again.
  await client.query('begin; create role izta_stranger; set local role izta_stranger')
  const rows = await onConnection(client).query(missingPrivilegesStatement('izta'))
  await client.query('rollback')
  const { rows: tables } = await pool.query<{ name: string }>(
    `select 'izta.' || tablename as name from pg_tables where schemaname = 'izta'`,
  )
  const missing = readMissingPrivileges(rows)
  expect(missing).toContain('usage on schema izta')
  expect(missing).toContain('select, insert, update, delete on izta.schedule')
  expect(tables.filter(({ name }) => !missing.some((grant) => grant.endsWith(` on ${name}`)))).toEqual([])
})

test('both tables are measured', async () => {
  const tables = readTables(await database.query(tablesStatement('izta')))
  expect([...tables.keys()].toSorted()).toEqual(['history', 'task'])
  expect(tables.get('task')?.indexBytes).toBeGreaterThan(0)
})
