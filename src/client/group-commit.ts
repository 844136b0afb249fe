// Single enqueues that come while others are in flight travel together in the next call (group commit): a busy process
// asks for fewer transactions, and an idle one waits for nothing.
import { AsyncResource } from 'node:async_hooks'
import { CallEnd, type CallLimits } from '../db/call-end.ts'
import { isDatabaseError, isDataRefused } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import type { PreparedTask } from '../job/prepare.ts'
import { mayWait } from '../store/enqueue.ts'
import type { Enqueued, Inserted, InsertOptions } from './insert.ts'

const { calls: mostFlights, tasks: mostTasks, bytes: mostBytes } = defaults.joining

/** Inserts all of the tasks in one statement, or none. */
type Send = (tasks: readonly PreparedTask[], options: InsertOptions) => Promise<Inserted>

/**
 * Enqueues in two lanes: tasks that nothing can hold up, and tasks with a key or an id of their own, which may wait for
 * a transaction that has the same.
 */
export class GroupCommit {
  readonly #plain: JoinedLane
  readonly #named: JoinedLane
  readonly #mayJoin: boolean
  readonly #send: Send

  /** `mayJoin` is false where a statement may belong to the transaction of its caller. */
  constructor(mayJoin: boolean, send: Send) {
    this.#mayJoin = mayJoin
    this.#send = send
    this.#plain = new JoinedLane(send)
    this.#named = new JoinedLane(send)
  }

  /** Rejects with what the database said to this task, or to all that travelled with it. */
  async insert(task: PreparedTask, limits: CallLimits): Promise<Enqueued> {
    if (this.#mayJoin) return (mayWait(task) ? this.#named : this.#plain).insert(task, limits)
    const { enqueued, woken } = await this.#send([task], limits)
    await woken
    return enqueued[0] as Enqueued
  }
}

/** One caller's enqueue. Its time goes on while it waits for others, and while it travels with them. */
class JoinedCall {
  readonly task: PreparedTask
  readonly limits: CallLimits
  /** Its key and its given id: two calls that share one would wait for each other. */
  readonly names: readonly string[]
  /** The caller has been answered. */
  isOver = false
  wasSent = false
  readonly #end: CallEnd
  readonly #resolve: (enqueued: Enqueued) => void
  readonly #reject: (error: unknown) => void

  constructor(
    task: PreparedTask,
    limits: CallLimits,
    resolve: (enqueued: Enqueued) => void,
    reject: (error: unknown) => void,
  ) {
    this.task = task
    this.limits = limits
    this.names = namesOf(task)
    this.#resolve = resolve
    this.#reject = reject
    this.#end = new CallEnd(limits, (error) => this.reject(error))
  }

  waits(reason: () => string): void {
    const refusal = this.#end.refusal()
    if (refusal === undefined) this.#end.waits(reason)
    else this.reject(refusal)
  }

  /** Joint with others; who travels alone is watched by the gate. */
  isSent(isJoint: boolean): void {
    this.wasSent = true
    if (isJoint && !this.isOver) this.#end.isSent()
    else this.#end.stop()
  }

  resolve(enqueued: Enqueued): void {
    this.#over()
    this.#resolve(enqueued)
  }

  reject(error: unknown): void {
    this.#over()
    this.#reject(error)
  }

  #over(): void {
    this.isOver = true
    this.#end.stop()
  }
}

const idPrefix = 'id '

function namesOf({ job, key, id, idWasGiven }: PreparedTask): string[] {
  return [...(key === undefined ? [] : [`key ${job} ${key}`]), ...(idWasGiven ? [idPrefix + id] : [])]
}

/** Calls of one kind: the first few go at once, the others together when one of those has ended. */
class JoinedLane {
  readonly #send: Send
  readonly #waiting: JoinedCall[] = []
  #flights = 0
  /** By each name that is in flight: the calls that wait until it has landed. */
  readonly #behind = new Map<string, JoinedCall[]>()
  /** A statement that is sent for others belongs to the context of none of them. */
  readonly #neutral = new AsyncResource('izta.joining')

  constructor(send: Send) {
    this.#send = send
  }

  insert(task: PreparedTask, limits: CallLimits): Promise<Enqueued> {
    return new Promise((resolve, reject) => {
      const call = new JoinedCall(task, limits, resolve, reject)
      this.#waiting.push(call)
      this.#sendWaiting()
      if (!call.wasSent)
        call.waits(() => 'enqueues of this process before it, of its key or many, have no answer')
    })
  }

  #sendWaiting(): void {
    while (this.#flights < mostFlights) {
      const calls = this.#takeNext()
      if (calls.length === 0) return
      this.#flights++
      void this.#sendTogether(calls).finally(() => {
        this.#flights--
        this.#neutral.runInAsyncScope(() => this.#sendWaiting())
      })
    }
  }

  /** Those that have waited longest and whose names are free. They may share keys, of which one gets each. */
  #takeNext(): JoinedCall[] {
    const taken: JoinedCall[] = []
    const ids = new Set<string>()
    let seen = 0
    let bytes = 0
    for (const call of this.#waiting) {
      bytes += Buffer.byteLength(call.task.payload)
      if (taken.length === mostTasks || (taken.length > 0 && bytes > mostBytes)) break
      seen++
      if (call.isOver) continue
      const taker = call.names.find((name) => this.#behind.has(name) || ids.has(name))
      if (taker !== undefined) {
        const others = this.#behind.get(taker)
        if (others === undefined) this.#behind.set(taker, [call])
        else others.push(call)
        continue
      }
      for (const name of call.names) if (name.startsWith(idPrefix)) ids.add(name)
      taken.push(call)
    }
    this.#waiting.splice(0, seen)
    for (const name of taken.flatMap(({ names }) => names)) {
      if (!this.#behind.has(name)) this.#behind.set(name, [])
    }
    return taken
  }

  /** Ends with the statement: wakes, which may take long, keep their callers, and nobody else. */
  async #sendTogether(calls: readonly JoinedCall[], isApart = false): Promise<void> {
    for (const call of calls) call.isSent(calls.length > 1)
    try {
      const { enqueued, woken } = await this.#send(
        calls.map(({ task }) => task),
        { ...limitsOf(calls), throwsLockTimeout: !isApart },
      )
      this.#land(calls)
      void woken.then(() => {
        for (const [index, call] of calls.entries()) call.resolve(enqueued[index] as Enqueued)
      })
    } catch (error) {
      if (calls.length > 1 && isDataRefused(error)) {
        // One of them is to blame, and nothing was stored: it is found by halves.
        const half = Math.ceil(calls.length / 2)
        await this.#sendTogether(calls.slice(0, half), isApart)
        await this.#sendTogether(calls.slice(half), isApart)
      } else if (!isApart && isHeldUp(error)) {
        this.#sendApart(calls)
      } else {
        this.#land(calls)
        for (const call of calls) call.reject(error)
      }
    }
  }

  /** Another transaction holds one of their names: each name waits for itself, and no other call waits for them. */
  #sendApart(calls: readonly JoinedCall[]): void {
    for (const alike of Map.groupBy(calls, ({ names }) => names.join('\n')).values()) {
      const open = alike.filter(({ isOver }) => !isOver)
      if (open.length === 0) this.#land(alike)
      else void this.#sendTogether(open, true)
    }
  }

  /** Lets those go that waited for the names of these calls, before others that came later. */
  #land(calls: readonly JoinedCall[]): void {
    const next: JoinedCall[] = []
    for (const name of calls.flatMap(({ names }) => names)) {
      next.push(...(this.#behind.get(name) ?? []))
      this.#behind.delete(name)
    }
    if (next.length === 0) return
    this.#waiting.unshift(...next)
    this.#neutral.runInAsyncScope(() => this.#sendWaiting())
  }
}

/** The caller's own limits, or the time of the last of several: each of them is watched by itself. */
function limitsOf(calls: readonly JoinedCall[]): Partial<CallLimits> {
  const [first, ...others] = calls
  if (first === undefined || others.length === 0) return first?.limits ?? {}
  return { untilMs: Math.max(...calls.map(({ limits }) => limits.untilMs)) }
}

/** A lock timeout, and certainly nothing was stored. */
const isHeldUp = (error: unknown) =>
  isDatabaseError(error) && error.code === 'lock-timeout' && error.outcome === 'not-applied'
