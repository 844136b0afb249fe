// Moves of the model of schedules: calls by several clients, ticks, outages, deployments, releases of zone data.
import { createIzta, defineJob, defineSchedule, IztaError, type Izta, type Schedule } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import * as fc from 'fast-check'
import { expect } from 'vitest'
import { configOf } from '../../src/config.ts'
import type { Database } from '../../src/db/database.ts'
import type { ZoneData } from '../../src/job/zones.ts'
import { planSchedules } from '../../src/scheduler/plan.ts'
import { syncDefinitions } from '../../src/scheduler/sync.ts'
import type { TestDatabase } from '../support/database.ts'
import { offsetsMs, ScheduleModel, type ModelRule } from './schedule-model.ts'

const timeZone = 'Africa/Casablanca'
const releases: readonly ZoneData[] = offsetsMs.map((offset, index) => ({
  version: `20${30 + index}a`,
  offsetAt: () => offset,
}))

const twoHourly = '0 0,2,4,6,8,10,12,14,16,18,20,22 * * *'
const missed = fc.constantFrom('once', 'skip', 'all')
const rule: fc.Arbitrary<ModelRule> = fc.oneof(
  fc.record({ seconds: fc.constantFrom(60, 100, 3600), isZoned: fc.constant(false), missed }),
  fc.record({ seconds: fc.constant(7200), isZoned: fc.constant(true), missed }),
)

/** What the code of each deployment defines, the oldest first. */
const deployments: readonly ReadonlyMap<string, ModelRule>[] = [60, 7200, 100].map(
  (seconds, index) =>
    new Map<string, ModelRule>([
      ['coded', { seconds, isZoned: seconds === 7200, missed: 'once' }],
      [`coded-${index}`, { seconds: 3600, isZoned: false, missed: 'all' }],
    ]),
)

const dynamicName = fc.constantFrom('one', 'one', 'one', 'two')
export const scheduleMove = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('put' as const), name: dynamicName, rule }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom('pause', 'resume', 'resume', 'trigger'),
      name: fc.oneof(dynamicName, fc.constantFrom('coded', 'coded-0')),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), name: dynamicName }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('deploy' as const),
      deployment: fc.integer({ min: 0, max: deployments.length - 1 }),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('tick' as const),
      atOnce: fc.integer({ min: 1, max: 3 }),
      release: fc.integer({ min: 0, max: releases.length - 1 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('run' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('reach' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      // The last ones are outages of everything, if no tick comes in between.
      seconds: fc.constantFrom(0.5, 1, 30, 59, 60, 120, 360, 361, 1200, 3600, 12_000, 86_400),
    }),
  },
)
export type ScheduleMove = typeof scheduleMove extends fc.Arbitrary<infer T> ? T : never

const log = { debug() {}, info() {}, warn() {}, error() {} }
const job = defineJob({ id: 'job', run: () => {} })

function scheduleOf(name: string, { seconds, isZoned, missed: policy }: ModelRule): Schedule {
  return isZoned
    ? defineSchedule({ name, job, cron: twoHourly, timeZone, missed: policy })
    : defineSchedule({ name, job, every: { seconds }, missed: policy })
}

/** Follows sequences of moves in a database and in the model, and compares them after each. */
export async function scheduleFollower({ database: own, pool }: TestDatabase) {
  const clock = await createTestClock({ database: own, at: new Date('2030-01-01T00:00:00.400Z') })

  /** One sequence, each move sent by another client than the one before. `database` may be broken on purpose. */
  return async function follow(moves: readonly ScheduleMove[], database: Database = own): Promise<void> {
    await pool.query('truncate izta.task, izta.history, izta.schedule, izta.queue, izta.app')
    const clients = Array.from({ length: 3 }, () => createIzta({ database, jobs: [job], clock, log }))
    const deployed = deployments.map((definitions, index) =>
      createIzta({
        database,
        jobs: [job],
        schedules: [...definitions].map(([name, each]) => scheduleOf(name, each)),
        deployedAt: new Date(Date.UTC(2029, 0, index + 1)),
        clock,
        log,
      }),
    )
    const model = new ScheduleModel(clock.date.getTime())
    for (const [index, move] of moves.entries()) {
      const izta = clients[index % clients.length]!
      switch (move.do) {
        case 'put':
          await izta.schedules.put(scheduleOf(move.name, move.rule))
          model.put(move.name, move.rule)
          break
        case 'pause':
        case 'resume':
        case 'trigger': {
          const call = izta.schedules[move.do](move.name)
          if (model.schedules.has(move.name)) await call
          else
            await expect(call).rejects.toSatisfy(
              (error) => IztaError.is(error) && error.code === 'schedule-not-found',
            )
          model[move.do](move.name)
          break
        }
        case 'remove':
          expect(await izta.schedules.remove(move.name)).toBe(model.remove(move.name))
          break
        case 'deploy':
          await syncDefinitions(configOf(deployed[move.deployment]!))
          model.sync(move.deployment, deployments[move.deployment]!)
          break
        case 'tick': {
          const ticking = clients.slice(0, move.atOnce)
          await Promise.all(ticking.map((client) => planSchedules(configOf(client), releases[move.release])))
          model.tick(move.release)
          break
        }
        case 'run':
          await drain(izta)
          model.run()
          break
        case 'reach': {
          // The instant at which some schedule is to be planned next, mostly that of a slot.
          const next = Math.min(
            ...[...model.schedules.values()].map(({ planAt }) => planAt).filter((at) => at > model.now),
          )
          if (next !== Infinity) await clock.advanceTo(new Date(next))
          model.now = clock.date.getTime()
          break
        }
        case 'wait':
          await clock.advance({ milliseconds: move.seconds * 1000 })
          model.now = clock.date.getTime()
          break
      }
      await compare(izta, model)
    }
  }
}

async function compare(izta: Izta, model: ScheduleModel): Promise<void> {
  const [schedules, tasks] = await Promise.all([
    izta.schedules.list(),
    Array.fromAsync(izta.list({ pageSize: 1000 })),
  ])
  const stored = schedules.map(({ name, rule: storedRule, missed: policy, paused, nextSlotAt }) => ({
    name,
    rule: storedRule,
    missed: policy,
    paused,
    nextSlotAt,
  }))
  expect(stored).toEqual(
    [...model.schedules]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { rule: given, paused }]) => {
        const coming = model.tasks.filter(({ schedule, slot = 0 }) => schedule === name && slot > model.now)
        const next = Math.min(...coming.map(({ dueAt }) => dueAt))
        const nextSlotAt = next === Infinity ? undefined : new Date(next)
        return { name, rule: scheduleOf(name, given).rule, missed: given.missed, paused, nextSlotAt }
      }),
  )
  const known = tasks.map(({ schedule, slot, dueAt, status }) => ({
    schedule,
    slot: slot?.getTime(),
    dueAt: dueAt.getTime(),
    status,
  }))
  expect(sorted(known)).toEqual(sorted(model.tasks))
}

const sorted = (tasks: readonly object[]) => tasks.map((task) => JSON.stringify(task)).toSorted()
