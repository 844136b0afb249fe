// Parents of keyed children, each settled in a call of its own beside the turns: that call may wait for a stranger.
import { defaults } from '../defaults.ts'
import type { Ended } from './outcome.ts'
import type { Outbox } from './outbox.ts'

export interface Apart {
  readonly isEmpty: boolean
  /** Of the tasks on their way. */
  ids(): Iterable<string>
  /** Sends what waits for it in the outbox, a few at a time. */
  send(): void
}

/**
 * `settle` never rejects, and resolves to whether it could be sent. What could not goes back to the outbox in the same
 * instant in which it is on its way no longer: the lease's tasks that nobody knows are handed back.
 */
export function createApart(
  outbox: Outbox,
  onSettled: () => void,
  settle: (ended: Ended) => Promise<boolean>,
): Apart {
  const sent = new Set<string>()

  async function sendOne(ended: Ended): Promise<void> {
    sent.add(ended.task.id)
    const wasSent = await settle(ended)
    sent.delete(ended.task.id)
    if (!wasSent) outbox.putBack([ended])
    onSettled()
  }

  return {
    get isEmpty() {
      return sent.size === 0
    },
    ids: () => sent,
    send() {
      while (sent.size < defaults.runner.keyedSettles) {
        const ended = outbox.takeKeyed()
        if (ended === undefined) return
        void sendOne(ended)
      }
    },
  }
}
