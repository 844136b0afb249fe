// One run: the work of one lease, and how it is steered from outside.
import type { ResolvedConfig } from '../config.ts'
import type { ClaimedTask } from '../store/turn.ts'
import type { Capacity } from './capacity.ts'
import type { Deadline } from './deadline.ts'
import type { RunSummary } from './report.ts'
import type { StopReason } from './stop-reason.ts'

export interface RunOptions {
  readonly config: ResolvedConfig
  /** Empty for all queues. */
  readonly queues: readonly string[]
  readonly capacity: Capacity
  readonly deadline: Deadline
  /**
   * Whether the run leaves when nothing is due. An invocation leaves, and so does a test, which wakes no other runner; a server
   * stays until its term is over.
   */
  readonly whenIdle: 'leave' | 'leave-quietly' | 'stay'
  /** Before it leaves, an invocation waits this long for the next task of its queues. @default 0 */
  readonly lingerSeconds?: number
  /** How many runners have started each other before this one. */
  readonly hops: number
  readonly onStuck?: (task: ClaimedTask) => void
}

export interface Run {
  /**
   * Rejects when the database fails for good: nothing is lost then, the leases run out. `capacity.running` tells
   * whether handlers are still at work.
   */
  readonly done: Promise<RunSummary>
  /** Something may be due: claims at once. */
  recheck(): void
  /** Claims and starts nothing more, and ends when the running handlers have ended. */
  drain(): void
  /** Tells every running handler to stop. */
  stopRunning(reason: StopReason): void
  /** Ends without the handlers that have not stopped; they keep their leases. */
  leave(): void
}
