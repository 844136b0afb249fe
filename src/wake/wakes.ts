// Wakes: hints that start a runner now or at an instant. Losing or repeating any of them costs time, never a task.
import type { Logger } from '../observe/log.ts'
import type { Events } from '../observe/events.ts'
import { defaults } from '../defaults.ts'
import { readableMessage } from '../errors.ts'

/** Every queue: what a runner of all queues wakes its successor with. */
export const anyQueue = '*'

/** Starts runners. Implemented by the AWS adapters, the local stack and in-process runners. */
export interface Wake {
  /**
   * Starts a runner of this queue now. `hops` counts runners that started each other for the same work; 0 is for new
   * work, which begins a chain of its own.
   */
  wake(queue: string, hops: number): Promise<void> | void
  /** Makes sure that a runner starts at the instant, for which no alarm is set yet. `hops` as above. */
  wakeAt?(instant: Date, hops: number): Promise<void> | void
  /**
   * Hears wakes that other processes send, for `startRunner`: calls `onWake` with the queue of each, and with `'*'` when
   * some may have been missed. What it returns ends that, and resolves when nothing is heard any more. It neither
   * throws nor gives up: the runner polls beside it.
   */
  listen?(onWake: (queue: string) => void, log: Logger): () => Promise<void>
}

/** Starts the scheduler at an instant, once, while nothing else runs. Implemented by the AWS adapter. */
export interface Alarm {
  /** Resolves when the alarm is set, or was set already; rejects when it could not be. `at` is a full minute. */
  set(at: Date): Promise<void>
}

/**
 * All sinks of one izta instance, and the gate that every wake goes through. Lambda stops a chain of functions that
 * invoke each other at 16 and drops what comes then. So each wake says why it is sent: new work begins a chain, whoever
 * made it, and runners that start each other for the same work stay below the limit.
 */
export interface Wakes {
  /** For new work. Waits until each sink has taken the wake or failed; a failure is logged. */
  wake(queues: readonly string[]): Promise<void>
  /**
   * For work that the runner or tick with these `hops` leaves behind; an empty list is all queues. Nothing is sent when
   * the chain is used up: the next tick or alarm begins another.
   */
  wakeNext(queues: readonly string[], hops: number): Promise<void>
  /** Makes sure that somebody looks at the instant. Without `hops` it is for new work. */
  wakeAt(instant: Date | undefined, hops?: number): Promise<void>
  subscribe(sink: Wake): () => void
  /** Hears wakes of other processes, where the configured wake can; returns what ends that. */
  listen(onWake: (queue: string) => void): () => Promise<void>
  /** Waits until every wake sent so far has been taken or has failed: a function freezes when its handler returns. */
  settled(): Promise<void>
}

export function createWakes(configured: Wake | undefined, events: Events, log: Logger): Wakes {
  const sinks = new Set<Wake>(configured === undefined ? [] : [configured])
  const onTheirWay = new Set<Promise<void>>()

  async function deliver(queue: string, wake: () => Promise<void> | void): Promise<void> {
    try {
      await wake()
      events.emit('wake.sent', { queue })
    } catch (error) {
      const message = readableMessage(error)
      log.warn('a wake failed: its tasks start with the next trigger', { queue, error: message })
      events.emit('wake.failed', { queue, message })
    }
  }

  async function sendAll(deliveries: readonly Promise<void>[]): Promise<void> {
    const sending = Promise.all(deliveries).then(() => {})
    onTheirWay.add(sending)
    await sending
    onTheirWay.delete(sending)
  }

  function send(queues: readonly string[], hops: number): Promise<void> {
    const pairs = queues.flatMap((queue) => [...sinks].map((sink) => ({ queue, sink })))
    return sendAll(pairs.map(({ queue, sink }) => deliver(queue, () => sink.wake(queue, hops))))
  }

  return {
    wake: (queues) => send(queues, 0),
    async wakeNext(queues, hops) {
      if (hops >= defaults.runner.maxHops) return
      // Other runners may serve some of the queues too, hence a wake for each.
      await send(queues.length > 0 ? queues : [anyQueue], hops + 1)
    },
    async wakeAt(instant, hops) {
      if (instant === undefined) return
      const next = hops === undefined ? 0 : hops + 1
      const able = [...sinks].filter((sink) => sink.wakeAt !== undefined)
      await sendAll(able.map((sink) => deliver(anyQueue, () => sink.wakeAt?.(instant, next))))
    },
    subscribe(sink) {
      sinks.add(sink)
      return () => sinks.delete(sink)
    },
    listen: (onWake) => configured?.listen?.(onWake, log) ?? (() => Promise.resolve()),
    async settled() {
      while (onTheirWay.size > 0) await Promise.all(onTheirWay)
    },
  }
}
