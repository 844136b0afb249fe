// What izta says of its own work: typed events that applications may subscribe to.
import type { Logger } from './log.ts'
import { type FailureCode, readableMessage } from '../errors.ts'

interface TaskEvent {
  readonly taskId: string
  /** The job's id. */
  readonly job: string
  readonly queue: string
  /** Number of the run the event belongs to, from 1. */
  readonly attempt: number
}

/** Everything izta reports, by name. */
export interface IztaEvents {
  /** A runner has it; `waitedMs` is the time since the task was due. */
  'task.claimed': TaskEvent & { readonly waitedMs: number }
  /** A handler starts; `waitedMs` is the time since the task was due. */
  'task.started': TaskEvent & { readonly waitedMs: number }
  'task.finished': TaskEvent & { readonly durationMs: number }
  /** The task has failed for good. */
  'task.failed': TaskEvent & {
    readonly durationMs: number
    readonly code: FailureCode
    /** Name of the thrown error's class. */
    readonly class: string
    readonly message: string
  }
  /** An attempt failed; the next one is due in `delayMs`. */
  'task.retried': TaskEvent & {
    readonly durationMs: number
    readonly code: FailureCode
    /** Name of the thrown error's class. */
    readonly class: string
    readonly message: string
    readonly delayMs: number
  }
  /** Handed back unharmed: no attempt, no loss. */
  'task.released': TaskEvent
  /** It cannot run here now: the job's handler is missing or still works on an earlier claim, or its timeout does not fit. */
  'task.deferred': TaskEvent & { readonly delayMs: number }
  'task.cancelled': TaskEvent
  /** Its process died before; `losses` times by now. */
  'task.lost': TaskEvent & { readonly losses: number }
  /** A handler ignores its signal. */
  'task.stuck': TaskEvent
  /** An outcome came after its lease had gone to somebody else: it changed nothing. */
  'lease.expired': TaskEvent
  /**
   * A child was left out, since its key is held by an unfinished task or a task with the id that it was given exists;
   * `taskId` is the child's.
   */
  'child.skipped': { readonly taskId: string; readonly job: string; readonly key: string | undefined }
  /** A call of the database has been answered, or has failed. */
  'statement.completed': { readonly durationMs: number; readonly succeeded: boolean }
  'turn.completed': { readonly claimed: number; readonly settled: number; readonly durationMs: number }
  /**
   * A handler of this process's `startRunner` became stuck, or a stuck one has ended. `stuck` of its `concurrency` places
   * are taken by handlers that ignore their signals; `healthy` when there is none.
   */
  'runner.health': { readonly healthy: boolean; readonly stuck: number; readonly concurrency: number }
  'wake.sent': { readonly queue: string }
  'wake.failed': { readonly queue: string; readonly message: string }
  /**
   * A tick has made so many tasks of slots; `dropped` ones were missed beyond the limit of `missed: 'all'`. `lagMs` is
   * how long after its instant the most belated slot was made; each is made ahead, so it is 0 while ticks come.
   */
  'schedule.planned': { readonly tasks: number; readonly dropped: number; readonly lagMs: number }
  /** Every step of a tick succeeded. */
  'tick.completed': { readonly durationMs: number; readonly queues: readonly DueQueue[] }
}

/** What waits in a queue. */
export interface DueQueue {
  readonly queue: string
  readonly paused: boolean
  /** Tasks that are due and not running; counted up to 10,000 a priority. */
  readonly due: number
  /** How long the oldest of them is due; 0 when there is none. */
  readonly oldestDueMs: number
}

export type IztaEventName = keyof IztaEvents

export interface Events {
  /** Whether anybody listens: events of single tasks are not even made otherwise. */
  wants(name: IztaEventName): boolean
  emit<Name extends IztaEventName>(name: Name, event: IztaEvents[Name]): void
  on<Name extends IztaEventName>(name: Name, listener: (event: IztaEvents[Name]) => void): () => void
}

/** A listener that throws is logged and disturbs nobody. */
export function createEvents(log: Logger): Events {
  const listeners = new Map<string, Set<(event: never) => void>>()
  return {
    wants: (name) => (listeners.get(name)?.size ?? 0) > 0,
    emit(name, event) {
      for (const listener of listeners.get(name) ?? []) {
        try {
          listener(event as never)
        } catch (error) {
          log.error('an event listener threw', { event: name, error: readableMessage(error) })
        }
      }
    },
    on(name, listener) {
      const set = listeners.get(name) ?? new Set()
      listeners.set(name, set)
      set.add(listener)
      return () => set.delete(listener)
    },
  }
}
