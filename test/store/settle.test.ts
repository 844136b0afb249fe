// Settling: every outcome, the fence around it, children, and one bad outcome among good ones.
import { createIzta, defineJob } from 'izta'
import { describe, expect, test } from 'vitest'
import { testDatabase } from '../support/database.ts'
import {
  claim,
  enqueue,
  expireLeases,
  newLease,
  newTask,
  newTasks,
  onConnection,
  outcome,
  pidOf,
  settle,
  turn,
  untilBlockedBy,
} from './statements.ts'

const { database, pool, connect } = await testDatabase()
const job = defineJob({ id: 'job' })
const izta = createIzta({ database, jobs: [job] })

async function claimOne(queue: string, facts: Parameters<typeof newTask>[0] = {}) {
  await enqueue(database, [newTask({ queue, ...facts })])
  const lease = newLease()
  const [task] = await claim(database, 1, { lease, queues: [queue] })
  return { lease, task: task! }
}
const error = (code: string) => JSON.stringify({ code, attempt: 1, class: 'Error', message: code })

describe('what becomes of a task', () => {
  test.for([
    ['finish', 'finished', 1, 0],
    ['fail', 'failed', 1, 1],
    ['drop', 'failed', 0, 1],
    ['cancel', 'cancelled', 0, 1],
  ] as const)('%s: the task is %s', async ([kind, status, attempt, errors]) => {
    const { lease, task } = await claimOne(kind)
    await settle(database, lease, [outcome(task, kind, { body: kind === 'finish' ? '7' : error('thrown') })])
    const ended = await izta.get(job, task.id)
    expect(ended).toMatchObject({ status, attempt })
    expect(ended?.errors).toHaveLength(errors)
    expect(await claim(database, 1, { queues: [kind] })).toEqual([])
  })

  test.for([
    ['retry', 'failing', 1, 60_000],
    ['defer', 'pending', 0, 60_000],
    ['release', 'pending', 0, 0],
  ] as const)('%s: the task is %s again', async ([kind, status, attempt, delayMs]) => {
    const { lease, task } = await claimOne(kind)
    await settle(database, lease, [
      outcome(task, kind, { delayMs, body: kind === 'retry' ? error('thrown') : null }),
    ])
    expect(await izta.get(job, task.id)).toMatchObject({ status, attempt, losses: 0 })
    const again = await claim(database, 1, { queues: [kind] })
    expect(again.map(({ dueAt }) => dueAt)).toEqual(kind === 'release' ? [task.dueAt] : [])
  })

  test('retry-after-lease: the task is failing, and due when the lease has ended, however short the delay', async () => {
    const { lease, task } = await claimOne('after-lease')
    const leaseEnd = async () =>
      (await pool.query<{ at: string }>('select run_at::text as at from izta.task where id = $1', [task.id]))
        .rows[0]?.at
    const before = await leaseEnd()
    await settle(database, lease, [outcome(task, 'retry-after-lease', { body: error('timeout') })])
    expect(await izta.get(job, task.id)).toMatchObject({ status: 'failing', attempt: 1 })
    expect(await leaseEnd()).toBe(before)
  })

  test('a task that has an end already keeps it, and its neighbours are settled', async () => {
    const { lease, task } = await claimOne('ended')
    await enqueue(database, [newTask({ queue: 'ended' })])
    const [neighbour] = await claim(database, 1, { lease, queues: ['ended'] })
    await pool.query(
      `insert into izta.history (id, queue, job, status, priority, attempt, max_attempts, losses, claims, created_at,
        due_at, finished_at, expires_at)
      values ($1, 'ended', 'job', 'cancelled', 5, 0, 3, 0, 1, now(), now(), now(), now() + interval '1 day')`,
      [task.id],
    )
    const reply = await settle(database, lease, [outcome(task, 'finish'), outcome(neighbour!, 'finish')])
    expect(reply.unsettled).toEqual([])
    expect(await izta.get(job, task.id)).toMatchObject({ status: 'cancelled' })
    expect(await izta.get(job, neighbour!.id)).toMatchObject({ status: 'finished' })
    expect(await claim(database, 1, { queues: ['ended'] })).toEqual([])
  })

  test.for(['retry', 'defer', 'release', 'fail', 'drop', 'cancel'] as const)(
    'a task that is to be cancelled becomes cancelled by %s',
    async (kind) => {
      const { lease, task } = await claimOne(`marked-${kind}`)
      expect(await izta.cancel(task.id)).toEqual({ outcome: 'cancelling' })
      expect((await turn(database, { lease, watch: [task.id] })).cancel).toEqual([task.id])
      await settle(database, lease, [outcome(task, kind, { body: error('thrown') })])
      expect(await izta.get(job, task.id)).toMatchObject({ status: 'cancelled', attempt: 0 })
    },
  )

  test('a task that is to be cancelled and returns has finished', async () => {
    const { lease, task } = await claimOne('marked-finish')
    await izta.cancel(task.id)
    await settle(database, lease, [outcome(task, 'finish')])
    expect(await izta.get(job, task.id)).toMatchObject({ status: 'finished' })
  })

  test('only the holder of the lease is told of a cancellation', async () => {
    const { task } = await claimOne('watch')
    await izta.cancel(task.id)
    expect((await turn(database, { watch: [task.id] })).cancel).toEqual([])
  })
})

test.for([
  ['finish', 'finish', 'finish'],
  ['finish', 'finish', 'retry'],
  ['retry', 'finish', 'finish'],
  ['retry', 'retry', 'retry'],
] as const)('what outcomes of one call have in common is sent once: %s', async (kinds) => {
  const queue = kinds.join('-')
  await enqueue(database, newTasks(3, { queue }))
  const first = newLease()
  const [released] = await claim(database, 1, { lease: first, queues: [queue] })
  await settle(database, first, [outcome(released!, 'release')])
  const lease = newLease()
  const tasks = await claim(database, 3, { lease, queues: [queue] })
  expect(tasks.map(({ claims }) => claims).toSorted((a, b) => a - b)).toEqual([1, 1, 2])
  for (const order of [tasks.slice(0, 1), tasks.slice(1)]) {
    const { unsettled } = await settle(
      database,
      lease,
      order.map((task) => {
        const kind = kinds[tasks.indexOf(task)]!
        const keepSeconds = 3600 + tasks.indexOf(task)
        return outcome(task, kind, { keepSeconds, body: kind === 'retry' ? error('thrown') : '1' })
      }),
    )
    expect(unsettled).toEqual([])
  }
  const { rows } = await pool.query<{ id: string; kind: string; seconds: number }>(
    `select id, 'finish' as kind, extract(epoch from expires_at - finished_at)::float8 as seconds
    from izta.history where queue = $1
    union all
    select id, 'retry', null from izta.task where queue = $1 and attempt = 1 and lease is null`,
    [queue],
  )
  const expected = tasks.map(({ id }, index) => ({
    id,
    kind: kinds[index],
    seconds: kinds[index] === 'finish' ? 3600 + index : null,
  }))
  expect(rows.toSorted((a, b) => a.id.localeCompare(b.id))).toEqual(
    expected.toSorted((a, b) => a.id.localeCompare(b.id)),
  )
})

test("errors are appended with the database's instant, and the last 25 are kept", async () => {
  const { rows } = await pool.query<{ now: Date }>('select izta.now() as now')
  const { lease, task } = await claimOne('errors')
  let claimed = task
  for (let attempt = 1; attempt <= 30; attempt++) {
    await settle(database, lease, [outcome(claimed, 'retry', { body: error(`thrown ${attempt}`) })])
    ;[claimed] = (await claim(database, 1, { lease, queues: ['errors'] })) as [typeof task]
  }
  await settle(database, lease, [outcome(claimed, 'fail', { body: error('thrown 31') })])
  const ended = await izta.get(job, task.id)
  expect(ended?.errors.map(({ code }) => code as string)).toEqual(
    Array.from({ length: 25 }, (_, index) => `thrown ${index + 7}`),
  )
  expect(ended?.attempt).toBe(31)
  for (const { at } of ended!.errors) {
    expect(Math.abs(at.getTime() - rows[0]!.now.getTime())).toBeLessThan(60_000)
  }
})

test('a finished task that keeps nothing leaves its bare row for a day', async () => {
  const { lease, task } = await claimOne('bare', { payload: '{"secret":1}' })
  await settle(database, lease, [outcome(task, 'finish', { body: '{"secret":2}', keepSeconds: 0 })])
  const { rows } = await pool.query(
    'select payload, result, status, expires_at - finished_at as kept from izta.history where id = $1',
    [task.id],
  )
  expect(rows).toEqual([
    { payload: null, result: null, status: 'finished', kept: expect.objectContaining({ days: 1 }) },
  ])
})

describe('the fence', () => {
  test('a stale lease cannot settle a task', async () => {
    const { lease, task } = await claimOne('stale')
    await expireLeases(pool)
    const thief = newLease()
    const [stolen] = await claim(database, 1, { lease: thief, queues: ['stale'] })
    const late = await settle(database, lease, [outcome(task, 'finish')])
    expect(late.unsettled).toEqual([task.id])
    expect((await settle(database, thief, [outcome(stolen!, 'finish')])).unsettled).toEqual([])
  })

  test('an expired lease that nobody took over still settles', async () => {
    const { lease, task } = await claimOne('expired')
    await expireLeases(pool)
    const reply = await turn(database, {
      lease,
      limit: 1,
      queues: ['expired'],
      outcomes: [outcome(task, 'finish')],
    })
    expect(reply).toMatchObject({ unsettled: [], claimed: [] })
    expect(await izta.get(job, task.id)).toMatchObject({ status: 'finished' })
  })

  test('a late copy of a retry does not free what the same lease has claimed again', async () => {
    const { lease, task } = await claimOne('copy')
    const retry = [outcome(task, 'retry', { body: error('thrown') })]
    await settle(database, lease, retry)
    const [again] = await claim(database, 1, { lease, queues: ['copy'] })
    expect((await settle(database, lease, retry)).unsettled).toEqual([task.id])
    expect((await settle(database, lease, [outcome(again!, 'finish')])).unsettled).toEqual([])
  })

  test('a late copy of a failure does not end what was retried by hand and claimed by the same lease', async () => {
    const { lease, task } = await claimOne('by-hand')
    const fail = [outcome(task, 'fail', { body: error('thrown') })]
    await settle(database, lease, fail)
    await izta.retry(task.id)
    const [again] = await claim(database, 1, { lease, queues: ['by-hand'] })
    expect((await settle(database, lease, fail)).unsettled).toEqual([task.id])
    expect((await settle(database, lease, [outcome(again!, 'finish')])).unsettled).toEqual([])
  })

  test('two copies of one settle at the same time take effect once', async () => {
    const { lease, task } = await claimOne('both')
    const request = [outcome(task, 'finish', { children: [newTask({ queue: 'child-of-both' })] })]
    const replies = await Promise.all([settle(database, lease, request), settle(database, lease, request)])
    expect(replies.flatMap(({ unsettled }) => unsettled)).toEqual([task.id])
    expect(await claim(database, 5, { queues: ['child-of-both'] })).toHaveLength(1)
  })
})

test('a settle waits for whoever looks at its row and is not skipped', async () => {
  const { lease, task } = await claimOne('waits')
  const other = await connect()
  await other.query('begin')
  await other.query('select from izta.task where id = $1 for no key update', [task.id])
  const waiting = settle(database, lease, [outcome(task, 'finish')])
  await untilBlockedBy(pool, await pidOf(other))
  await other.query('rollback')
  expect((await waiting).unsettled).toEqual([])
  expect(await izta.get(job, task.id)).toMatchObject({ status: 'finished' })
})

test('a settle that waited for a claim of its expired task changes nothing', async () => {
  const { lease, task } = await claimOne('overtaken')
  await expireLeases(pool)
  const thief = await connect()
  await thief.query('begin')
  expect(await claim(onConnection(thief), 1, { queues: ['overtaken'] })).toHaveLength(1)
  const waiting = settle(database, lease, [outcome(task, 'finish')])
  await untilBlockedBy(pool, await pidOf(thief))
  await thief.query('commit')
  expect((await waiting).unsettled).toEqual([task.id])
  expect(await izta.get(job, task.id)).toMatchObject({ status: 'running', losses: 1 })
})

describe('children', () => {
  test('are made by the very call that settles their parent as finished, and can be claimed by it', async () => {
    const { lease, task } = await claimOne('family')
    const children = newTasks(3, { queue: 'family' })
    const reply = await turn(database, {
      lease,
      limit: 10,
      queues: ['family'],
      outcomes: [outcome(task, 'finish', { children })],
    })
    expect(
      reply.claimed.map(({ id, parent }) => ({ id, parent })).toSorted((a, b) => a.id.localeCompare(b.id)),
    ).toEqual(children.map(({ id }) => ({ id, parent: task.id })))
  })

  test('of a parent that fails, is retried, released or no longer held are not made, those beside it are', async () => {
    await enqueue(database, newTasks(5, { queue: 'mixed' }))
    const lease = newLease()
    const parents = await claim(database, 5, { lease, queues: ['mixed'] })
    await pool.query('update izta.task set claims = claims + 1 where id = $1', [parents[4]!.id])
    const kinds = ['fail', 'retry', 'finish', 'release', 'finish'] as const
    const outcomes = kinds.map((kind, index) =>
      outcome(parents[index]!, kind, {
        body: kind === 'finish' || kind === 'release' ? null : error('thrown'),
        delayMs: 60_000,
        children: newTasks(2, { queue: 'mixed-child' }),
      }),
    )
    await settle(database, lease, outcomes)
    const made = await claim(database, 20, { queues: ['mixed-child'] })
    expect(made.map(({ parent }) => parent)).toEqual([parents[2]!.id, parents[2]!.id])
  })

  test('whose key is held are skipped and named, also when a sibling holds it', async () => {
    const { lease, task } = await claimOne('keyed')
    const holder = newTask({ queue: 'keyed-child', key: 'held' })
    await enqueue(database, [holder])
    const children = [
      newTask({ queue: 'keyed-child', key: 'held' }),
      newTask({ queue: 'keyed-child', key: 'twin' }),
      newTask({ queue: 'keyed-child', key: 'twin' }),
    ]
    const { skipped } = await settle(database, lease, [outcome(task, 'finish', { children })])
    expect(skipped.map(({ key }) => key ?? '').toSorted()).toEqual(['held', 'twin'])
    expect(await claim(database, 5, { queues: ['keyed-child'] })).toHaveLength(2)
  })

  test('that are due in another queue wake it once, unless it is paused', async () => {
    await enqueue(database, newTasks(4, { queue: 'parents' }))
    const lease = newLease()
    const parents = await claim(database, 4, { lease, queues: ['parents'] })
    const wakes = async (index: number, facts: Parameters<typeof newTask>[0]) => {
      const outcomes = [outcome(parents[index]!, 'finish', { children: [newTask(facts)] })]
      return (await turn(database, { lease, queues: ['parents'], outcomes })).wake
    }
    expect(await wakes(0, { queue: 'elsewhere', delayMs: 60_000 })).toEqual([])
    expect(await wakes(1, { queue: 'elsewhere' })).toEqual(['elsewhere'])
    expect(await wakes(2, { queue: 'elsewhere' })).toEqual([])
    await izta.queues.pause('elsewhere')
    expect(await wakes(3, { queue: 'elsewhere' })).toEqual([])
  })
})

describe('a bad row', () => {
  test.for([
    ['a result that is no JSON', '{"a":', 0],
    ['a result with NUL as it is', '"a\0b"', 0],
    ['a delay beyond every calendar', null, 1e16],
  ] as const)('fails the call as a whole and changes nothing: %s', async ([, body, delayMs]) => {
    await enqueue(database, newTasks(2, { queue: 'bad' }))
    const lease = newLease()
    const [good, bad] = await claim(database, 2, { lease, queues: ['bad'] })
    const outcomes = [
      outcome(good!, 'finish'),
      outcome(bad!, delayMs > 0 ? 'defer' : 'finish', { body, delayMs }),
    ]
    await expect(settle(database, lease, outcomes)).rejects.toMatchObject({ code: 'data-refused' })
    expect(await izta.get(job, good!.id)).toMatchObject({ status: 'running' })
    await settle(database, lease, [outcome(good!, 'finish'), outcome(bad!, 'finish')])
  })
})
