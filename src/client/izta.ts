// The application's side of izta: one object with everything that can be asked of the queue.
/// <reference lib="esnext.disposable" preserve="true" />
import {
  resolveConfig,
  withConfig,
  type Configured,
  type IztaOptions,
  type ResolvedConfig,
} from '../config.ts'
import type { IztaEventName, IztaEvents } from '../observe/events.ts'
import { createQueueChanges, type QueueChanges } from './queues.ts'
import { createTaskChanges, type TaskChanges } from './tasks.ts'
import { createEnqueuing, type Enqueuing } from './enqueue.ts'
import { createReading, type Reading } from './read.ts'
import type { StoredSchedules } from '../scheduler/sync.ts'
import type { Schedules } from './schedules.ts'

/** Enqueue, read, change and schedule tasks. Made by `createIzta`. */
export interface Izta extends Enqueuing, Reading, TaskChanges, QueueChanges, Configured {
  readonly schedules: Schedules
  /**
   * Brings the schema up to date and stores the queues and schedules of the definitions; an instance that was given
   * no `schedules` leaves the stored ones alone. Safe to run at any time and by several at once; run it when deploying,
   * never when a function starts. `schedules` tells which are stored now and which are not, with the reason; undefined
   * without the option `schedules`.
   *
   * @throws {SchemaTooNewError} when a newer izta has changed the schema in a way that this version cannot work with.
   * @throws {PayloadError} when the job of a schedule refuses its payload.
   * @throws {DatabaseError} when a migration fails; those before it stay applied.
   */
  migrate(): Promise<{
    readonly applied: readonly string[]
    readonly schedules: StoredSchedules | undefined
  }>
  /** Calls `listener` for each event of this process; returns what ends that. See docs/telemetry.md. */
  on<Name extends IztaEventName>(name: Name, listener: (event: IztaEvents[Name]) => void): () => void
  /** Ends the connections that the adapter opened itself. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Makes an izta instance. Connects with the first call, not before.
 *
 * @throws {DefinitionError} when an option is wrong, two jobs have one id, or two schedules one name.
 *
 * @example
 * ```ts
 * import { createIzta } from 'izta'
 * import { pgDatabase } from 'izta/pg'
 *
 * export const izta = createIzta({ database: pgDatabase('postgres://localhost/app'), jobs: [divide] })
 * const { id } = await izta.enqueue(divide, { numerator: 1, denominator: 2 })
 * ```
 */
export function createIzta(options: IztaOptions): Izta {
  const config = resolveConfig(options)
  const close = async () => config.database.close?.()
  const izta = {
    ...createEnqueuing(config),
    ...createReading(config),
    ...createTaskChanges(config),
    ...createQueueChanges(config),
    schedules: lazySchedules(config),
    on: config.events.on,
    close,
    [Symbol.asyncDispose]: close,
    async migrate() {
      const [{ migrate }, { syncDefinitions }] = await Promise.all([
        import('../db/migrate.ts'),
        import('../scheduler/sync.ts'),
      ])
      const migrated = await migrate(config.givenDatabase, {
        schema: config.schema,
        onWait: (wait) => config.log.warn('a migration waits for a lock', { ...wait }),
      })
      const schedules = await syncDefinitions(config)
      return { ...migrated, schedules }
    },
  }
  return withConfig(izta, config)
}

/** Loaded with the first call: who only enqueues or runs never pays for it at start. */
function lazySchedules(config: ResolvedConfig): Schedules {
  const load = async () => {
    const { createSchedules } = await import('./schedules.ts')
    return createSchedules(config)
  }
  return {
    list: async () => (await load()).list(),
    pause: async (name) => (await load()).pause(name),
    resume: async (name) => (await load()).resume(name),
    trigger: async (name) => (await load()).trigger(name),
    preview: async (name, count) => (await load()).preview(name, count),
    put: async (schedule) => (await load()).put(schedule),
    remove: async (name, options) => (await load()).remove(name, options),
  }
}
