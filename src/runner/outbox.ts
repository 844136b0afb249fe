// Ended tasks on their way to the database, in two lanes.
import { defaults } from '../defaults.ts'
import type { Ended } from './outcome.ts'

/**
 * The main lane goes with the runner's turns. Parents of children with keys or given ids go apart, each in a call of
 * its own, since that call may wait for a stranger's transaction that holds the same key or id.
 */
export interface Outbox {
  add(ended: Ended): void
  /** Takes what the next turn should carry, bounded in bytes. */
  takeBatch(): Ended[]
  /** Takes the next of those that go apart. */
  takeKeyed(): Ended | undefined
  /** What could not be sent comes back, first in line. */
  putBack(ended: readonly Ended[]): void
  readonly hasBatch: boolean
  readonly isEmpty: boolean
  ids(): string[]
}

export function createOutbox(): Outbox {
  let main: Ended[] = []
  let keyed: Ended[] = []
  return {
    add: (ended) => void (mayWait(ended) ? keyed : main).push(ended),
    takeBatch() {
      const batch = main.slice(0, fitting(main))
      main = main.slice(batch.length)
      return batch
    },
    takeKeyed: () => keyed.shift(),
    putBack(ended) {
      main = [...ended.filter((one) => !mayWait(one)), ...main]
      keyed = [...ended.filter(mayWait), ...keyed]
    },
    get hasBatch() {
      return main.length > 0
    },
    get isEmpty() {
      return main.length + keyed.length === 0
    },
    ids: () => [...main, ...keyed].map(({ task }) => task.id),
  }
}

const mayWait = ({ outcome }: Ended) =>
  outcome.children.some((child) => child.key !== undefined || child.idWasGiven === true)

/** How many of them one call should carry: at least one, whose children are never split. */
function fitting(ended: readonly Ended[]): number {
  let bytes = 0
  for (const [index, { outcome }] of ended.entries()) {
    bytes += Buffer.byteLength(outcome.body ?? '')
    for (const child of outcome.children) bytes += Buffer.byteLength(child.payload)
    if (bytes > defaults.runner.settleBytes && index > 0) return index
  }
  return ended.length
}

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
