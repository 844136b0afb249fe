// Random sequences of schedule calls, ticks and pauses by several clients, compared after each with a model in memory.
import { createIzta, defineJob, defineSchedule, IztaError, type Izta } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { testDatabase } from '../support/database.ts'
import { followAll, timeoutMs } from './sequences.ts'

type Missed = 'once' | 'skip' | 'all'

interface ModelSchedule {
  seconds: number
  missed: Missed
  paused: boolean
  /** Slots up to this instant have been dealt with. */
  madeUntil: number
  /** When the next tick is to plan it. */
  planAt: number
  /** When a tick has planned it last. */
  plannedAt: number
}

interface ModelTask {
  readonly schedule: string
  /** Undefined for one that was triggered. */
  readonly slot: number | undefined
  readonly dueAt: number
  status: 'pending' | 'finished'
}

const aheadMs = 120_000
const lateMs = 360_000

/** What docs/schedules.md promises, for rules of `every`, whose slots are counted from the epoch. */
class Model {
  readonly schedules = new Map<string, ModelSchedule>()
  tasks: ModelTask[] = []
  now: number

  constructor(now: number) {
    this.now = now
  }

  put(name: string, seconds: number, missed: Missed): void {
    const known = this.schedules.get(name)
    if (known === undefined) {
      this.schedules.set(name, {
        seconds,
        missed,
        paused: false,
        madeUntil: this.now,
        planAt: this.now,
        plannedAt: -Infinity,
      })
    } else if (known.seconds !== seconds || known.missed !== missed) {
      const first = this.#dropTasks(name)
      const madeUntil = known.paused ? known.madeUntil : Math.min(known.madeUntil, this.now, first - 1)
      Object.assign(known, { seconds, missed, madeUntil, planAt: this.now })
    }
  }

  pause(name: string): void {
    const known = this.schedules.get(name)
    if (known === undefined || known.paused) return
    const first = this.#dropTasks(name)
    Object.assign(known, { paused: true, madeUntil: first === Infinity ? known.madeUntil : first - 1 })
  }

  resume(name: string): void {
    const known = this.schedules.get(name)
    if (known?.paused === true) Object.assign(known, { paused: false, planAt: this.now })
  }

  remove(name: string): boolean {
    if (this.schedules.has(name)) this.#dropTasks(name)
    return this.schedules.delete(name)
  }

  trigger(name: string): void {
    if (this.schedules.has(name)) this.#make(name, undefined)
  }

  tick(): void {
    for (const [name, schedule] of this.schedules) {
      if (schedule.paused) continue
      const { madeUntil, missed, planAt, plannedAt } = schedule
      if (planAt > this.now) continue
      const stepMs = schedule.seconds * 1000
      const between = (after: number, until: number) => {
        const first = Math.floor(after / stepMs) + 1
        const count = Math.max(0, Math.floor(until / stepMs) - first + 1)
        return Array.from({ length: count }, (_, n) => (first + n) * stepMs)
      }
      const passed = between(madeUntil, this.now)
      const next = (Math.floor(this.now / stepMs) + 1) * stepMs
      const coming = between(Math.max(madeUntil, this.now), Math.max(this.now + aheadMs, next))
      const waiting = this.#unstarted(name).filter(({ slot = 0 }) => slot > plannedAt && slot <= this.now)
      const isOutage = this.now - planAt > lateMs
      const held = isOutage || (missed === 'once' && passed.length > 0) ? waiting : []
      // Both kinds of missed slots, in order: the latest of them run.
      const all = [...held.map(({ slot }) => slot!), ...passed].toSorted((a, b) => a - b)
      const kept = new Set({ once: all.slice(-1), skip: [], all: all.slice(-100) }[missed])
      this.tasks = this.tasks.filter((task) => !held.includes(task) || kept.has(task.slot!))
      for (const slot of [...passed.filter((at) => kept.has(at)), ...coming]) this.#make(name, slot)
      schedule.madeUntil = coming.at(-1) ?? madeUntil
      schedule.plannedAt = this.now
      const following = (Math.floor(schedule.madeUntil / stepMs) + 1) * stepMs
      schedule.planAt = Math.min(schedule.madeUntil, following - aheadMs)
    }
  }

  run(): void {
    for (const task of this.tasks) if (task.dueAt <= this.now) task.status = 'finished'
  }

  #make(schedule: string, slot: number | undefined): void {
    this.tasks.push({ schedule, slot, dueAt: slot ?? this.now, status: 'pending' })
  }

  /** Triggered ones were asked for, and are not counted. */
  #unstarted(name: string): ModelTask[] {
    return this.tasks.filter(
      (task) => task.schedule === name && task.slot !== undefined && task.status === 'pending',
    )
  }

  /** Those that have not started go; returns the first slot of them. */
  #dropTasks(name: string): number {
    const gone = this.#unstarted(name)
    this.tasks = this.tasks.filter((task) => !gone.includes(task))
    return Math.min(...gone.map(({ dueAt }) => dueAt))
  }
}

const someName = fc.constantFrom('one', 'one', 'one', 'two')
const command = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('put' as const),
      name: someName,
      seconds: fc.constantFrom(60, 100, 3600),
      missed: fc.constantFrom<Missed>('once', 'skip', 'all'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('pause', 'resume', 'resume', 'trigger', 'remove'),
      name: someName,
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constant('tick' as const), atOnce: fc.integer({ min: 1, max: 3 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('run' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      seconds: fc.constantFrom(0.5, 1, 30, 59, 60, 120, 360, 1000, 12_000, 86_400),
    }),
  },
)
type Command = typeof command extends fc.Arbitrary<infer T> ? T : never

const log = { debug() {}, info() {}, warn() {}, error() {} }
const { database, pool } = await testDatabase()
const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00.400Z') })
const job = defineJob({ id: 'job', run: () => {} })

/** One sequence of commands, each sent by another client than the one before. */
async function follow(commands: readonly Command[]): Promise<void> {
  await pool.query('truncate izta.task, izta.history, izta.schedule, izta.queue')
  const clients = Array.from({ length: 3 }, () => createIzta({ database, jobs: [job], clock, log }))
  const model = new Model(clock.date.getTime())
  for (const [index, step] of commands.entries()) {
    const izta = clients[index % clients.length]!
    switch (step.do) {
      case 'put': {
        const { name, seconds, missed } = step
        await izta.schedules.put(defineSchedule({ name, job, every: { seconds }, missed }))
        model.put(name, seconds, missed)
        break
      }
      case 'pause':
      case 'resume':
      case 'trigger': {
        const call = izta.schedules[step.do](step.name)
        if (model.schedules.has(step.name)) await call
        else
          await expect(call).rejects.toSatisfy(
            (error) => IztaError.is(error) && error.code === 'schedule-not-found',
          )
        model[step.do](step.name)
        break
      }
      case 'remove':
        expect(await izta.schedules.remove(step.name)).toBe(model.remove(step.name))
        break
      case 'tick':
        await Promise.all(clients.slice(0, step.atOnce).map((client) => tick(configOf(client))))
        model.tick()
        break
      case 'run':
        await drain(izta)
        model.run()
        break
      case 'wait':
        await clock.advance({ milliseconds: step.seconds * 1000 })
        model.now = clock.date.getTime()
        break
    }
    await compare(izta, model)
  }
}

async function compare(izta: Izta, model: Model): Promise<void> {
  const [schedules, tasks] = await Promise.all([
    izta.schedules.list(),
    Array.fromAsync(izta.list({ pageSize: 1000 })),
  ])
  expect(
    schedules.map(({ name, rule, missed, paused, nextSlotAt }) => ({
      name,
      rule,
      missed,
      paused,
      nextSlotAt,
    })),
  ).toEqual(
    [...model.schedules]
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { seconds, missed, paused }]) => {
        const coming = model.tasks.filter(({ schedule, slot = 0 }) => schedule === name && slot > model.now)
        const next = Math.min(...coming.map(({ dueAt }) => dueAt))
        const nextSlotAt = next === Infinity ? undefined : new Date(next)
        return { name, rule: { type: 'every', seconds }, missed, paused, nextSlotAt }
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

test(
  'whatever is asked of schedules, each slot has one task or none, as the model says',
  () => followAll(command, { maxLength: 30, runs: 60 }, follow),
  timeoutMs,
)
