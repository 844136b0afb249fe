// What docs/schedules.md promises, in memory: schedules, their slots, and the deployments that hold them.
import type { MissedPolicy } from '../../src/job/schedule.ts'

/** A rule whose slots are the multiples of a distance, counted from the epoch on a wall clock. */
export interface ModelRule {
  readonly seconds: number
  /** Whether the wall clock is that of a zone, whose offset the releases of zone data disagree about. */
  readonly isZoned: boolean
  readonly missed: MissedPolicy
}

/** Of each release of the zone data, older ones first: how far the zone is ahead of UTC. */
export const offsetsMs = [0, 3_600_000, 1_800_000]

interface ModelSlot {
  readonly at: number
  readonly wall: number
}

interface ModelSchedule {
  readonly isInCode: boolean
  rule: ModelRule
  paused: boolean
  /** Slots up to this instant have been dealt with. */
  madeUntil: number
  /** When the next tick is to plan it. */
  planAt: number
  /** When a tick has planned it last. */
  plannedAt: number
  /** The last slot that had passed then, and those made ahead. */
  ahead: readonly ModelSlot[]
  /** The release that they were made with. */
  release: number | undefined
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
const silenceMs = 1_200_000

export class ScheduleModel {
  readonly schedules = new Map<string, ModelSchedule>()
  tasks: ModelTask[] = []
  now: number
  #holder: { readonly deployment: number; readonly seenAt: number } | undefined

  constructor(now: number) {
    this.now = now
  }

  /** A sync of the definitions in code, by the deployment of this age. */
  sync(deployment: number, definitions: ReadonlyMap<string, ModelRule>): void {
    const holder = this.#holder
    if (holder && holder.deployment > deployment && this.now - holder.seenAt < silenceMs) return
    this.#holder = { deployment, seenAt: this.now }
    for (const [name, { isInCode }] of this.schedules) {
      if (isInCode && !definitions.has(name)) this.remove(name)
    }
    for (const [name, rule] of definitions) this.put(name, rule, true)
  }

  put(name: string, rule: ModelRule, isInCode = false): void {
    const known = this.schedules.get(name)
    if (known === undefined) {
      this.schedules.set(name, {
        isInCode,
        rule,
        paused: false,
        madeUntil: this.now,
        planAt: this.now,
        plannedAt: -Infinity,
        ahead: [],
        release: undefined,
      })
    } else if (JSON.stringify(known.rule) !== JSON.stringify(rule)) {
      const first = this.#dropTasks(name)
      const madeUntil = known.paused ? known.madeUntil : Math.min(known.madeUntil, this.now, first - 1)
      Object.assign(known, { rule, madeUntil, planAt: this.now, ahead: [], release: undefined })
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

  /** A tick of a process that has this release of the zone data. */
  tick(release: number): void {
    for (const [name, schedule] of this.schedules) {
      if (schedule.paused) continue
      const isLate = this.now - schedule.planAt > lateMs
      const made = schedule.release ?? release
      if (made < release || (schedule.planAt <= this.now && (made === release || isLate))) {
        this.#plan(name, schedule, release, isLate)
      }
    }
  }

  run(): void {
    for (const task of this.tasks) if (task.dueAt <= this.now) task.status = 'finished'
  }

  #plan(name: string, schedule: ModelSchedule, release: number, isLate: boolean): void {
    const { rule, madeUntil, plannedAt } = schedule
    const stepMs = rule.seconds * 1000
    const offset = rule.isZoned ? offsetsMs[release]! : 0
    const isMovable = schedule.release !== undefined && schedule.release !== release
    const made = schedule.ahead.filter(({ at }) => at <= madeUntil)
    const passedLast = made.findLast(({ at }) => at <= this.now) ?? {
      at: Math.min(madeUntil, this.now),
      wall: -Infinity,
    }
    const coming = made.filter(({ at }) => at > this.now)
    const from = isMovable ? passedLast : { at: madeUntil, wall: -Infinity }
    const slots = (after: number, until: number): ModelSlot[] => {
      const first = Math.floor((after + offset) / stepMs) + 1
      const count = Math.max(0, Math.floor((until + offset) / stepMs) - first + 1)
      const walls = Array.from({ length: count }, (_, n) => (first + n) * stepMs)
      return walls.map((wall) => ({ at: wall - offset, wall })).filter(({ wall }) => wall > from.wall)
    }
    const passed = slots(from.at, this.now)
    const next = slots(this.now, this.now + 3 * stepMs)[0]!.at
    const future = slots(Math.max(from.at, this.now), Math.max(this.now + aheadMs, next))
    const hasMoved =
      isMovable && (passed.length > 0 || coming.some(({ at }, index) => future[index]?.at !== at))
    if (hasMoved) {
      const gone = new Set(this.#unstarted(name).filter(({ slot = 0 }) => slot > this.now))
      this.tasks = this.tasks.filter((task) => !gone.has(task))
    }
    const added = isMovable && !hasMoved ? future.slice(coming.length) : future
    const waiting = this.#unstarted(name).filter(({ slot = 0 }) => slot > plannedAt && slot <= this.now)
    const held = isLate || (rule.missed === 'once' && passed.length > 0) ? waiting : []
    // Both kinds of missed slots, in order: the latest of them run.
    const all = [...held.map(({ slot }) => slot!), ...passed.map(({ at }) => at)].toSorted((a, b) => a - b)
    const kept = new Set({ once: all.slice(-1), skip: [], all: all.slice(-100) }[rule.missed])
    this.tasks = this.tasks.filter((task) => !held.includes(task) || kept.has(task.slot!))
    for (const { at } of [...passed.filter((slot) => kept.has(slot.at)), ...added]) this.#make(name, at)
    schedule.ahead = [passed.at(-1) ?? passedLast, ...(hasMoved ? [] : coming), ...added]
    schedule.madeUntil = added.at(-1)?.at ?? madeUntil
    schedule.plannedAt = this.now
    schedule.release = rule.isZoned ? release : undefined
    const following = (Math.floor((schedule.madeUntil + offset) / stepMs) + 1) * stepMs - offset
    schedule.planAt = Math.min(schedule.madeUntil, following - aheadMs)
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
