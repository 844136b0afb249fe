// After an outage of everything the policy for missed slots holds for those that had their tasks already.
import { createIzta, defineJob, defineSchedule, startRunner, type Schedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { defaults } from '../../src/defaults.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { claim, newLease, onConnection, outcome, pidOf, settle, untilBlockedBy } from '../store/statements.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, connect } = await testDatabase()
const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
const log = { debug() {}, info() {}, warn() {}, error() {} }
const ran: number[] = []
let start = clock.date.getTime()
const job = defineJob({
  id: 'job',
  run: (_, ctx) => void ran.push(((ctx.task.slot?.getTime() ?? NaN) - start) / 60_000),
})

type Missed = 'once' | 'skip' | 'all'
const every = (minutes: number, missed: Missed) =>
  defineSchedule({ name: 'schedule', job, every: { minutes }, missed })
// Repeats of a statement pause in real time: only the database's clock is moved.
const make = (...schedules: Schedule[]) => {
  const izta = createIzta({ database, jobs: [job], schedules, log })
  const dropped: number[] = []
  izta.on('schedule.planned', (event) => dropped.push(event.dropped))
  return Object.assign(izta, { tick: () => tick(configOf(izta)), dropped })
}
async function waiting(): Promise<number[]> {
  const { rows } = await pool.query<{ slot: Date }>('select slot from izta.task order by slot')
  return rows.map(({ slot }) => (slot.getTime() - start) / 60_000)
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.schedule, izta.app, izta.queue')
  await clock.advanceTo(new Date(Math.ceil((clock.date.getTime() + 1) / 86_400_000) * 86_400_000))
  start = clock.date.getTime()
  ran.length = 0
})

const hours = Array.from({ length: 24 }, (_, hour) => (hour + 1) * 60)
const lateMinutes = defaults.schedule.lateSeconds / 60

describe('an outage of everything', () => {
  test.for<[Missed, number[], number]>([
    ['once', [1440], 23],
    ['skip', [], 24],
    ['all', hours, 0],
  ])('of a day, %s: an hourly schedule runs %j', async ([missed, expected, dropped]) => {
    const app = make(every(60, missed))
    await app.tick()
    expect(await waiting()).toEqual([60])
    await clock.advance({ days: 1, minutes: 1 })
    await app.tick()
    await drain(app)
    expect(ran).toEqual(expected)
    expect(app.dropped.at(-1)).toBe(dropped)
    expect(await waiting()).toEqual([1500])
  })

  test('leaves at most a hundred under "all", those made ahead counted', async () => {
    const app = make(every(1, 'all'))
    await app.tick()
    expect(await waiting()).toEqual([1, 2])
    await clock.advance({ minutes: 101, seconds: 30 })
    await app.tick()
    await drain(app)
    expect(ran).toEqual(Array.from({ length: 100 }, (_, index) => index + 2))
    expect(app.dropped.at(-1)).toBe(1)
  })

  test.for<[Missed, number[]]>([
    ['once', [1440]],
    ['skip', []],
    ['all', [1440]],
  ])('in which only a slot made ahead passed, %s', async ([missed, expected]) => {
    const app = make(every(1440, missed))
    await app.tick()
    await clock.advance({ days: 1, hours: 3 })
    await app.tick()
    await drain(app)
    expect(ran).toEqual(expected)
    expect(app.dropped.at(-1)).toBe(missed === 'skip' ? 1 : 0)
  })

  test('of a few minutes makes nothing late: under "skip" the slot runs, and not after that', async () => {
    const app = make(every(60, 'skip'))
    await app.tick()
    await clock.advance({ minutes: 60 + lateMinutes })
    await app.tick()
    await drain(app)
    expect(ran).toEqual([60])
    await clock.advance({ minutes: 60, milliseconds: 1 })
    await app.tick()
    await drain(app)
    expect(ran).toEqual([60])
  })

  test('makes one task of several slots under "once", however short it was', async () => {
    const app = make(every(1, 'once'))
    await app.tick()
    await clock.advance({ minutes: 3, seconds: 10 })
    await app.tick()
    await drain(app)
    expect(ran).toEqual([3])
  })

  test('takes nothing that has started', async () => {
    const app = make(every(60, 'skip'))
    await app.tick()
    await clock.advance({ hours: 1 })
    const lease = newLease()
    const [running] = await claim(database, 1, { lease })
    await clock.advance({ hours: 5 })
    await app.tick()
    expect(await waiting()).toEqual([60, 420])
    expect((await settle(database, lease, [outcome(running!, 'finish')])).unsettled).toEqual([])
  })

  test('and a runner that claims at the same moment: the task runs or goes, and is not torn from its runner', async () => {
    const app = make(every(60, 'skip'))
    await app.tick()
    await clock.advance({ hours: 5 })
    const claiming = await connect()
    await claiming.query('begin')
    const lease = newLease()
    const [running] = await claim(onConnection(claiming), 1, { lease })
    const ticking = app.tick()
    await untilBlockedBy(pool, await pidOf(claiming))
    await claiming.query('commit')
    await ticking
    expect(await waiting()).toEqual([60, 360])
    expect((await settle(database, lease, [outcome(running!, 'finish')])).unsettled).toEqual([])
  })
})

describe('without an outage', () => {
  test.for<Missed>(['once', 'skip', 'all'])('%s: tasks that wait in a paused queue stay', async (missed) => {
    const app = make(every(60, missed))
    await app.tick()
    await app.queues.pause('default')
    for (let minute = 0; minute < 300; minute += 5) {
      await clock.advance({ minutes: 5 })
      await app.tick()
    }
    expect(await waiting()).toEqual([60, 120, 180, 240, 300, 360])
  })

  test('one that comes later leaves those alone that waited before it', async () => {
    const app = make(every(60, 'skip'))
    await app.tick()
    await app.queues.pause('default')
    for (let minute = 0; minute < 120; minute += 5) {
      await clock.advance({ minutes: 5 })
      await app.tick()
    }
    expect(await waiting()).toEqual([60, 120, 180])
    await clock.advance({ hours: 3 })
    await app.tick()
    expect(await waiting()).toEqual([60, 120, 360])
  })
})

test('a server that starts again after an outage decides about late slots before it claims', async () => {
  await make(every(60, 'skip')).tick()
  await clock.advance({ hours: 5 })
  const app = make(every(60, 'skip'))
  await using runner = startRunner(app, { scheduler: true })
  await new Promise<void>((resolve) => {
    app.on('tick.completed', () => resolve())
  })
  await runner.stop()
  expect(ran).toEqual([])
  expect(await waiting()).toEqual([360])
})
