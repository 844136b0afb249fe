// Plans: what must stay fast in large tables uses its index. Asserted on names of indexes and rows read, not on times.
import { beforeAll, describe, expect, test } from 'vitest'
import type { Statement } from '../../src/db/database.ts'
import { nextAlarmStatement, nextDueStatement } from '../../src/store/due.ts'
import {
  countsStatement,
  earlierSlotStatement,
  getStatement,
  listStatement,
  statusStatement,
} from '../../src/store/inspect.ts'
import { heldStatement } from '../../src/store/recover.ts'
import { pauseScheduleStatement } from '../../src/store/schedules.ts'
import { planStatement, toPlanStatement } from '../../src/store/slots.ts'
import { syncSchedulesStatement } from '../../src/store/sync.ts'
import { testDatabase } from '../support/database.ts'
import { claim, enqueue, newLease, newTask, newTasks, onConnection, outcome, settle } from './statements.ts'

const { pool, connect } = await testDatabase()
const client = await connect()
const id = newTask().id

beforeAll(async () => {
  // 20,000 unfinished tasks, a few of them due, 40,000 ended ones, 5,000 schedules.
  await pool.query(`
    insert into izta.queue (name) select 'queue-' || n from generate_series(0, 4) n;
    insert into izta.task (id, queue, job, payload, priority, max_attempts, ready, run_at, due_at, key, key_until,
      schedule, slot, created_at)
    select gen_random_uuid(), 'queue-' || n % 5, 'job-' || n % 50, '{}', n % 10, 3, w.at <= izta.now(), w.at, w.at,
      case when n % 2 = 0 then 'key-' || n end, case when n % 2 = 0 then 'finished' end,
      case when n % 3 = 0 then 'schedule-' || n end, case when n % 3 = 0 then w.at end, izta.now()
    from generate_series(1, 20000) n
    cross join lateral (select izta.now() + (n - 20) * interval '1 minute' as at) w;
    insert into izta.history (id, queue, job, status, payload, priority, attempt, max_attempts, losses, claims,
      created_at, due_at, finished_at, expires_at)
    select gen_random_uuid(), 'queue-' || n % 5, 'job-' || n % 50,
      case when n % 1000 = 0 then 'failed' else 'finished' end, '{}', 5, 1, 3, 0, 1, f.at, f.at, f.at,
      f.at + interval '7 days'
    from generate_series(1, 40000) n
    cross join lateral (select izta.now() - n * interval '15 seconds' as at) f;
    insert into izta.schedule (name, app, job, payload, queue, priority, max_attempts, rule, missed, overlap, hash,
      made_until, plan_at, created_at, updated_at)
    select 'schedule-' || n, 'app', 'job', '{}', 'queue-1', 5, 3, '{}', 'once', 'allow', 'hash', izta.now(),
      izta.now() + (n - 5) * interval '1 minute', izta.now(), izta.now()
    from generate_series(1, 5000) n;
    analyze izta.task, izta.history, izta.schedule, izta.queue`)
})

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly 'Index Name'?: string
  readonly Plans?: readonly PlanNode[]
}

/** The indexes of a statement's plan, and the large tables that it reads in full. */
async function planOf({ text, values }: Statement): Promise<{ indexes: string[]; scans: string[] }> {
  const { rows } = await client.query<{ 'QUERY PLAN': [{ Plan: PlanNode }] }>(
    `explain (format json) ${text}`,
    [...values],
  )
  const nodes: PlanNode[] = []
  const walk = (node: PlanNode) => {
    nodes.push(node)
    for (const child of node.Plans ?? []) walk(child)
  }
  walk(rows[0]!['QUERY PLAN'][0].Plan)
  const unique = (names: (string | undefined)[]) =>
    [...new Set(names.filter((name) => name !== undefined))].toSorted()
  return {
    indexes: unique(nodes.map((node) => node['Index Name'])),
    scans: unique(
      nodes.filter((node) => node['Node Type'] === 'Seq Scan').map((node) => node['Relation Name']),
    ).filter((table) => table !== 'queue' && table !== 'wake' && table !== 'app'),
  }
}

const keyed = newTask({ key: 'key-4', job: 'job-4' })
const since = new Date(Date.now() - 60_000)
const filter = {
  cursor: undefined,
  queue: undefined,
  job: undefined,
  status: undefined,
  limit: 100,
  replyBytes: 2 ** 20,
}
const range = { lease: newLease(), leaseMs: 60_000, queues: ['queue-1'], except: [] }
const slots = {
  name: 'schedule-3',
  hash: 'hash',
  wasMadeUntil: since,
  madeUntil: since,
  planAt: since,
  plannedAt: since,
  waitingKept: 1,
  wasZoneVersion: undefined,
  zoneVersion: '2026c',
  ahead: [],
  isReplaced: true,
  tasks: [{ id, slot: since }],
}

describe('the statement uses its indexes', () => {
  test.for<[string, Statement, string[]]>([
    ['get', getStatement(id), ['history_pkey', 'task_pkey']],
    ['status', statusStatement(id), ['history_pkey', 'task_pkey']],
    ['list', listStatement({ ...filter, cursor: id }), ['history_pkey', 'task_pkey']],
    ['list of failed tasks', listStatement({ ...filter, status: 'failed' }), ['history_unsuccessful']],
    ['counts of ended tasks', countsStatement(since), ['history_finished_at']],
    ['next due instant', nextDueStatement('{}'), ['task_later', 'task_ready']],
    ['next alarm', nextAlarmStatement, ['schedule_plan_at', 'task_later', 'task_ready']],
    ['recovery', heldStatement(range), ['task_later']],
    ['overlap', earlierSlotStatement('schedule-3', since, id), ['task_schedule']],
    ['schedules to plan', toPlanStatement(500, '', '2026c'), ['schedule_plan_at', 'schedule_zone_data']],
    ['plan of slots', planStatement([slots]), ['schedule_pkey', 'task_schedule']],
    ['pause of a schedule', pauseScheduleStatement('schedule-3'), ['schedule_pkey', 'task_schedule']],
  ])('%s', async ([, statement, indexes]) => {
    const plan = await planOf(statement)
    expect(plan.indexes).toEqual(expect.arrayContaining(indexes))
    // Unfinished tasks are counted one by one, that is what the numbers mean.
    expect(
      plan.scans.filter((table) => statement.text !== countsStatement(since).text || table !== 'task'),
    ).toEqual([])
  })

  test('list by job', async () => {
    const { indexes } = await planOf(listStatement({ ...filter, job: 'job-7' }))
    expect(indexes).toContain('history_job')
  })

  test('sync: the tasks of changed schedules', async () => {
    const row = {
      name: 'schedule-3',
      job: 'job',
      payload: '{}',
      queue: 'queue-1',
      priority: 5,
      maxAttempts: 3,
      rule: '{}',
      missed: 'once',
      overlap: 'allow',
      hash: 'other',
    }
    const request = { app: undefined, deployedAt: undefined, removeMissing: false, schedules: [row] }
    expect((await planOf(syncSchedulesStatement(request))).indexes).toContain('task_schedule')
  })
})

interface Reads {
  readonly scans: number
  readonly rows: number
}
/** What the connection has read of the tables lately: numbers that need no flush. */
async function readSoFar(): Promise<Record<'task' | 'history', Reads>> {
  const { rows } = await client.query<{ reads: Record<'task' | 'history', Reads> }>(
    `select json_object_agg(relname, json_build_object('scans', coalesce(seq_scan, 0),
      'rows', coalesce(idx_tup_fetch, 0) + coalesce(seq_tup_read, 0))) as reads
    from pg_stat_xact_user_tables where schemaname = 'izta' and relname in ('task', 'history')`,
  )
  return rows[0]!.reads
}
async function readIn(work: () => Promise<unknown>, isolation = 'read committed') {
  await client.query(`begin isolation level ${isolation}`)
  const before = await readSoFar()
  await work()
  const after = await readSoFar()
  await client.query('rollback')
  const difference = (table: 'task' | 'history') => ({
    scans: after[table].scans - before[table].scans,
    rows: after[table].rows - before[table].rows,
  })
  return { task: difference('task'), history: difference('history') }
}
const on = onConnection(client)

describe('the enqueue', () => {
  test.each(['read committed', 'repeatable read'])(
    'reads by indexes what it makes and what refuses it, under %s',
    async (isolation) => {
      const read = await readIn(async () => {
        await enqueue(on, [keyed, newTask({ id }), newTask()])
      }, isolation)
      expect([read.task.scans, read.history.scans]).toEqual([0, 0])
      expect(read.task.rows + read.history.rows).toBeLessThan(30)
    },
  )

  test.each([1, 10])(
    'finds none of %i new ids in the history, and reads none of its rows for that',
    async (count) => {
      const read = await readIn(() => enqueue(on, newTasks(count)))
      expect(read.history).toEqual({ scans: 0, rows: 0 })
    },
  )
})

describe('the turn', () => {
  test('claims by the index and reads what it takes, whatever lies in the future', async () => {
    for (const queues of [[], ['queue-1', 'queue-2']]) {
      const read = await readIn(() => claim(on, 5, { queues }))
      expect(read.task.scans).toBe(0)
      expect(read.task.rows).toBeLessThan(40)
    }
  })

  test('that finds nothing reads nothing', async () => {
    const read = await readIn(() => claim(on, 100, { queues: ['nowhere'] }))
    expect(read.task).toEqual({ scans: 0, rows: 0 })
  })

  test('settles by the primary key', async () => {
    const lease = newLease()
    const read = await readIn(async () => {
      const claimed = await claim(on, 5, { lease, queues: ['queue-1'] })
      const kinds = ['finish', 'fail', 'retry', 'release', 'cancel'] as const
      const outcomes = claimed.map((task, index) =>
        outcome(task, kinds[index % 5]!, { body: index % 5 === 0 ? null : '{"code":"thrown"}' }),
      )
      await settle(on, lease, outcomes)
    })
    expect(read.task.scans).toBe(0)
    expect(read.task.rows).toBeLessThan(60)
    expect(read.history.scans).toBe(0)
  })
})

test.each(['turn_1', 'enqueue_1', 'cancel_tasks_1', 'retry_task_1', 'tick_queues_1', 'prune_1'])(
  '%s pins its plans',
  async (name) => {
    const { rows } = await pool.query(`select proconfig from pg_proc where oid = 'izta.${name}'::regproc`)
    // What the planner was forbidden looks so expensive to older servers that they would compile it.
    expect(rows[0]?.proconfig).toContain('jit=off')
    // A bitmap has no order: each claim would read and sort all that is due.
    expect(rows[0]?.proconfig).toContain('enable_bitmapscan=off')
  },
)
