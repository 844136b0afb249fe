// The gate in front of a database: which statement of this process goes next. Without it statements would wait inside
// the pool, where its time limit calls a busy process an unreachable database, and where those that wait for another
// transaction's lock hold every connection.
import type { Database, Lane } from './database.ts'

/** For an adapter that does not tell; as many as pg.Pool opens. */
const assumedConnections = 10

/** Takes its place in the queue of its lane; called when it may go. */
type Entry = () => void

/**
 * Turns have reserved places, statements that may wait for a lock get some of the others, and the rest goes first in,
 * first out. One place is one statement in flight.
 */
export class Gate {
  readonly #connections: () => number
  /** Statements in flight. */
  readonly #inside: Record<Lane, number> = { turn: 0, quick: 0, 'may-wait': 0 }
  /** Those that wait, in the order in which they came, each with its number in that order. */
  readonly #waiting: Record<Lane, Map<Entry, number>> = {
    turn: new Map(),
    quick: new Map(),
    'may-wait': new Map(),
  }
  #arrivals = 0
  /** A process that takes no turns needs no place for them. */
  #hasTurns = false

  /** `connections` tells how many statements the database carries at once; it may change. */
  constructor(connections: () => number) {
    this.#connections = connections
  }

  /** Enters at once if there is a place. Call `leave` when the statement has ended. */
  tryEnter(lane: Lane): boolean {
    if (lane === 'turn') this.#hasTurns = true
    if (this.#waiting[lane].size > 0 || !this.#hasPlace(lane)) return false
    this.#inside[lane]++
    return true
  }

  /** Waits for a place: `entry` is called with one taken. Returns what gives up the waiting. */
  wait(lane: Lane, entry: Entry): () => void {
    const waiting = this.#waiting[lane]
    waiting.set(entry, this.#arrivals++)
    return () => void waiting.delete(entry)
  }

  leave(lane: Lane): void {
    this.#inside[lane]--
    for (let next = this.#next(); next !== undefined; next = this.#next()) {
      const [entry] = this.#waiting[next].keys()
      if (entry === undefined) return
      this.#waiting[next].delete(entry)
      this.#inside[next]++
      entry()
    }
  }

  /** In words, for an error. */
  describe(): string {
    const { turn, quick, 'may-wait': mayWait } = this.#inside
    const waiting = Object.values(this.#waiting).reduce((sum, { size }) => sum + size, 0)
    return `${turn + quick + mayWait} statements of this process are in flight, ${mayWait} of them of the kind that may wait for a lock, ${waiting} wait, and the adapter carries ${this.#connections()} at a time`
  }

  /** The lane that goes next: a turn, else the one that has waited longer. */
  #next(): Lane | undefined {
    if (this.#waiting.turn.size > 0 && this.#hasPlace('turn')) return 'turn'
    const quick = this.#firstArrival('quick')
    const mayWait = this.#firstArrival('may-wait')
    if (quick === undefined) return mayWait === undefined ? undefined : 'may-wait'
    return mayWait === undefined || quick < mayWait ? 'quick' : 'may-wait'
  }

  /** The number of the first that waits, if there is a place for it. */
  #firstArrival(lane: Lane): number | undefined {
    const [arrival] = this.#waiting[lane].values()
    return arrival !== undefined && this.#hasPlace(lane) ? arrival : undefined
  }

  #hasPlace(lane: Lane): boolean {
    const { turn, quick, 'may-wait': mayWait } = this.#inside
    const places = placesOf(this.#connections(), this.#hasTurns)
    if (turn + quick + mayWait >= places.all) return false
    if (lane === 'turn') return true
    return quick + mayWait < places.all - places.reserved && (lane === 'quick' || mayWait < places.mayWait)
  }
}

/**
 * A runner has one turn in flight, and a second one under load. Half of what they leave is for statements that may
 * wait, so that the others always find a place; with one or two connections they share it.
 */
export function placesOf(connections: number, hasTurns: boolean) {
  const all = Math.max(1, connections)
  const reserved = !hasTurns || all < 2 ? 0 : all < 6 ? 1 : 2
  return { all, reserved, mayWait: Math.max(1, Math.floor((all - reserved) / 2)) }
}

const gates = new WeakMap<Database, Gate>()

/** The one gate of an adapter, whoever in this process uses it. */
export function gateOf(database: Database): Gate {
  let gate = gates.get(database)
  if (gate === undefined) {
    gate = new Gate(() => database.connections ?? assumedConnections)
    gates.set(database, gate)
  }
  return gate
}
