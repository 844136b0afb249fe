// Changes queues: pause, resume and wake.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { OptionError } from '../errors.ts'
import { namePattern, nameRule, showValue } from '../options.ts'
import {
  listQueuesStatement,
  readNames,
  readQueues,
  setQueuePausedStatement,
  wakeQueueStatement,
  type QueueInfo,
} from '../store/queues.ts'

export interface QueueChanges {
  /** Each throws an `OptionError` when the name is none. */
  readonly queues: {
    /** Every queue, by name. */
    list(): Promise<QueueInfo[]>
    /** Nothing of the queue is claimed any more; running tasks end. Enqueues and schedules go on. */
    pause(name: string): Promise<void>
    /** Claims again, and wakes a runner. */
    resume(name: string): Promise<void>
  }
  /**
   * Wakes a runner of the queue, at most once a second: after the commit of an enqueueStatement.
   *
   * @throws {OptionError} when the name is none.
   */
  wake(queue: string): Promise<void>
}

/** Marks the queue as woken and wakes a runner of it, unless that has just been done. */
export async function wakeQueue(config: ResolvedConfig, queue: string): Promise<void> {
  await config.wakes.wake(readNames(await runStatement(config, wakeQueueStatement(queue))))
}

export function createQueueChanges(config: ResolvedConfig): QueueChanges {
  return {
    queues: {
      list: async () => readQueues(await runStatement(config, listQueuesStatement)),
      async pause(name) {
        checkQueue('queues.pause', name)
        await runStatement(config, setQueuePausedStatement(name, true))
      },
      async resume(name) {
        checkQueue('queues.resume', name)
        await runStatement(config, setQueuePausedStatement(name, false))
        await wakeQueue(config, name)
      },
    },
    async wake(queue) {
      checkQueue('wake', queue)
      await wakeQueue(config, queue)
    },
  }
}

function checkQueue(what: string, name: unknown): void {
  if (typeof name === 'string' && namePattern.test(name)) return
  throw new OptionError('queue', `${what}: name of a queue: expected ${nameRule}; got ${showValue(name)}.`)
}
