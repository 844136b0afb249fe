// Slots become tasks exactly once, whatever ticks run at once, and after any outage.
import { createIzta, defineJob, defineSchedule, type Schedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { testDatabase } from '../support/database.ts'

for (const isolation of ['read committed', 'repeatable read'] as const) {
  const { database, pool } = await testDatabase({ isolation })
  const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
  const logged: { message: string; [fact: string]: unknown }[] = []
  const note = (message: string, facts?: object) => void logged.push({ ...facts, message })
  const log = { debug: note, info: note, warn: note, error: note }
  const job = defineJob({ id: 'job', run: () => {} })

  // Repeats of a statement pause in real time: only the database's clock is moved.
  const make = (...schedules: Schedule[]) => {
    const izta = createIzta({ database, jobs: [job], schedules, log })
    return Object.assign(izta, { tick: () => tick(configOf(izta)) })
  }
  const every = (minutes: number, options: Partial<Parameters<typeof defineSchedule>[0]> = {}) =>
    defineSchedule({ name: 'schedule', job, every: { minutes }, ...options } as never)

  /** Every slot that has a task, ended ones included, as minutes since the start. */
  let start = clock.date.getTime()
  async function slots(name = 'schedule'): Promise<number[]> {
    const { rows } = await pool.query<{ slot: Date }>(
      `select slot from izta.task where schedule = $1 and slot is not null
      union all select slot from izta.history where schedule = $1 and slot is not null order by slot`,
      [name],
    )
    return rows.map(({ slot }) => (slot.getTime() - start) / 60_000)
  }

  beforeEach(async () => {
    await pool.query('truncate izta.task, izta.history, izta.schedule, izta.app, izta.queue')
    // A whole day, so that slots are round.
    await clock.advanceTo(new Date(Math.ceil((clock.date.getTime() + 1) / 86_400_000) * 86_400_000))
    start = clock.date.getTime()
    logged.length = 0
  })

  describe(isolation, () => {
    test('eight ticks at once make each slot once', async () => {
      const apps = Array.from({ length: 8 }, () => make(every(10, { missed: 'all' })))
      for (let round = 0; round < 4; round++) {
        const summaries = await Promise.all(apps.map((app) => app.tick()))
        expect(summaries.reduce((sum, { made }) => sum + made, 0)).toBe(round === 0 ? 1 : 3)
        await clock.advance({ minutes: 30 })
      }
      // The last tick was at 90.
      expect(await slots()).toEqual([10, 20, 30, 40, 50, 60, 70, 80, 90, 100])
    })

    test('ticks, changes of the definition and pauses at once neither double nor leave a slot', async () => {
      const definitions = [every(10, { missed: 'all' }), every(10, { missed: 'all', priority: 1 })]
      const [one, two] = definitions.map((definition) => make(definition))
      await one!.migrate()
      for (let round = 0; round < 6; round++) {
        const app = round % 2 === 0 ? two! : one!
        await Promise.all([
          ...Array.from({ length: 4 }, () => one!.tick()),
          app.migrate(),
          app.schedules.pause('schedule').then(() => app.schedules.resume('schedule')),
          app.migrate(),
        ])
        await two!.tick()
        await drain(two!)
        await clock.advance({ minutes: 20 })
      }
      await two!.tick()
      await drain(two!)
      const all = await slots()
      expect(all).toEqual([...new Set(all)])
      expect(all).toEqual(Array.from({ length: 13 }, (_, index) => (index + 1) * 10))
    })
  })

  if (isolation !== 'read committed') continue

  describe('one at a time', () => {
    test('a slot has its task ahead of time, due at the slot', async () => {
      const app = make(every(60))
      await app.tick()
      const { rows } = await pool.query('select run_at, due_at, slot from izta.task')
      const slot = new Date(start + 3_600_000)
      expect(rows).toEqual([{ run_at: slot, due_at: slot, slot }])
    })

    test.for([
      ['once', [60, 70]],
      ['skip', [70]],
      ['all', [10, 20, 30, 40, 50, 60, 70]],
    ] as const)('after an outage, missed: %s', async ([missed, expected]) => {
      const app = make(every(10, { missed }))
      await app.tick()
      await clock.advance({ minutes: 65 })
      await app.tick()
      expect(await slots()).toEqual(expected)
      expect((await app.tick()).made).toBe(0)
    })

    test('an outage of thousands of slots makes at most 100 tasks, of the latest, and says that others make none', async () => {
      const app = make(every(1, { missed: 'all' }))
      const planned: { tasks: number; dropped: number }[] = []
      app.on('schedule.planned', (event) => planned.push(event))
      await app.tick()
      await clock.advance({ days: 7 })
      await app.tick()
      const ended = 7 * 1440
      const late = (await slots()).filter((slot) => slot > 2 && slot <= ended)
      expect(late).toEqual(Array.from({ length: 100 }, (_, index) => ended - 99 + index))
      expect(planned.at(-1)?.dropped).toBeGreaterThan(0)
      expect(logged).toContainEqual(expect.objectContaining({ schedule: 'schedule', missed: 'all' }))
    })

    test('only the tick that plans speaks of dropped slots', async () => {
      const apps = Array.from({ length: 4 }, () => make(every(10, { missed: 'skip' })))
      const dropped: number[] = []
      for (const app of apps) app.on('schedule.planned', (event) => dropped.push(event.dropped))
      await apps[0]!.tick()
      await clock.advance({ minutes: 55 })
      dropped.length = 0
      await Promise.all(apps.map((app) => app.tick()))
      expect(dropped).toEqual([5])
    })

    test('more schedules than one page holds are all planned', async () => {
      const many = Array.from({ length: 1100 }, (_, index) => every(60, { name: `s-${index}` }))
      const app = make(...many)
      expect((await app.tick()).made).toBe(1100)
      expect((await app.tick()).made).toBe(0)
    })

    test('stored rules that cannot be read do not stop the others, however many there are', async () => {
      const app = make(
        every(60),
        ...Array.from({ length: 510 }, (_, index) => every(60, { name: `a-${index}` })),
      )
      await app.migrate()
      await pool.query(
        `update izta.schedule set rule = '{"type":"moon"}', plan_at = '-infinity' where name like 'a-%'`,
      )
      expect((await app.tick()).made).toBe(1)
      expect(await slots()).toEqual([60])
      expect(logged.filter(({ message }) => message === 'a schedule could not be planned')).toHaveLength(510)
    })

    test('preview tells what happens', async () => {
      const app = make(
        defineSchedule({ name: 'schedule', job, cron: '*/7 3,4 * * *', timeZone: 'Europe/Berlin' }),
      )
      await app.migrate()
      const preview = await app.schedules.preview('schedule', 18)
      await clock.advance({ minutes: 118 })
      for (let minute = 118; minute < 240; minute++) {
        await app.tick()
        await clock.advance({ minutes: 1 })
      }
      const made = (await slots()).filter((slot) => slot < 240)
      expect(made).toEqual(preview.map((slot) => (slot.getTime() - start) / 60_000))
      expect(made[0]).toBe(120)
    })

    test("with overlap: 'skip' the tasks of all slots carry the mark that the runner looks at", async () => {
      const app = make(every(10, { overlap: 'skip', missed: 'all' }))
      await app.tick()
      await clock.advance({ minutes: 25 })
      await app.tick()
      const { rows } = await pool.query('select distinct skip_overlap from izta.task')
      expect(rows).toEqual([{ skip_overlap: true }])
      expect(await slots()).toEqual([10, 20, 30])
    })

    test('the queue of a schedule is known to runners of all queues, and due slots wake it', async () => {
      const woken: string[] = []
      const izta = createIzta({
        database,
        jobs: [job],
        schedules: [every(10, { queue: 'slots' })],
        log,
        wake: { wake: (queue) => void woken.push(queue) },
      })
      await tick(configOf(izta))
      expect(woken).toEqual([])
      await clock.advance({ minutes: 10 })
      await tick(configOf(izta))
      expect(woken).toEqual(['slots'])
      expect(await drain(izta)).toMatchObject({ finished: 1 })
    })

    test('each tick finds queues that only statements inside transactions have used', async () => {
      const app = make()
      await app.tick()
      const { text, values } = app.enqueueStatement(job, undefined, { queue: 'hidden' })
      await pool.query(text, values)
      await app.tick()
      expect(await drain(app)).toMatchObject({ finished: 1 })
    })
  })
}
