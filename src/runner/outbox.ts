// Outcomes that wait to be sent to the database, in two lanes.
import { defaults } from '../defaults.ts'
import { mayExist } from '../store/enqueue.ts'
import type { Ended } from './outcome.ts'

/**
 * The main lane is sent with the turns of the run. Parents of children with keys or given ids are sent in the keyed
 * lane, each in a call of its own, because that call may wait for a transaction elsewhere that holds the key or id.
 */
export class Outbox {
  #main: Ended[] = []
  #keyed: Ended[] = []

  /** Whether the outcome waits for the next turn: it does in the main lane. */
  add(ended: Ended): boolean {
    const isKeyed = mayWait(ended)
    ;(isKeyed ? this.#keyed : this.#main).push(ended)
    return !isKeyed
  }

  /** Takes the outcomes that the next turn carries, bounded in bytes. */
  takeBatch(): Ended[] {
    const batch = this.#main.slice(0, fitting(this.#main))
    this.#main = this.#main.slice(batch.length)
    return batch
  }

  /** Takes the next outcome of the keyed lane. */
  takeKeyed(): Ended | undefined {
    return this.#keyed.shift()
  }

  /** Outcomes that could not be sent come back, first in line. */
  putBack(ended: readonly Ended[]): void {
    this.#main = [...ended.filter((one) => !mayWait(one)), ...this.#main]
    this.#keyed = [...ended.filter(mayWait), ...this.#keyed]
  }

  /** How many outcomes wait for the next turn. */
  get waiting(): number {
    return this.#main.length
  }

  get isEmpty(): boolean {
    return this.#main.length + this.#keyed.length === 0
  }

  ids(): string[] {
    return [...this.#main, ...this.#keyed].map(({ task }) => task.id)
  }
}

const mayWait = ({ outcome }: Ended) => mayExist(outcome.children)

/** How many outcomes one call carries: at least one, whose children are never split. */
function fitting(ended: readonly Ended[]): number {
  let bytes = 0
  for (const [index, { outcome }] of ended.entries()) {
    bytes += Buffer.byteLength(outcome.body ?? '')
    for (const child of outcome.children) bytes += Buffer.byteLength(child.payload)
    if (bytes > defaults.runner.settleBytes && index > 0) return index
  }
  return ended.length
}

/** Sends the keyed lane of an outbox, a few outcomes at a time. */
export class KeyedLane {
  readonly #outbox: Outbox
  readonly #settle: (ended: Ended) => Promise<boolean>
  readonly #onSettled: () => void
  /** Ids of the tasks whose outcome is in flight. */
  readonly #inFlight = new Set<string>()

  /**
   * @param settle sends one outcome; never rejects, and resolves to whether it was sent
   * @param onSettled is called after each
   */
  constructor(outbox: Outbox, settle: (ended: Ended) => Promise<boolean>, onSettled: () => void) {
    this.#outbox = outbox
    this.#settle = settle
    this.#onSettled = onSettled
  }

  get isEmpty(): boolean {
    return this.#inFlight.size === 0
  }

  /** Ids of the tasks whose outcome is in flight. */
  ids(): Iterable<string> {
    return this.#inFlight
  }

  send(): void {
    while (this.#inFlight.size < defaults.runner.keyedSettles) {
      const ended = this.#outbox.takeKeyed()
      if (ended === undefined) return
      void this.#sendOne(ended)
    }
  }

  async #sendOne(ended: Ended): Promise<void> {
    this.#inFlight.add(ended.task.id)
    const wasSent = await this.#settle(ended)
    this.#inFlight.delete(ended.task.id)
    // In the same instant, or the task would be handed back as one that the lease holds and nothing here knows.
    if (!wasSent) this.#outbox.putBack([ended])
    this.#onSettled()
  }
}
