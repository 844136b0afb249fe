// What izta says of its own work: typed events that applications may subscribe to.
import type { Logger } from './log.ts'
import { readableMessage } from './job/json.ts'
import type { FailureCode } from './job/task.ts'

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
  /** A handler starts; `waitedMs` is the time since the task was due. */
  'task.started': TaskEvent & { readonly waitedMs: number }
  'task.finished': TaskEvent & { readonly durationMs: number }
  /** The task has failed for good. */
  'task.failed': TaskEvent & {
    readonly durationMs: number
    readonly code: FailureCode
    readonly message: string
  }
  /** An attempt failed; the next one is due in `delayMs`. */
  'task.retried': TaskEvent & {
    readonly durationMs: number
    readonly code: FailureCode
    readonly message: string
    readonly delayMs: number
  }
  /** Handed back unharmed: no attempt, no loss. */
  'task.released': TaskEvent
  /** It cannot run here now: the job's handler is missing, or still works on an earlier claim of the task. */
  'task.deferred': TaskEvent & { readonly delayMs: number }
  'task.cancelled': TaskEvent
  /** Its process died before; `losses` times by now. */
  'task.lost': TaskEvent & { readonly losses: number }
  /** A handler ignores its signal. */
  'task.stuck': TaskEvent
  /** An outcome came after its lease had gone to somebody else: it changed nothing. */
  'lease.expired': { readonly taskId: string }
  /** A child was left out, since its key is held by an unfinished task; `taskId` is the child's. */
  'child.skipped': { readonly taskId: string; readonly job: string; readonly key: string }
  'turn.completed': { readonly claimed: number; readonly settled: number; readonly durationMs: number }
  'wake.sent': { readonly queue: string }
  'wake.failed': { readonly queue: string; readonly message: string }
  /** A tick has made so many tasks of slots; `dropped` ones were missed beyond the limit of `missed: 'all'`. */
  'schedule.planned': { readonly tasks: number; readonly dropped: number }
}

export type IztaEventName = keyof IztaEvents

export interface Events {
  emit<Name extends IztaEventName>(name: Name, event: IztaEvents[Name]): void
  on<Name extends IztaEventName>(name: Name, listener: (event: IztaEvents[Name]) => void): () => void
}

/** A listener that throws is logged and disturbs nobody. */
export function createEvents(log: Logger): Events {
  const listeners = new Map<string, Set<(event: never) => void>>()
  return {
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
