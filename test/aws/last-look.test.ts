// The last look of a runner, and the wait for a task that is due soon, on a clock that stands still. An invocation that
// finds nothing twice in a row leaves; the second of these claims is the last look.
import {
  createIzta,
  DatabaseError,
  DatabaseUnreachableError,
  defineJob,
  type AnyJob,
  type Clock,
  type Logger,
} from 'izta'
import { createSchedulerHandler, type RunnerHandlerOptions } from 'izta/lambda'
import { createTestClock, type TestClock } from 'izta/testing'
import { setImmediate as nextRound } from 'node:timers/promises'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import * as z from 'zod'
import { createRunnerEnvironment } from '../../src/aws/runner-handler.ts'
import { argument } from '../support/arguments.ts'
import { testDatabase } from '../support/database.ts'

const { connect, database, pool } = await testDatabase()
let clock: TestClock
/** When something is to happen in the process. */
const timers = new Set<{ atMs: number }>()
/** Statements that wait for their answers, of all invocations. */
let unanswered = 0
/** What happens before or after a statement, before its answer arrives. */
let meddle: { before?: (kind: string) => unknown; after?: (kind: string) => unknown }
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const runs: string[] = []
const note = defineJob({
  id: 'note',
  payload: z.string(),
  run: (text) => void runs.push(`${text} ${clock.date.toISOString().slice(11)}`),
})
const woken: string[] = []

const observed: Clock = {
  now: () => clock.now(),
  after(ms, callback) {
    const timer = { atMs: clock.now() + Math.max(0, ms) }
    timers.add(timer)
    const cancel = clock.after(ms, () => {
      timers.delete(timer)
      callback()
    })
    return () => {
      timers.delete(timer)
      cancel()
    }
  },
}

/** An instance that notes its turns: `look` is the last look of a runner that would wait, all others are a `turn`. */
function make(sent: string[] = [], jobs: AnyJob[] = [note]) {
  return createIzta({
    database: {
      async query(statement) {
        unanswered++
        try {
          if (!statement.text.includes('turn_1')) return await database.query(statement)
          const kind = (argument(statement, 'p_linger_ms') ?? null) === null ? 'turn' : 'look'
          sent.push(kind)
          await meddle.before?.(kind)
          const rows = await database.query(statement)
          await meddle.after?.(kind)
          return rows
        } finally {
          unanswered--
        }
      },
    },
    jobs,
    log: quiet,
    clock: observed,
    wake: { wake: (queue, hops) => void woken.push(`${queue} ${hops}`) },
  })
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  clock = await createTestClock({ database, at: at('12:00:20') })
  timers.clear()
  meddle = {}
  runs.length = 0
  woken.length = 0
})

const at = (time: string) => new Date(`2030-01-01T${time}Z`)

/** Lets the process go on until it waits for a timer. */
async function settle(): Promise<void> {
  do await nextRound()
  while (unanswered > 0)
  await nextRound()
}

/** Moves the clock on from timer to timer. */
async function until(isOver: () => boolean): Promise<void> {
  for (;;) {
    // oxlint-disable no-await-in-loop -- one step after the other
    await settle()
    if (isOver()) return
    const next = Math.min(...[...timers].map(({ atMs }) => atMs))
    if (next > at('12:10:00').getTime()) throw new Error('it does not happen')
    await clock.advanceTo(new Date(next))
  }
}

type Invocation = ReturnType<typeof invoke>

function invoke(options: Partial<RunnerHandlerOptions> = {}, remainingSeconds = 300, jobs?: AnyJob[]) {
  const endsAtMs = clock.now() + remainingSeconds * 1000
  const sent: string[] = []
  const { handler, stop } = createRunnerEnvironment({ izta: make(sent, jobs), ...options })
  const done = handler({ hops: 2 }, { getRemainingTimeInMillis: () => endsAtMs - clock.now() })
  let hasEnded = false
  const end = () => void (hasEnded = true)
  done.then(end, end)
  return {
    sent,
    stop,
    done,
    hasEnded: () => hasEnded,
    end: () => until(() => hasEnded).then(() => done),
  }
}

/** Goes on to the last look and its answer; whether the invocation waits for a task then. */
async function waits(invocation: Invocation): Promise<boolean> {
  await until(() => invocation.sent.at(-1) === 'look')
  return !invocation.hasEnded()
}

test('a leaving runner waits for a task that is due soon and starts it on time, without a statement meanwhile', async () => {
  await make().enqueue(note, 'soon', { runAt: at('12:01:10') })
  const runner = invoke()
  expect(await waits(runner)).toBe(true)
  expect(runner.sent).toEqual(['turn', 'look'])
  await clock.advanceTo(at('12:01:09.999'))
  await settle()
  expect([runner.sent.length, runs]).toEqual([2, []])
  expect(await runner.end()).toMatchObject({ claimed: 1, finished: 1, more: false })
  expect(runs).toEqual(['soon 12:01:10.000Z'])
})

test.each([
  [60, ['turn', 'look', 'turn', 'look']],
  [0, ['turn', 'turn', 'turn', 'turn']],
])(
  'what was enqueued as the last claim came back empty is found by the last look, with lingerSeconds %i',
  async (lingerSeconds, expected) => {
    const runner = invoke({ lingerSeconds })
    meddle.after = async () => {
      // As if it had seen the mark before it was cleared: no runner hears its wake.
      if (runner.sent.length === 1) await make().enqueue(note, 'just in time')
    }
    expect(await runner.end()).toMatchObject({ claimed: 1, finished: 1, more: false })
    expect(runs).toEqual(['just in time 12:00:20.050Z'])
    expect(runner.sent).toEqual(expected)
  },
)

test.each([
  [20, ['turn', 'turn', 'look']],
  [0, ['turn', 'look']],
])('an invocation with %i instant tasks sends %j', async (tasks, expected) => {
  const texts = Array.from({ length: tasks }, (_, n) => `${n}`)
  await make().enqueueMany(note, texts)
  const runner = invoke({ concurrency: 50 })
  expect(await runner.end()).toMatchObject({ finished: tasks, more: false })
  expect(runner.sent).toEqual(expected)
})

test('a due task that another transaction has locked is not waited for, and hides none that is due soon', async () => {
  await make().enqueueMany([
    [note, 'locked'],
    [note, 'soon', { delaySeconds: 20 }],
  ])
  const other = await connect()
  onTestFinished(async () => void (await other.query('rollback')))
  await other.query(`begin; select from izta.task where payload #>> '{}' = 'locked' for update`)
  const runner = invoke()
  expect(await waits(runner)).toBe(true)
  await until(() => runs.length === 1)
  expect(runs).toEqual(['soon 12:00:40.000Z'])
  expect(runner.sent.slice(0, 3)).toEqual(['turn', 'look', 'turn'])
  await other.query('rollback')
  expect(await runner.end()).toMatchObject({ claimed: 2, finished: 2, more: false })
})

test('a task that is cancelled while a runner waits for it does not keep the next from its time', async () => {
  const izta = make()
  const first = await izta.enqueue(note, 'cancelled', { delaySeconds: 20 })
  await izta.enqueue(note, 'next', { delaySeconds: 40 })
  const runner = invoke()
  expect(await waits(runner)).toBe(true)
  await izta.cancel(first.id)
  expect(await runner.end()).toMatchObject({ claimed: 1, finished: 1 })
  expect(runs).toEqual(['next 12:01:00.000Z'])
})

test('a claim that comes a little early, since clocks drift, is made again', async () => {
  await make().enqueue(note, 'soon', { delaySeconds: 20 })
  const runner = invoke()
  expect(await waits(runner)).toBe(true)
  const mayGo = Promise.withResolvers<void>()
  meddle.before = async () => {
    await mayGo.promise
    await pool.query(`update izta.test_clock set at = '2030-01-01T12:00:39.99Z'`)
  }
  await clock.advanceTo(at('12:00:40'))
  mayGo.resolve()
  await settle()
  expect([runner.sent, runs, runner.hasEnded()]).toEqual([['turn', 'look', 'turn'], [], false])
  meddle = {}
  expect(await runner.end()).toMatchObject({ claimed: 1, finished: 1 })
  expect(runs).toEqual(['soon 12:00:40.050Z'])
})

test('what is stored while another task runs is found a pause later, not when that has ended', async () => {
  const gate = Promise.withResolvers<void>()
  const gated = defineJob({
    id: 'note',
    payload: z.string(),
    run: (text) => (text === 'gated' ? gate.promise : note.run?.(text, undefined as never)),
  })
  await make().enqueue(note, 'gated')
  const runner = invoke({}, 300, [gated])
  meddle.after = async () => {
    // The answer to the first empty claim is on its way, and the mark is cleared.
    if (runner.sent.length === 2) await make().enqueue(note, 'meanwhile')
  }
  await until(() => runs.length === 1)
  expect(runs).toEqual(['meanwhile 12:00:20.100Z'])
  gate.resolve()
  expect(await runner.end()).toMatchObject({ finished: 2 })
})

const lost = { retryable: true, outcome: 'not-applied' } as const
const outages: [string, number, DatabaseError][] = [
  ['refuses', 60, new DatabaseError('database-refused', 'no', {})],
  ['is not there for', 60, new DatabaseUnreachableError('database-unreachable', 'gone', lost)],
  ['is not there for', 0, new DatabaseUnreachableError('database-unreachable', 'gone', lost)],
]

test('a run whose last outcome is settled in a call of its own waits for a task that is due soon as well', async () => {
  const gate = Promise.withResolvers<void>()
  const parent = defineJob({
    id: 'parent',
    run: async (_, ctx) => {
      await gate.promise
      ctx.enqueue(note, 'child', { key: 'k', delaySeconds: 20 })
    },
  })
  const jobs = [note, parent]
  await make([], jobs).enqueue(parent)
  const runner = invoke({}, 300, jobs)
  // The parent, and twice nothing.
  await until(() => runner.sent.length === 3)
  gate.resolve()
  expect(await runner.end()).toMatchObject({ claimed: 2, finished: 2, more: false })
  expect(runs).toEqual(['child 12:00:40.100Z'])
})

test.each(outages)(
  'when the database %s the last look, with lingerSeconds %i, a successor looks and the invocation does not fail',
  async (_, lingerSeconds, error) => {
    const runner = invoke({ lingerSeconds })
    meddle.before = () => {
      if (runner.sent.length > 1) throw error
    }
    await until(() => runner.sent.length > 1)
    // Pauses before another try take real time.
    expect(await runner.done).toMatchObject({ claimed: 0, more: true })
    expect(woken).toEqual(['* 3'])
  },
)

test('what the last look would find past the last claim is left to a successor', async () => {
  meddle.after = () => make().enqueue(note, 'too late for this one')
  // The job's timeout, the time to stop, and less than the pause before the last look.
  const runner = invoke({}, 65.03)
  expect(await runner.end()).toMatchObject({ claimed: 0, more: true })
  expect(runner.sent).toEqual(['turn'])
  expect(woken.at(-1)).toBe('* 3')
})

test('one runner for each queue waits, and the place is free again when the task is due', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'one', { runAt: at('12:00:50') }],
    [note, 'other queue', { runAt: at('12:01:00'), queue: 'other' }],
  ])
  const first = invoke()
  expect(await waits(first)).toBe(true)
  expect(await waits(invoke({ queues: ['default'] }))).toBe(false)
  const second = invoke()
  expect(await waits(second)).toBe(true)
  expect(await waits(invoke())).toBe(false)
  expect(await first.end()).toMatchObject({ claimed: 1, finished: 1, more: false })
  expect(await second.end()).toMatchObject({ claimed: 1, finished: 1, more: false })
  expect(runs).toEqual(['one 12:00:50.000Z', 'other queue 12:01:00.000Z'])
  await izta.enqueue(note, 'next', { delaySeconds: 10 })
  const third = invoke()
  expect(await waits(third)).toBe(true)
  expect(await waits(invoke())).toBe(false)
  expect(await third.end()).toMatchObject({ claimed: 1, finished: 1 })
})

test('an earlier task has its own runner next to one that waits longer', async () => {
  const izta = make()
  await izta.enqueue(note, 'late', { delaySeconds: 40 })
  const late = invoke()
  expect(await waits(late)).toBe(true)
  await izta.enqueue(note, 'early', { runAt: at('12:00:40') })
  const early = invoke()
  expect(await waits(early)).toBe(true)
  await until(() => runs.length > 0)
  expect(runs).toEqual(['early 12:00:40.000Z'])
  await Promise.all([early.end(), late.end()])
  expect(runs).toEqual(['early 12:00:40.000Z', 'late 12:01:00.000Z'])
})

test.each([
  ['none of its queues is named', { queues: ['other'] }, ''],
  ['it is due too late', { lingerSeconds: 29 }, ''],
  ['waiting is turned off', { lingerSeconds: 0 }, ''],
  // With the job's timeout and the time to stop.
  ['the last claim comes before', { remainingSeconds: 65 + 29 }, ''],
  ['the queue is paused', {}, `update izta.queue set paused = true`],
  ['it is leased: its runner settles it', {}, 'update izta.task set lease = gen_random_uuid()'],
])(
  'no runner waits for a task when %s',
  async (
    _,
    { remainingSeconds, ...options }: Partial<RunnerHandlerOptions> & { remainingSeconds?: number },
    sql,
  ) => {
    await make().enqueue(note, 'in half a minute', { delaySeconds: 30 })
    await pool.query(sql)
    const startedAtMs = clock.now()
    expect(await invoke(options, remainingSeconds).end()).toMatchObject({ claimed: 0, more: false })
    expect(clock.now() - startedAtMs).toBeLessThan(1000)
  },
)

test('a runner that is stopped does not wait on, and leaves the task to a successor', async () => {
  await make().enqueue(note, 'soon', { delaySeconds: 30 })
  woken.length = 0
  const runner = invoke()
  expect(await waits(runner)).toBe(true)
  await runner.stop()
  expect(await runner.end()).toMatchObject({ claimed: 0, more: true })
  expect(clock.date < at('12:00:21')).toBe(true)
  expect(woken).toEqual(['* 3'])
})

test('a tick wakes the queues whose next task is due before runners stop waiting, once', async () => {
  const izta = make()
  await izta.enqueueMany([
    [note, 'soon', { delaySeconds: 59, queue: 'soon' }],
    [note, 'later', { delaySeconds: 61, queue: 'later' }],
    [note, 'leased', { delaySeconds: 10, queue: 'leased' }],
  ])
  await pool.query(`update izta.task set lease = gen_random_uuid() where queue = 'leased'`)
  const tick = createSchedulerHandler({ izta })
  expect(await tick()).toMatchObject({ woken: ['soon'] })
  const runner = invoke({ queues: ['soon'] })
  expect(await waits(runner)).toBe(true)
  await clock.advance({ seconds: 2 })
  expect(await tick()).toMatchObject({ woken: ['later'] })
  expect(await createSchedulerHandler({ izta, lingerSeconds: 0 })()).toMatchObject({ woken: [] })
  expect(woken).toEqual(['soon 0', 'later 0'])
  expect(await runner.end()).toMatchObject({ claimed: 1, finished: 1 })
  expect(runs).toEqual(['soon 12:01:19.000Z'])
})
