// Changes what is stored: cancel and retry of tasks, pause and resume of queues.
import { z } from 'zod'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import { KeyTakenError, OptionError, StateError } from '../errors.ts'
import { checkOptions, namePattern, nameRule, showValue } from '../options.ts'
import { cancelStatement, endedKeyStatement, readCancelReply, readRetryReply, retryStatement } from '../store/cancel.ts'
import { plainArray, text, textArray } from '../store/encode.ts'
import { keyHolderStatement, readKeyHolder } from '../store/enqueue.ts'
import { readStatus, statusStatement } from '../store/inspect.ts'
import {
  listQueuesStatement,
  readNames,
  readQueues,
  setQueuePausedStatement,
  wakeQueueStatement,
  type QueueInfo,
} from '../store/queues.ts'
import { checkTaskId } from './read.ts'
import { runStatement } from './statement.ts'

/**
 * What a cancel did. `cancelled`: it waited, and has ended. `cancelling`: it runs; its signal aborts within 5 s, and
 * it becomes cancelled if the handler throws then. `already-…`: it had ended before. `not-found`: no such task.
 */
export type CancelOutcome =
  'cancelled' | 'cancelling' | 'already-finished' | 'already-failed' | 'already-cancelled' | 'not-found'

/** What a retry did. `moved`: the ended task waits again. `hurried`: the failing task is due now. */
export type RetryOutcome = 'moved' | 'hurried'

export interface Changing {
  cancel(id: string): Promise<{ readonly outcome: CancelOutcome }>
  /**
   * Runs a failed or cancelled task again, with the same id, attempts counted anew and errors kept; a failing one
   * becomes due now. `force` includes finished ones.
   *
   * @throws {StateError} `task-not-found`, `task-finished`, `task-unfinished` (it waits or runs anyway),
   * `payload-gone` (only its bare row was kept).
   * @throws {KeyTakenError} another unfinished task has its key by now.
   */
  retry(id: string, options?: { force?: boolean }): Promise<{ readonly outcome: RetryOutcome }>
  readonly queues: {
    list(): Promise<QueueInfo[]>
    /** Nothing of the queue is claimed any more; running tasks end. Enqueues and schedules go on. */
    pause(name: string): Promise<void>
    /** Claims again, and wakes a runner. */
    resume(name: string): Promise<void>
  }
  /** Wakes a runner of the queue, at most once a second: after the commit of an enqueueStatement. */
  wake(queue: string): Promise<void>
}

const retryOptions = z.strictObject({ force: z.boolean().default(false) })
const attempts = 10

export function createChanging(config: ResolvedConfig): Changing {
  const jobs = [...config.jobs.values()]
  const retention = {
    jobs: textArray(jobs.map((job) => job.id)),
    seconds: plainArray(jobs.map((job) => job.retention.failedSeconds)),
    fallbackSeconds: defaults.retention.failedDays * 86_400,
  }

  async function wake(queue: string): Promise<void> {
    checkQueue('wake', queue)
    await config.wakes.wake(readNames(await runStatement(config, wakeQueueStatement(queue))))
  }

  return {
    async cancel(id) {
      checkTaskId('cancel', id)
      for (let attempt = 1; ; attempt++) {
        // oxlint-disable-next-line no-await-in-loop -- the task changed hands in between
        const outcome = readCancelReply(await runStatement(config, cancelStatement(id, retention)))
        if (outcome === undefined) return { outcome: 'not-found' }
        if (outcome !== 'moving') return { outcome }
        if (attempt === attempts) {
          throw new StateError('task-contended', `Task ${id} changed hands ${attempts} times: call cancel again.`)
        }
      }
    },

    async retry(id, options = {}) {
      checkTaskId('retry', id)
      const { force } = checkOptions('retry', retryOptions, options)
      const reply = await runStatement(config, retryStatement(id, force)).then(readRetryReply, async (error: unknown) => {
        if (!isDatabaseError(error) || error.sqlState !== '23505') throw error
        const [row] = await runStatement(config, endedKeyStatement(id))
        const key = row && text(row, 'key')
        const holder = row && readKeyHolder(await runStatement(config, keyHolderStatement(text(row, 'job'), text(row, 'key'))))
        throw holder === undefined || key === undefined ? error : new KeyTakenError(key, holder.id)
      })
      if (reply.did !== 'nothing') {
        if (reply.queue !== undefined) await wake(reply.queue)
        return { outcome: reply.did }
      }
      if (reply.bare) {
        throw new StateError('payload-gone', `Task ${id} kept no payload (retention finished: 'none'): enqueue it anew.`)
      }
      if (reply.endedAs === 'finished') {
        throw new StateError('task-finished', `Task ${id} has finished: pass { force: true } to run it again.`)
      }
      const now = readStatus(await runStatement(config, statusStatement(id)))
      throw now === undefined
        ? new StateError('task-not-found', `There is no task ${id} (any more).`)
        : new StateError('task-unfinished', `Task ${id} is ${now.status}: there is nothing to retry.`)
    },

    queues: {
      list: async () => readQueues(await runStatement(config, listQueuesStatement)),
      async pause(name) {
        checkQueue('queues.pause', name)
        await runStatement(config, setQueuePausedStatement(name, true))
      },
      async resume(name) {
        checkQueue('queues.resume', name)
        await runStatement(config, setQueuePausedStatement(name, false))
        await wake(name)
      },
    },
    wake,
  }
}

function checkQueue(what: string, name: unknown): void {
  if (typeof name === 'string' && namePattern.test(name)) return
  throw new OptionError('queue', `${what}: option "queue": expected ${nameRule}; got ${showValue(name)}.`)
}
