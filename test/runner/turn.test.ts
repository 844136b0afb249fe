// What a run says to the database: how many statements, in which groups, and what happens when answers are lost.
import {
  createIzta,
  DatabaseError,
  DatabaseUnreachableError,
  defineJob,
  type Clock,
  type Database,
  type Izta,
} from 'izta'
import { drain } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { configOf } from '../../src/config.ts'
import { repeatDefaults } from '../../src/db/run.ts'
import { deadlineAfter } from '../../src/runner/deadline.ts'
import { Capacity } from '../../src/runner/capacity.ts'
import type { RunOptions } from '../../src/runner/run.ts'
import { startRun } from '../../src/runner/runner.ts'
import { argument, elements } from '../support/arguments.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, connect } = await testDatabase()
beforeEach(() => pool.query('truncate izta.task, izta.history, izta.queue'))
const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }

type Query = Database['query']
type Statement = Parameters<Query>[0]

/** The database, with something between it and the runner; counts the runner's statements. */
function between(
  meddle: (statement: Statement, send: Query, count: number) => ReturnType<Query> = (s, send) => send(s),
) {
  const statements: Statement[] = []
  const wrapped: Database = {
    query(statement) {
      statements.push(statement)
      return meddle(statement, (one) => database.query(one), statements.length)
    },
  }
  return { statements, wrapped }
}

const limitOf = (statement: Statement) => Number(argument(statement, 'p_limit') ?? -1)
const settledIn = (statement: Statement) => elements(statement, 'p_ids').length
const isTurn = ({ text }: Statement) => text.includes('turn_1')

const lost = () =>
  new DatabaseUnreachableError('database-unreachable', 'no answer', { retryable: true, outcome: 'unknown' })
const unreachable = () =>
  new DatabaseUnreachableError('database-unreachable', 'not there', { retryable: true })

/** Pauses between tries take a twentieth of their time. */
const hurried: Clock = {
  now: () => 20 * performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms / 20)
    return () => clearTimeout(timer)
  },
}

const runs: string[] = []
beforeEach(() => void runs.splice(0))
const note = defineJob({
  id: 'note',
  payload: z.string(),
  result: z.string(),
  // Nothing that fails comes again within a test.
  backoff: { firstSeconds: 3600, jitter: 'none' },
  run(text, ctx) {
    runs.push(ctx.task.id)
    return text
  },
})

function invoke(izta: Izta, options: Partial<RunOptions> & { concurrency?: number } = {}) {
  const config = configOf(izta)
  const deadline = deadlineAfter(config.clock, 900_000, config.jobs.values())
  const capacity = new Capacity(options.concurrency ?? 10)
  return startRun({ config, queues: [], capacity, deadline, whenIdle: 'leave', hops: 0, ...options })
}

const plain = createIzta({ database, jobs: [note], log })
const enqueueNotes = (count: number) =>
  plain.enqueueMany(
    note,
    Array.from({ length: count }, (_, n) => `${n}`),
  )
const leased = async () => (await pool.query('select id from izta.task where lease is not null')).rows
const counts = async () =>
  (await pool.query('select status, count(*)::int from izta.history group by 1')).rows.map((row) => [
    row.status,
    row.count,
  ])

test('a run that finds nothing takes two statements', async () => {
  const { wrapped, statements } = between()
  expect(await invoke(createIzta({ database: wrapped, jobs: [note], log })).done).toMatchObject({
    claimed: 0,
    more: false,
  })
  expect(statements.map(limitOf)).toEqual([10, 10])
})

test('a run of 20 instant tasks takes three statements', async () => {
  await enqueueNotes(20)
  const { wrapped, statements } = between()
  const izta = createIzta({ database: wrapped, jobs: [note], log })
  expect(await invoke(izta, { concurrency: 50 }).done).toMatchObject({ finished: 20, more: false })
  expect(statements.map((one) => [limitOf(one), settledIn(one)])).toEqual([
    [50, 0],
    [50, 20],
    [50, 0],
  ])
})

test('one turn is in flight, and what ends meanwhile is settled by the next', async () => {
  const gates = Array.from({ length: 5 }, () => Promise.withResolvers<void>())
  const gated = defineJob({
    id: 'gated',
    payload: z.number(),
    run: (n) => gates[n]?.promise,
  })
  const firstSettle = Promise.withResolvers<void>()
  const answer = Promise.withResolvers<void>()
  let inFlight = 0
  let mostInFlight = 0
  const { wrapped, statements } = between(async (statement, send) => {
    mostInFlight = Math.max(mostInFlight, ++inFlight)
    const rows = await send(statement)
    if (settledIn(statement) === 1) {
      firstSettle.resolve()
      await answer.promise
    }
    inFlight--
    return rows
  })
  const izta = createIzta({ database: wrapped, jobs: [gated], log })
  const writer = createIzta({ database, jobs: [gated], log })
  await writer.enqueueMany(gated, [0, 1, 2, 3, 4])
  const run = invoke(izta)
  gates[0]?.resolve()
  await firstSettle.promise
  for (const gate of gates) gate.resolve()
  await new Promise(setImmediate)
  answer.resolve()
  expect(await run.done).toMatchObject({ finished: 5 })
  expect(statements.map(settledIn).filter((count) => count > 0)).toEqual([1, 4])
  expect(mostInFlight).toBe(1)
})

test('an empty claim clears the wake mark, so that the next enqueue wakes a runner', async () => {
  await enqueueNotes(1)
  await invoke(plain).done
  const { rows } = await pool.query(`select woken_at = '-infinity' as cleared from izta.queue`)
  expect(rows).toEqual([{ cleared: true }])
})

test.each([
  ['a full claim wakes one sibling, not two', 30, { hops: 2, concurrency: 10 }, [['*', 3]]],
  ['of the queue it works on', 10, { queues: ['default'], hops: 0, concurrency: 10 }, [['default', 1]]],
  [
    'of every queue it works on',
    10,
    { queues: ['mail', 'default'], hops: 0, concurrency: 10 },
    [
      ['mail', 1],
      ['default', 1],
    ],
  ],
  ['a partial claim wakes nobody', 9, { hops: 0, concurrency: 10 }, []],
  ['the chain of wakes ends at maxHops', 30, { hops: 12, concurrency: 10 }, []],
])('siblings: %s', async (_, tasks, options, expected) => {
  const wakes: [string, number][] = []
  await enqueueNotes(tasks)
  const wake = { wake: (queue: string, hops: number) => void wakes.push([queue, hops]) }
  await invoke(createIzta({ database, jobs: [note], log, wake }), options).done
  expect(wakes).toEqual(expected)
})

test.each([
  [3, [], [['*', 4]]],
  [
    3,
    ['mail', 'default'],
    [
      ['mail', 4],
      ['default', 4],
    ],
  ],
  [12, [], []],
] as const)(
  'a run of %i hops that leaves due work behind wakes its successor of the queues %j, within maxHops',
  async (hops, queues, expected) => {
    const wakes: [string, number][] = []
    await enqueueNotes(5)
    const wake = { wake: (...sent: [string, number]) => void wakes.push(sent) }
    const run = invoke(createIzta({ database, jobs: [note], log, wake }), { hops, queues })
    run.drain()
    expect(await run.done).toMatchObject({ more: true, finished: 0, released: 5 })
    expect(wakes).toEqual(expected)
  },
)

test.each([
  ['before it was applied', false],
  ['after it was applied', true],
])('a claim whose answer is lost %s: every task runs once, and nothing stays leased', async (_, applied) => {
  await enqueueNotes(25)
  const { wrapped } = between(async (statement, send, count) => {
    if (count !== 1) return send(statement)
    if (applied) await send(statement)
    throw lost()
  })
  const summary = await invoke(createIzta({ database: wrapped, jobs: [note], log })).done
  expect(summary).toMatchObject({ finished: 25, more: false })
  expect(new Set(runs).size).toBe(25)
  expect(runs).toHaveLength(25)
  expect(await leased()).toEqual([])
})

test('a claim that is still on its way when its repeat is answered: what it takes is handed back at the end', async () => {
  await enqueueNotes(3)
  const first = Promise.withResolvers<Statement>()
  const { wrapped } = between(async (statement, send, count) => {
    if (count === 1) {
      first.resolve(statement)
      throw lost()
    }
    // The lost copy comes through only now, when the run would leave.
    const rows = await send(statement)
    if (count === 3) await send(await first.promise)
    return rows
  })
  await invoke(createIzta({ database: wrapped, jobs: [note], log })).done
  expect(await leased()).toEqual([])
  const left = 3 - runs.length
  expect(await drain(plain)).toMatchObject({ finished: left })
  expect(new Set(runs).size).toBe(3)
  expect(runs).toHaveLength(3)
})

test.each([
  ['before it was applied', false],
  ['after it was applied', true],
])('a settle whose answer is lost %s counts once, as no expired lease', async (_, applied) => {
  await enqueueNotes(5)
  const { wrapped } = between(async (statement, send, count) => {
    if (count !== 2) return send(statement)
    if (applied) await send(statement)
    throw lost()
  })
  const izta = createIzta({ database: wrapped, jobs: [note], log })
  const expired: string[] = []
  izta.on('lease.expired', ({ taskId }) => expired.push(taskId))
  expect(await invoke(izta).done).toMatchObject({ claimed: 5, finished: 5 })
  expect(runs).toHaveLength(5)
  expect(expired).toEqual([])
  expect(await counts()).toEqual([['finished', 5]])
  expect(await leased()).toEqual([])
})

test('a turn whose answer is lost and whose repeat is refused: what it had settled and claimed is not forgotten', async () => {
  await enqueueNotes(25)
  const { wrapped } = between(async (statement, send, count) => {
    if (count === 3) throw new DatabaseError('data-refused', 'refused', {})
    const rows = await send(statement)
    if (count === 2) throw lost()
    return rows
  })
  const izta = createIzta({ database: wrapped, jobs: [note], log })
  const expired: string[] = []
  izta.on('lease.expired', ({ taskId }) => expired.push(taskId))
  expect(await invoke(izta).done).toMatchObject({ claimed: 25, finished: 25 })
  expect(runs).toHaveLength(25)
  expect(expired).toEqual([])
  expect(await leased()).toEqual([])
})

test('answers lost at random: every task runs once', async () => {
  await enqueueNotes(200)
  let seed = 7
  const random = () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647
  const { wrapped } = between(async (statement, send) => {
    const fate = random()
    if (fate < 0.1) throw unreachable()
    const rows = await send(statement)
    if (fate < 0.3) throw lost()
    return rows
  })
  const izta = createIzta({ database: wrapped, jobs: [note], log, clock: hurried })
  await Promise.all([invoke(izta).done, invoke(izta).done, invoke(izta).done])
  expect(new Set(runs).size).toBe(200)
  expect(runs).toHaveLength(200)
  expect(await leased()).toEqual([])
})

test('in a database whose default is repeatable read, runs side by side run every task once', async () => {
  const izta = createIzta({ database: (await strict).database, jobs: [note, parent, child], log })
  await izta.enqueueMany(note, [...Array(150).keys()].map(String))
  await izta.enqueueMany(
    parent,
    Array.from({ length: 10 }, () => ({ children: ['a', 'b'], keyed: true })),
  )
  await Promise.all(Array.from({ length: 4 }, () => invoke(izta).done))
  expect(runs).toHaveLength(150)
  expect(new Set(runs).size).toBe(150)
  expect(await izta.counts()).toEqual({})
})
const strict = testDatabase({ isolation: 'repeatable read' })

test('a settle waits for a row that somebody has locked, instead of leaving it out and running the task again', async () => {
  const gate = Promise.withResolvers<void>()
  const begun = Promise.withResolvers<void>()
  let count = 0
  const locked = defineJob({
    id: 'locked',
    async run() {
      count++
      begun.resolve()
      await gate.promise
    },
  })
  const settling = Promise.withResolvers<void>()
  const { wrapped } = between((statement, send) => {
    if (settledIn(statement) > 0) settling.resolve()
    return send(statement)
  })
  const izta = createIzta({ database: wrapped, jobs: [locked], log })
  const { id } = await createIzta({ database, jobs: [locked], log }).enqueue(locked)
  const run = invoke(izta)
  await begun.promise
  const stranger = await connect()
  await stranger.query('begin')
  await stranger.query('select from izta.task where id = $1 for update', [id])
  gate.resolve()
  await settling.promise
  await stranger.query('commit')
  expect(await run.done).toMatchObject({ claimed: 1, finished: 1 })
  expect(count).toBe(1)
})

test('a claim asks for no more than the adapter can carry back', async () => {
  const { wrapped, statements } = between()
  const narrow: Database = { ...wrapped, replyLimitBytes: 4000 }
  const bulky = defineJob({ id: 'bulky', payload: z.string(), run: () => {} })
  await createIzta({ database, jobs: [bulky], log }).enqueueMany(
    bulky,
    Array.from({ length: 9 }, () => 'x'.repeat(998)),
  )
  const claims: number[] = []
  const izta = createIzta({ database: narrow, jobs: [bulky], log })
  izta.on('turn.completed', ({ claimed }) => claims.push(claimed))
  expect(await invoke(izta).done).toMatchObject({ finished: 9 })
  expect(argument(statements[0]!, 'p_reply_bytes')).toBe('2000')
  expect(Math.max(...claims)).toBe(2)
})

test('runs that share a capacity run no more handlers at once than it allows', async () => {
  let running = 0
  let most = 0
  const counted = defineJob({
    id: 'counted',
    async run() {
      most = Math.max(most, ++running)
      await new Promise(setImmediate)
      running--
    },
  })
  const izta = createIzta({ database, jobs: [counted], log })
  await izta.enqueueMany(Array.from({ length: 60 }, () => [counted] as const))
  const capacity = new Capacity(3)
  const summaries = await Promise.all([invoke(izta, { capacity }).done, invoke(izta, { capacity }).done])
  expect(summaries[0].finished + summaries[1].finished).toBe(60)
  expect(most).toBe(3)
})

test('a statement rolled back because of a concurrent one is repeated', async () => {
  await enqueueNotes(3)
  const { wrapped } = between(async (statement, send, count) => {
    if (count <= 3) throw new DatabaseError('serialization', 'again', { retryable: true, sqlState: '40001' })
    return send(statement)
  })
  expect(
    await invoke(createIzta({ database: wrapped, jobs: [note], log, clock: hurried })).done,
  ).toMatchObject({
    finished: 3,
  })
})

test('a database that is unreachable the whole time: the run rejects, and the tasks wait', async () => {
  await enqueueNotes(3)
  const { wrapped } = between(async () => {
    throw unreachable()
  })
  const run = invoke(createIzta({ database: wrapped, jobs: [note], log, clock: hurried }))
  await expect(run.done).rejects.toThrow(DatabaseUnreachableError)
  expect(await drain(plain)).toMatchObject({ finished: 3 })
})

test('an outage while tasks run: what has ended is settled when the database is back', async () => {
  await enqueueNotes(3)
  let failures = 0
  const { wrapped } = between(async (statement, send, count) => {
    if (count > 1 && failures < 12) {
      failures++
      throw unreachable()
    }
    return send(statement)
  })
  const summary = await invoke(createIzta({ database: wrapped, jobs: [note], log, clock: hurried })).done
  expect(summary).toMatchObject({ claimed: 3, finished: 3 })
  expect(failures).toBe(12)
  expect(runs).toHaveLength(3)
})

test.for([
  ['refuses access', new DatabaseError('database-access', 'revoked', {})],
  ['throws what nobody knows', new TypeError('a bug of the adapter')],
  ['ends sessions', unreachable()],
] as const)('an outcome is kept for another try while the database %s', async ([, error]) => {
  await enqueueNotes(3)
  let refusals = 0
  const { wrapped } = between((statement, send) => {
    if (settledIn(statement) === 0 || refusals >= 3) return send(statement)
    refusals++
    throw error
  })
  const summary = await invoke(createIzta({ database: wrapped, jobs: [note], log, clock: hurried })).done
  expect(refusals).toBe(3)
  expect(summary).toMatchObject({ claimed: 3, finished: 3 })
  expect(runs).toHaveLength(3)
})

test('a run that holds nothing rejects when the database refuses', async () => {
  const { wrapped } = between(() => Promise.reject(new DatabaseError('database-access', 'revoked', {})))
  await expect(invoke(createIzta({ database: wrapped, jobs: [note], log })).done).rejects.toThrow('revoked')
})

test('one outcome that the database refuses fails alone', async () => {
  await pool.query(`
    create or replace function refuse_poison() returns trigger language plpgsql as $$
    begin
      if new.result::text = '"poison"' then raise exception 'cannot store this' using errcode = '22023'; end if;
      return new;
    end $$`)
  await pool.query(
    'create trigger refuse_poison before insert on izta.history for each row execute function refuse_poison()',
  )
  const tasks = await plain.enqueueMany(note, ['a', 'poison', 'b', 'c'])
  const summary = await invoke(plain).done
  await pool.query('drop trigger refuse_poison on izta.history')
  expect(summary).toMatchObject({ claimed: 4, finished: 3, retried: 1 })
  const task = await plain.get(note, tasks[1]?.id ?? '')
  expect(task).toMatchObject({ status: 'failing', code: 'result-refused', attempt: 1 })
  expect(task?.errors[0]?.message).toContain('cannot store this')
})

test('a task whose every outcome is refused keeps its lease, and its neighbours settle', async () => {
  await pool.query(`
    create or replace function refuse_all() returns trigger language plpgsql as $$
    begin
      if old.payload::text = '"poison"' and old.lease is not null and new.lease is null or tg_op = 'DELETE' and old.payload::text = '"poison"'
      then raise exception 'never' using errcode = '22023'; end if;
      return case tg_op when 'DELETE' then old else new end;
    end $$`)
  await pool.query(
    'create trigger refuse_all before update or delete on izta.task for each row execute function refuse_all()',
  )
  await plain.enqueueMany(note, ['a', 'poison', 'b'])
  const summary = await invoke(plain).done
  await pool.query('drop trigger refuse_all on izta.task')
  expect(summary).toMatchObject({ claimed: 3, finished: 2, retried: 0 })
  expect(await leased()).toHaveLength(1)
})

const child = defineJob({ id: 'child', payload: z.string(), run: () => {} })
const parent = defineJob({
  id: 'parent',
  payload: z.object({
    children: z.array(z.string()),
    keyed: z.boolean().default(false),
    fails: z.boolean().default(false),
  }),
  maxAttempts: 1,
  run({ children, keyed, fails }, ctx) {
    for (const name of children) ctx.enqueue(child, name, keyed ? { key: name } : {})
    if (fails) throw new Error('after enqueueing')
  },
})
const family = createIzta({ database, jobs: [parent, child, note], log })

test('children exist if and only if their parent has finished', async () => {
  const [good, bad] = await family.enqueueMany(parent, [
    { children: ['a', 'b'] },
    { children: ['c', 'd'], fails: true },
  ])
  expect(await drain(family)).toMatchObject({ finished: 3, failed: 1 })
  const { rows } = await pool.query(
    `select parent, payload from izta.history where job = 'child' order by id`,
  )
  expect(rows).toEqual([
    { parent: good?.id, payload: 'a' },
    { parent: good?.id, payload: 'b' },
  ])
  expect(bad?.created).toBe(true)
})

test('the 1,001st child fails the parent, and none is made', async () => {
  const { id } = await family.enqueue(parent, { children: Array.from({ length: 1001 }, (_, n) => `${n}`) })
  await drain(family)
  const task = await family.get(parent, id)
  expect(task).toMatchObject({ status: 'failed', code: 'too-many-children' })
  expect(task?.errors[0]?.message).toContain('has enqueued 1000 children, the most one task may')
  expect(await family.counts()).toEqual({})
})

test('1,000 children are made by one call', async () => {
  await family.enqueue(parent, { children: Array.from({ length: 1000 }, (_, n) => `${n}`) })
  expect(await drain(family, { concurrency: 1000 })).toMatchObject({ finished: 1001 })
})

test('a child that is enqueued after its handler has ended is refused', async () => {
  const refusal = Promise.withResolvers<unknown>()
  const careless = defineJob({
    id: 'careless',
    run(_, ctx) {
      setImmediate(() => {
        try {
          ctx.enqueue(child, 'late')
        } catch (error) {
          refusal.resolve(error)
        }
      })
    },
  })
  const izta = createIzta({ database, jobs: [careless, child], log })
  await izta.enqueue(careless)
  await drain(izta)
  expect(await refusal.promise).toMatchObject({ code: 'task-over' })
})

test('a keyed child whose key is held is left out and told, and its parent has finished', async () => {
  const skipped: unknown[] = []
  const off = family.on('child.skipped', (event) => skipped.push(event))
  await family.enqueue(child, 'holder', { key: 'k', delaySeconds: 3600 })
  await family.enqueue(parent, { children: ['k', 'free'], keyed: true })
  expect(await drain(family)).toMatchObject({ finished: 2 })
  off()
  expect(skipped).toEqual([{ taskId: expect.any(String), job: 'child', key: 'k' }])
})

test('a child whose given id exists is left out and told, and its parent has finished', async () => {
  const { id } = await family.enqueue(child, 'there', { delaySeconds: 3600 })
  const byId = defineJob({ id: 'by-id', run: (_, ctx) => ctx.enqueue(child, 'again', { id }) })
  const izta = createIzta({ database, jobs: [byId, child], log })
  const skipped: unknown[] = []
  izta.on('child.skipped', (event) => skipped.push(event))
  await izta.enqueue(byId)
  expect(await drain(izta)).toMatchObject({ finished: 1, failed: 0 })
  expect(skipped).toEqual([{ taskId: id, job: 'child', key: undefined }])
})

test('an answer that cannot be read counts as lost: the outcome is sent again, what was claimed is found', async () => {
  let answers = 0
  const { wrapped } = between(async (statement, send) => {
    const rows = await send(statement)
    // The claim of the first task, then its settle with the claim of the second.
    return isTurn(statement) && ++answers <= 2 ? [...rows, { row: 'of another kind' }] : rows
  })
  const izta = createIzta({ database: wrapped, jobs: [note], log, clock: hurried })
  await plain.enqueueMany(note, ['one', 'two'])
  expect(await invoke(izta, { concurrency: 1 }).done).toMatchObject({ finished: 2 })
  expect(runs).toHaveLength(2)
  expect(await plain.counts({ since: new Date(0) })).toMatchObject({ default: { finished: 2, running: 0 } })
})

test('a keyed child whose key is in a stranger’s open transaction holds up nobody but its parent', async () => {
  const stranger = await connect()
  await stranger.query('begin')
  const { text, values } = family.enqueueStatement(child, 'x', { key: 'contended', delaySeconds: 3600 })
  await stranger.query(text, values)
  const parentTask = await family.enqueue(parent, { children: ['contended'], keyed: true })
  const others = Promise.withResolvers<void>()
  const off = family.on('task.finished', ({ job }) => job === 'note' && others.resolve())
  const run = invoke(family)
  const { id } = await family.enqueue(note, 'unimpeded')
  run.recheck()
  await others.promise
  off()
  expect(await family.get(note, id)).toMatchObject({ status: 'finished' })
  expect(await family.get(parent, parentTask.id)).toMatchObject({ status: 'running' })
  await stranger.query('commit')
  expect(await run.done).toMatchObject({ finished: 2 })
  expect(await family.get(parent, parentTask.id)).toMatchObject({ status: 'finished' })
})

test('the lost answer of a keyed settle starts no task twice', async () => {
  // While it is repeated, a claim is on its way whose tasks the lease already holds.
  const claimed = Promise.withResolvers<void>()
  const repeated = Promise.withResolvers<void>()
  let keyedCalls = 0
  const { wrapped } = between(async (statement, send) => {
    const isKeyedSettle = typeof argument(statement, 'p_children') === 'string'
    if (isKeyedSettle) {
      await claimed.promise
      const rows = await send(statement)
      if (++keyedCalls === 1) throw lost()
      setImmediate(repeated.resolve)
      return rows
    }
    const rows = await send(statement)
    if (limitOf(statement) > 0 && rows.length > 1) {
      claimed.resolve()
      await repeated.promise
      await new Promise(setImmediate)
    }
    return rows
  })
  const izta = createIzta({ database: wrapped, jobs: [parent, child, note], log })
  await family.enqueue(parent, { children: ['k1'], keyed: true }, { priority: 0 })
  const run = invoke(izta)
  const settled = new Promise<void>(
    (resolve) => void izta.on('task.started', ({ job }) => job === 'parent' && resolve()),
  )
  await settled
  await enqueueNotes(4)
  run.recheck()
  await run.done
  expect(keyedCalls).toBe(2)
  expect(runs).toHaveLength(4)
  expect(new Set(runs).size).toBe(4)
})

test('a keyed settle that is sent once more while the run leaves is known until its answer has come', async () => {
  await family.enqueue(parent, { children: ['k2'], keyed: true })
  const order: string[] = []
  const sitsOut = Promise.withResolvers<void>()
  let claims = 0
  let tries = 0
  const { wrapped } = between(async (statement, send) => {
    if (statement.text.includes('release_lease_1')) order.push('handed back')
    if (!isTurn(statement)) return send(statement)
    if (limitOf(statement) > 0 && ++claims === 1) {
      // What this claim took is found by the next statement, and handed back at the end unless it is known.
      await send(statement)
      throw lost()
    }
    if (settledIn(statement) === 0) return send(statement)
    if (++tries <= repeatDefaults.attempts) throw lost()
    order.push('sent again')
    for (let n = 0; n < 5; n++) await new Promise(setImmediate)
    const rows = await send(statement)
    order.push('answered')
    return rows
  })
  const told = { ...log, error: (text: string) => text.startsWith('a turn failed') && sitsOut.resolve() }
  const run = invoke(createIzta({ database: wrapped, jobs: [parent, child], log: told, clock: hurried }))
  await sitsOut.promise
  run.leave()
  expect(await run.done).toMatchObject({ finished: 1 })
  expect(order).toEqual(['sent again', 'answered', 'handed back'])
  const { rows } = await pool.query('select count(*)::int as parents from izta.history')
  expect(rows).toEqual([{ parents: 1 }])
})

test('a job may enqueue itself', async () => {
  const again: (number | undefined)[] = []
  const countdown = defineJob({
    id: 'countdown',
    payload: z.number(),
    run(n, ctx) {
      again.push(n)
      if (n > 0) ctx.enqueue(countdownDefinition, n - 1)
    },
  })
  const countdownDefinition = defineJob({ id: 'countdown', payload: z.number() })
  const izta = createIzta({ database, jobs: [countdown], log })
  await izta.enqueue(countdown, 3)
  expect(await drain(izta)).toMatchObject({ finished: 4 })
  expect(again).toEqual([3, 2, 1, 0])
})
