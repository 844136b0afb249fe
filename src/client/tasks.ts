// Changes single tasks: cancel and retry.
import * as z from 'zod/mini'
import type { ResolvedConfig } from '../config.ts'
import type { CallOptions } from '../db/call-end.ts'
import { whileContended } from '../db/contended.ts'
import { forOneCall } from '../db/gated.ts'
import { repeat, runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { type IztaError, KeyTakenError, StateError } from '../errors.ts'
import { checkOptions, signalSchema } from '../options.ts'
import { cancelStatement, readCancelReply } from '../store/cancel.ts'
import { readRetryReply, retryStatement, type RetryReply } from '../store/retry.ts'
import { plainArray, textArray } from '../store/encode.ts'
import { getStatement, readTask } from '../store/inspect.ts'
import { checkTaskId } from './read.ts'

/**
 * What a cancel did. `cancelled`: it waited, and has ended. `cancelling`: it runs; its signal aborts within 5 s, and
 * it becomes cancelled if the handler throws then. `already-…`: it had ended before. `not-found`: no such task.
 */
export type CancelOutcome =
  'cancelled' | 'cancelling' | 'already-finished' | 'already-failed' | 'already-cancelled' | 'not-found'

/** What a retry did. `requeued`: the ended task waits again. `due-now`: the failing task is due now. */
export type RetryOutcome = 'requeued' | 'due-now'

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
  retry(
    id: string,
    options?: CallOptions & { force?: boolean | undefined },
  ): Promise<{ readonly outcome: RetryOutcome }>
}

const retryOptions = z.strictObject({ force: z._default(z.boolean(), false), signal: signalSchema })

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
  const oneCall = (signal?: AbortSignal) => ({
    database: forOneCall(config.database, { signal }),
    clock: config.clock,
  })

  /** Undefined for a task that has changed hands in this very moment. */
  async function whyNot(
    id: string,
    { holder, isTombstone, status }: RetryReply,
  ): Promise<IztaError | undefined> {
    if (holder !== undefined) {
      const [row] = await runStatement(oneCall(), getStatement(id))
      return new KeyTakenError((row && readTask(row).key) ?? '', holder)
    }
    if (isTombstone) {
      return new StateError(
        'payload-gone',
        `Task ${id} kept no payload, since its job has the retention finishedDays: 'none': enqueue it again.`,
      )
    }
    switch (status) {
      case undefined:
        return new StateError('task-not-found', `retry: there is no task ${id} (any more).`)
      case 'finished':
        return new StateError(
          'task-finished',
          `Task ${id} has finished: pass { force: true } to run it again.`,
        )
      case 'pending':
      case 'running':
        return new StateError('task-unfinished', `Task ${id} is ${status}: there is nothing to retry.`)
      default:
        return undefined
    }
  }

  return {
    async cancel(id) {
      checkTaskId('cancel', id)
      let isRepeat = false
      const { database, clock } = oneCall()
      const cancelOnce = async () => {
        const { rows, ambiguous } = await repeat(database, clock, () => cancelStatement([id], retention))
        isRepeat ||= ambiguous
        const outcome = readCancelReply(rows, id.toLowerCase())
        if (outcome === undefined) return { outcome: 'not-found' as const }
        // The call whose answer was lost has done it.
        if (outcome === 'already-cancelled' && isRepeat) return { outcome: 'cancelled' as const }
        return outcome === 'moving' ? undefined : { outcome }
      }
      return whileContended(cancelOnce, () => contended('cancel', id))
    },

    async retry(id, options = {}) {
      checkTaskId('retry', id)
      const { force, signal } = checkOptions('retry', retryOptions, options)
      const { database, clock } = oneCall(signal)
      const retryOnce = async () => {
        const { rows, ambiguous } = await repeat(database, clock, () => retryStatement(id, force))
        const reply = readRetryReply(rows)
        if (reply.queue !== undefined && (reply.wake || ambiguous)) await config.wakes.wake([reply.queue])
        if (reply.outcome !== undefined) return { outcome: reply.outcome }
        // The call whose answer was lost has moved it.
        if (ambiguous && (reply.status === 'pending' || reply.status === 'running')) {
          return { outcome: 'requeued' as const }
        }
        const error = await whyNot(id, reply)
        if (error !== undefined) throw error
        return undefined
      }
      return whileContended(retryOnce, () => contended('retry', id))
    },
  }
}
