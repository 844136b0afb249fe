// Wakes: hints that start a runner now or at an instant. Losing or repeating any of them costs time, never a task.
import type { Logger } from '../observe/log.ts'
import type { Events } from '../observe/events.ts'
import { readableMessage } from '../errors.ts'

/** Every queue: what a runner of all queues wakes its successor with. */
export const anyQueue = '*'

/** Starts runners. Implemented by the AWS adapters, the local stack and in-process runners. */
export interface Wake {
  /**
   * Starts a runner of this queue now. `hops` counts runners that started each other without a trigger from
   * outside in between.
   */
  wake(queue: string, hops: number): Promise<void> | void
  /** Sees that what is due at the instant starts then, for which no alarm is set yet. */
  wakeAt?(instant: Date): Promise<void> | void
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

/** All sinks of one izta instance. */
export interface Wakes {
  /** Waits until each sink has taken the wake or failed; a failure is logged. */
  wake(queues: readonly string[], hops?: number): Promise<void>
  wakeAt(instant: Date | undefined): Promise<void>
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

  return {
    async wake(queues, hops = 0) {
      const pairs = queues.flatMap((queue) => [...sinks].map((sink) => ({ queue, sink })))
      await sendAll(pairs.map(({ queue, sink }) => deliver(queue, () => sink.wake(queue, hops))))
    },
    async wakeAt(instant) {
      if (instant === undefined) return
      const able = [...sinks].filter((sink) => sink.wakeAt !== undefined)
      await sendAll(able.map((sink) => deliver(anyQueue, () => sink.wakeAt?.(instant))))
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
