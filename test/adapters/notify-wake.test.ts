// Wakes by NOTIFY: runners elsewhere start without a poll, and lose nothing when they cannot listen.
import { setImmediate as turn } from 'node:timers/promises'
import { createIzta, DefinitionError, defineJob, startRunner, type Izta, type Wake } from 'izta'
import { notifyWake, pgDatabase } from 'izta/pg'
import { createTestClock } from 'izta/testing'
import { afterAll, beforeEach, expect, test, vi } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool, url, connect } = await testDatabase()
// Nobody moves it while a runner runs: no poll comes due, and no wake mark becomes stale.
const clock = await createTestClock({ database })
const elsewhere = pgDatabase(url)
afterAll(() => elsewhere.close?.())
beforeEach(async () => {
  await noneListens()
  await pool.query('truncate izta.task, izta.history, izta.queue')
  // As `migrate` stores the queues of the jobs.
  await pool.query("insert into izta.queue (name) values ('default')")
})

const silent = () => {}
const log = { debug: silent, info: silent, warn: silent, error: silent }
const note = defineJob({ id: 'note', payload: z.number(), result: z.number(), run: (n) => n })
const jobs = [note]

/** An instance that enqueues: in another process, as far as the database can tell. */
const sender = createIzta({
  database: elsewhere,
  jobs,
  clock,
  log,
  wake: notifyWake({ database: elsewhere }),
})

/** A runner's side whose test can wait for what it hears. */
function hearing(wake: Wake = notifyWake({ database, listen: url })) {
  const heard: string[] = []
  let news = Promise.withResolvers<void>()
  const listen: Wake['listen'] = (onWake, logger) =>
    wake.listen?.((queue) => {
      onWake(queue)
      heard.push(queue)
      news.resolve()
    }, logger) ?? (() => Promise.resolve())
  const izta = createIzta({ database, jobs, clock, log, wake: { ...wake, listen } })
  return {
    izta,
    heard,
    async hears(count: number) {
      while (heard.length < count) {
        // oxlint-disable-next-line no-await-in-loop -- one after the other
        await news.promise
        news = Promise.withResolvers()
      }
    },
  }
}

/** Resolves when the runner has looked once more and found nothing. */
function emptyLook(izta: Izta): Promise<void> {
  return new Promise((resolve) => {
    const off = izta.on('turn.completed', ({ claimed }) => {
      if (claimed > 0) return
      off()
      setImmediate(resolve)
    })
  })
}

const finished = (izta: Izta) =>
  new Promise<string>((resolve) => void izta.on('task.finished', ({ taskId }) => resolve(taskId)))

async function listeningPids(): Promise<number[]> {
  const { rows } = await pool.query<{ pid: number }>(
    "select pid from pg_stat_activity where datname = current_database() and query = 'listen izta_wake'",
  )
  return rows.map(({ pid }) => pid)
}

/** A closed connection leaves the server's list a moment later. */
async function noneListens(): Promise<void> {
  for (let look = 0; look < 1000 && (await listeningPids()).length > 0; look++) await turn()
  expect(await listeningPids()).toEqual([])
}

test('an enqueue of another process starts its task without a poll', async () => {
  const { izta, heard, hears } = hearing()
  const looked = emptyLook(izta)
  await using _runner = startRunner(izta, { pollSeconds: 3600 })
  await looked
  const lookedAgain = emptyLook(izta)
  await hears(1)
  await lookedAgain
  const done = finished(izta)
  const { id } = await sender.enqueue(note, 1)
  expect(await done).toBe(id)
  expect(heard).toEqual(['*', 'default'])
})

test('an enqueue in a transaction of the application starts its task when that wakes after the commit', async () => {
  const { izta, hears } = hearing()
  await using _runner = startRunner(izta, { pollSeconds: 3600 })
  await hears(1)
  const done = finished(izta)
  const { id, text, values } = sender.enqueueStatement(note, 1)
  await pool.query(text, values)
  await sender.wake('default')
  expect(await done).toBe(id)
})

test('a runner of one queue does not look for wakes of others', async () => {
  const { izta, hears } = hearing()
  await using _runner = startRunner(izta, { queues: ['mine'], pollSeconds: 3600 })
  await hears(1)
  const other = await sender.enqueue(note, 1, { queue: 'other' })
  const done = finished(izta)
  const mine = await sender.enqueue(note, 2, { queue: 'mine' })
  expect(await done).toBe(mine.id)
  expect(await izta.get(note, other.id)).toMatchObject({ status: 'pending' })
})

test('nothing is sent when no wake is due', async () => {
  const listener = await connect()
  const notified = vi.fn<(payload: string | undefined) => void>()
  listener.on('notification', ({ payload }) => notified(payload))
  await listener.query('listen izta_wake')
  await sender.enqueue(note, 1)
  // The queue is marked as woken, and what is due later needs no runner now.
  await sender.enqueue(note, 2)
  await sender.enqueue(note, 3, { queue: 'later', delaySeconds: 60 })
  // Notifications arrive in the order of their commits.
  await listener.query("select pg_notify('izta_wake', 'end')")
  expect(notified.mock.calls).toEqual([['default'], ['end']])
})

test('wakes of many queues go in one statement, whatever their names add up to', async () => {
  const query = vi.spyOn(elsewhere, 'query')
  const { izta, heard, hears } = hearing()
  await using _runner = startRunner(izta, { queues: ['none'], pollSeconds: 3600 })
  await hears(1)
  query.mockClear()
  const queues = Array.from({ length: 200 }, (_, n) => `${'q'.repeat(96)}${n + 1000}`)
  await sender.enqueueMany(queues.map((queue) => [note, 1, { queue }] as const))
  expect(query).toHaveBeenCalledTimes(2)
  query.mockRestore()
  await hears(201)
  expect(heard.slice(1).toSorted()).toEqual(queues)
})

test('a connection that the server ends is opened again, and what was missed meanwhile is looked for', async () => {
  const { izta, heard, hears } = hearing()
  const looked = emptyLook(izta)
  await using _runner = startRunner(izta, { pollSeconds: 3600 })
  await hears(1)
  await looked
  const [before] = await listeningPids()
  // Nobody is woken for this one.
  const { id, text, values } = sender.enqueueStatement(note, 1)
  await pool.query(text, values)
  const done = finished(izta)
  await pool.query('select pg_terminate_backend($1)', [before])
  expect(await done).toBe(id)
  await hears(2)
  expect(heard).toEqual(['*', '*'])
  const after = await listeningPids()
  expect(after).toHaveLength(1)
  expect(after).not.toContain(before)
})

test('runners of one process share a connection, and the last one to stop closes it', async () => {
  const { izta, heard, hears } = hearing()
  const one = startRunner(izta, { pollSeconds: 3600 })
  const other = startRunner(izta, { pollSeconds: 3600 })
  await hears(2)
  expect(await listeningPids()).toHaveLength(1)
  await one.stop()
  expect(await listeningPids()).toHaveLength(1)
  const before = heard.length
  await sender.enqueue(note, 1)
  await hears(before + 1)
  await other.stop()
  await noneListens()
})

test('a runner that starts after the last has stopped listens again', async () => {
  const { izta, hears } = hearing()
  const first = startRunner(izta, { pollSeconds: 3600 })
  await hears(1)
  await first.stop()
  await using _runner = startRunner(izta, { pollSeconds: 3600 })
  await hears(2)
})

test('where listening is impossible polls find the tasks, and a warning says so once', async () => {
  const warn = vi.fn<(message: string, facts?: Record<string, unknown>) => void>()
  const nowhere = Object.assign(new URL(url), { port: '2' }).href
  const izta = createIzta({
    database,
    jobs,
    clock,
    log: { ...log, warn },
    wake: notifyWake({ database, listen: nowhere }),
  })
  const looked = emptyLook(izta)
  const runner = startRunner(izta, { pollSeconds: 2 })
  await looked
  const { id } = await sender.enqueue(note, 1)
  const done = finished(izta)
  await clock.advance({ seconds: 2 })
  expect(await done).toBe(id)
  await runner.stop()
  expect(warn.mock.calls).toEqual([
    [
      'listening for wakes failed: runners poll until it works again',
      { error: expect.stringContaining('127.0.0.1:2/') as string },
    ],
  ])
  expect(JSON.stringify(warn.mock.calls)).not.toContain(new URL(url).password)
})

test('a runner that stops while its connection is opening leaves none behind', async () => {
  const { izta } = hearing()
  const runner = startRunner(izta, { pollSeconds: 3600 })
  await runner.stop()
  await noneListens()
})

test('a process without runners opens no connection to listen', async () => {
  await sender.enqueue(note, 1)
  await noneListens()
})

test('a notification that fails costs no task', async () => {
  const warn = vi.fn<(message: string) => void>()
  const closed = pgDatabase(url)
  await closed.close?.()
  const izta = createIzta({
    database,
    jobs,
    clock,
    log: { ...log, warn },
    wake: notifyWake({ database: closed }),
  })
  expect(await izta.enqueue(note, 1)).toMatchObject({ created: true })
  expect(warn).toHaveBeenCalledTimes(1)
})

test('wrong options are refused at once', () => {
  expect(() => notifyWake({} as never)).toThrow(DefinitionError)
  expect(() => notifyWake({ database, listen: 'mysql://user:secret@db.example.com/app' })).toThrow(
    /^notifyWake: option "listen"/,
  )
  expect(() => notifyWake({ database, listen: 'mysql://user:secret@db.example.com/app' })).not.toThrow(
    /secret/,
  )
})
