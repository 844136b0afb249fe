// Ticks beside ticks, pauses and removals of their schedule: every order of their steps, at every isolation level.
import { describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import {
  pauseScheduleStatement,
  readChangeReply,
  removeScheduleStatement,
  resumeScheduleStatement,
  triggerScheduleStatement,
} from '../../src/store/schedules.ts'
import { planStatement, readPlanned, readToPlan, toPlanStatement } from '../../src/store/slots.ts'
import { newTask } from '../store/statements.ts'
import { isolations, isolationTester, type Call, type Found } from './interleaving.ts'

const minuteMs = 60_000
const firstSlot = Date.parse('2040-01-01T00:00:00Z')

/** A tick as the scheduler sends it: what is to be planned is read first, by a statement of its own. */
async function tick(database: Database): Promise<number> {
  const [schedule] = readToPlan(await database.query(toPlanStatement(10, '', '')))
  if (schedule === undefined) return 0
  const { name, hash, madeUntil, now } = schedule
  const until = new Date(madeUntil.getTime() + 2 * minuteMs)
  const slots = [new Date(madeUntil.getTime() + minuteMs), until]
  const plan = {
    name,
    hash,
    wasMadeUntil: madeUntil,
    madeUntil: until,
    planAt: until,
    plannedAt: now,
    waitingKept: undefined,
    wasZoneVersion: undefined,
    zoneVersion: undefined,
    ahead: [],
    isReplaced: false,
    tasks: slots.map((slot) => ({ id: newTask().id, slot })),
  }
  return readPlanned(await database.query(planStatement([plan]))).get(name)?.made ?? 0
}

/** Until it met nobody, as the client does; what is left of that to a new transaction stays undone here. */
const change =
  (statement: ReturnType<typeof pauseScheduleStatement>): Call<unknown> =>
  async (database) => {
    for (let attempt = 1; attempt <= 5; attempt++) {
      const reply = readChangeReply(await database.query(statement))
      if (!reply.contended) return reply.changed
    }
    throw new Error('the schedule changes all the time')
  }

const slotsOf = (tasks: ReadonlyMap<string, Found>) =>
  [...tasks.values()].flatMap(({ slot }) => slot?.getTime() ?? []).toSorted((a, b) => a - b)

for (const isolation of isolations) {
  const { pool, run } = await isolationTester(isolation)

  async function schedule(paused = false): Promise<void> {
    await pool.query(
      `insert into izta.schedule (name, job, payload, queue, priority, max_attempts, rule, missed, overlap, hash, paused,
        made_until, plan_at, created_at, updated_at)
      values ('nightly', 'job', 'null', 'nightly', 5, 3, '{}', 'all', 'allow', '', $1, $2, now(), now(), now())`,
      [paused, new Date(firstSlot - minuteMs)],
    )
  }
  async function cursor(): Promise<number | undefined> {
    const { rows } = await pool.query<{ made_until: Date }>('select made_until from izta.schedule')
    return rows[0]?.made_until.getTime()
  }

  describe(isolation, () => {
    test('of two ticks at one slot one makes its task', async () => {
      await run({
        setup: () => schedule(),
        sessions: { one: tick, two: tick },
        async check(_, { tasks, replies }) {
          expect([replies['one'], replies['two']]).toBeOneOf([
            [0, 2],
            [2, 0],
          ])
          expect(slotsOf(tasks)).toEqual([firstSlot, firstSlot + minuteMs])
          expect(await cursor()).toBe(firstSlot + minuteMs)
        },
      })
    })

    test('of eight ticks at one slot one makes its task', async () => {
      await run({
        orders: 3,
        setup: () => schedule(),
        sessions: { a: tick, b: tick, c: tick, d: tick, e: tick, f: tick, g: tick, h: tick },
        async check(_, { tasks }) {
          expect(slotsOf(tasks)).toEqual([firstSlot, firstSlot + minuteMs])
        },
      })
    })

    test('a paused schedule has no tasks that wait, and its cursor stands before them', async () => {
      await run({
        setup: () => schedule(),
        sessions: { tick, pause: change(pauseScheduleStatement('nightly')) },
        async check(_, { tasks, replies }) {
          expect(replies['pause']).toBe(true)
          expect(slotsOf(tasks)).toEqual([])
          // No slot lies between where it stands and where the first one was.
          expect(await cursor()).toBeGreaterThanOrEqual(firstSlot - minuteMs)
          expect(await cursor()).toBeLessThan(firstSlot)
        },
      })
    })

    test('a removed schedule leaves no tasks that wait', async () => {
      await run({
        setup: () => schedule(),
        sessions: { tick, remove: change(removeScheduleStatement('nightly', undefined)) },
        async check(_, { tasks, replies }) {
          expect(replies['remove']).toBe(true)
          expect([await cursor(), slotsOf(tasks)]).toEqual([undefined, []])
        },
      })
    })

    test('a tick beside a resume makes the slots once, at the latest with the next one', async () => {
      await run({
        setup: () => schedule(true),
        sessions: { tick, resume: change(resumeScheduleStatement('nightly')) },
        async check(_, { tasks, replies }) {
          expect(replies['resume']).toBe(true)
          expect(slotsOf(tasks)).toEqual(replies['tick'] === 0 ? [] : [firstSlot, firstSlot + minuteMs])
        },
      })
    })

    test('two copies of one trigger make one task, beside a tick', async () => {
      const trigger: Call<{ id: string }> = (database, { id }) =>
        database.query(triggerScheduleStatement('nightly', id))
      await run({
        orders: 24,
        setup: async () => {
          await schedule()
          return { id: newTask().id }
        },
        sessions: { tick, trigger, copy: trigger },
        async check({ id }, { tasks }) {
          expect(tasks.get(id)).toMatchObject({ status: 'waiting', slot: null })
          expect(slotsOf(tasks)).toEqual([firstSlot, firstSlot + minuteMs])
          expect(tasks.size).toBe(3)
        },
      })
    })
  })
}
