// Who is measured: izta, izta at an earlier commit, and the peers, with their settings.
import type { QueueOptions } from './queue.ts'
import type { WorkOptions } from './works.ts'

/** A queue with its settings, as it stands in the table. */
export interface Contender {
  readonly label: string
  readonly queue: string
  readonly options?: Omit<QueueOptions, 'url'> & Partial<WorkOptions>
  /** Share of the tasks that a slow one is given. @default 1 */
  readonly share?: number
  /** A slow one whose ratio has no target is run less often. @default every round */
  readonly rounds?: number
}

export const graphileWorker: Contender = { label: 'graphile-worker', queue: 'graphile-worker' }
export const pgBoss: Contender = { label: 'pg-boss', queue: 'pg-boss' }
export const river: Contender = { label: 'River', queue: 'river' }
export const bullmq: Contender = { label: 'BullMQ', queue: 'bullmq', share: 0.05, rounds: 2 }
export const iztaCrate: Contender = {
  label: 'izta crate (Rust)',
  queue: 'izta-crate',
  share: 0.01,
  rounds: 2,
}
export const izta: Contender = { label: 'izta', queue: 'izta' }
/** The same at the commit that `tree.ts` names. */
export const before: Contender = { label: 'before', queue: 'izta-before' }
/** No queue: a plain insert into a table like the one of izta's tasks. */
export const bareInsert: Contender = { label: 'bare insert', queue: 'bare-insert' }
export const iztaKept: Contender = { label: 'izta, results kept', queue: 'izta', options: { kept: true } }
export const iztaUnchecked: Contender = {
  label: 'izta, no schema check',
  queue: 'izta',
  options: { checked: false },
}

export const iztaAlone: Contender = {
  label: 'izta, each call alone',
  queue: 'izta',
  options: { alone: true },
}
export const beforeAlone: Contender = { ...iztaAlone, label: 'before, each call alone', queue: before.queue }
