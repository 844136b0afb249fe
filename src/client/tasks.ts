// Changes single tasks: cancel and retry.
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import { isDatabaseError } from '../db/transient.ts'
import { whileContended } from '../db/contended.ts'
import { forOneCall } from '../db/gated.ts'
import { repeat, runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { KeyTakenError, StateError } from '../errors.ts'
import type { Task } from '../job/task.ts'
import { checkOptions } from '../options.ts'
import { cancelStatement, readCancelReply } from '../store/cancel.ts'
import { readRetryReply, retryStatement } from '../store/retry.ts'
import { plainArray, textArray } from '../store/encode.ts'
import { keyHolderStatement, readKeyHolder } from '../store/enqueue.ts'
import { getStatement, readTask } from '../store/inspect.ts'
import { wakeQueue } from './queues.ts'
import { checkTaskId } from './read.ts'

/**
 * What a cancel did. `cancelled`: it waited, and has ended. `cancelling`: it runs; its signal aborts within 5 s, and
 * it becomes cancelled if the handler throws then. `already-…`: it had ended before. `not-found`: no such task.
 */
export type CancelOutcome =
  'cancelled' | 'cancelling' | 'already-finished' | 'already-failed' | 'already-cancelled' | 'not-found'

/** What a retry did. `moved`: the ended task waits again. `hurried`: the failing task is due now. */
export type RetryOutcome = 'moved' | 'hurried'

export interface TaskChanges {
  /**
   * Cancels a task; says what that did.
   *
   * @throws {OptionError} when the id is no UUID.
   *
   * @example
   * ```ts
   * const { outcome } = await izta.cancel(id)
   * if (outcome === 'cancelling') console.log('it runs and was told to stop')
   * ```
   */
  cancel(id: string): Promise<{ readonly outcome: CancelOutcome }>
  /**
   * Runs a failed or cancelled task again, with the same id, attempts counted anew and errors kept; a failing one
   * becomes due now. `force` includes finished ones.
   *
   * @throws {StateError} `task-not-found`, `task-finished`, `task-unfinished` (it waits or runs anyway),
   * `payload-gone` (only its bare row was kept).
   * @throws {KeyTakenError} another unfinished task has its key by now.
   * @throws {OptionError} when the id is no UUID, or an option is unknown.
   *
   * @example
   * ```ts
   * for await (const task of izta.list({ status: 'failed', job: divide })) await izta.retry(task.id)
   * ```
   */
  retry(id: string, options?: { force?: boolean | undefined }): Promise<{ readonly outcome: RetryOutcome }>
}

const retryOptions = z.strictObject({ force: z._default(z.boolean(), false) })
const uniqueViolation = '23505'

function contended(what: string, id: string): StateError {
  const message = `Task ${id} changes hands at this very moment: call ${what} again.`
  return new StateError('task-contended', message, { retryable: true })
}

export function createTaskChanges(config: ResolvedConfig): TaskChanges {
  const jobs = [...config.jobs.values()]
  const retention = {
    jobs: textArray(jobs.map((job) => job.id)),
    seconds: plainArray(jobs.map((job) => job.retention.failedSeconds)),
    fallbackSeconds: defaults.retention.failedDays * 86_400,
  }

  /** The database and the clock for the statements of one call. */
  const oneCall = () => ({ database: forOneCall(config.database), clock: config.clock })

  return {
    async cancel(id) {
      checkTaskId('cancel', id)
      const statement = cancelStatement(id, retention)
      let isRepeat = false
      const { database, clock } = oneCall()
      const cancelOnce = async () => {
        const { rows, ambiguous } = await repeat(database, clock, () => statement)
        isRepeat ||= ambiguous
        const outcome = readCancelReply(rows)
        if (outcome === undefined) return { outcome: 'not-found' as const }
        // The call whose answer was lost has done it.
        if (outcome === 'already-cancelled' && isRepeat) return { outcome: 'cancelled' as const }
        return outcome === 'moving' ? undefined : { outcome }
      }
      return whileContended(cancelOnce, () => contended('cancel', id))
    },

    async retry(id, options = {}) {
      checkTaskId('retry', id)
      const { force } = checkOptions('retry', retryOptions, options)
      const statement = retryStatement(id, force)
      const call = oneCall()
      const find = async (): Promise<Task | undefined> => {
        const [row] = await runStatement(call, getStatement(id))
        return row && readTask(row)
      }
      const retryOnce = async () => {
        try {
          const { rows, ambiguous } = await repeat(call.database, call.clock, () => statement)
          const { did, queue, endedAs, bare } = readRetryReply(rows)
          if (did !== 'nothing') {
            if (queue !== undefined) await wakeQueue(config, queue)
            return { outcome: did }
          }
          if (bare) {
            throw new StateError(
              'payload-gone',
              `Task ${id} kept no payload, since its job has the retention finishedDays: 'none': enqueue it anew.`,
            )
          }
          if (endedAs === 'finished') {
            throw new StateError(
              'task-finished',
              `Task ${id} has finished: pass { force: true } to run it again.`,
            )
          }
          const now = await find()
          if (now === undefined)
            throw new StateError('task-not-found', `retry: there is no task ${id} (any more).`)
          if (now.status === 'pending' || now.status === 'running') {
            if (!ambiguous) {
              throw new StateError(
                'task-unfinished',
                `Task ${id} is ${now.status}: there is nothing to retry.`,
              )
            }
            // The call whose answer was lost has moved it.
            await wakeQueue(config, now.queue)
            return { outcome: 'moved' as const }
          }
        } catch (error) {
          if (!isDatabaseError(error) || error.sqlState !== uniqueViolation) throw error
          const { job, key } = (await find()) ?? {}
          if (job === undefined || key === undefined) throw error
          const holder = readKeyHolder(await runStatement(call, keyHolderStatement(job, key)))
          if (holder !== undefined) throw new KeyTakenError(key, holder.id)
        }
        return undefined
      }
      return whileContended(retryOnce, () => contended('retry', id))
    },
  }
}
