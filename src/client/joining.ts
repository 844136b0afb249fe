// Single enqueues that come while calls are on their way go together in the next one (group commit): a busy process
// asks for fewer transactions, and an idle one waits for nothing.
import { isDatabaseError } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import type { PreparedTask } from '../prepare.ts'
import type { Enqueued } from './insert.ts'

export interface Joining {
  /** Rejects with what the database said to this task, or to all that travelled with it. */
  insert(task: PreparedTask): Promise<Enqueued>
}

interface Call {
  readonly task: PreparedTask
  resolve(enqueued: Enqueued): void
  reject(error: unknown): void
}

const { calls: mostFlights, tasks: mostTasks, bytes: mostBytes } = defaults.joining

/** `send` inserts all of them in one statement, or none. */
export function createJoining(
  mayJoin: boolean,
  send: (tasks: readonly PreparedTask[]) => Promise<Enqueued[]>,
): Joining {
  const waiting: Call[] = []
  let flights = 0

  function sendWaiting(): void {
    while (flights < mostFlights && waiting.length > 0) {
      flights++
      void sendTogether(takeNext()).finally(() => {
        flights--
        sendWaiting()
      })
    }
  }

  function takeNext(): Call[] {
    let bytes = 0
    const end = waiting.findIndex(({ task }, index) => {
      // The length of the text, which may take three bytes a character, is good enough for so wide a limit.
      bytes += task.payload.length
      return index === mostTasks || (index > 0 && bytes > mostBytes)
    })
    return waiting.splice(0, end === -1 ? waiting.length : end)
  }

  async function sendTogether(calls: readonly Call[]): Promise<void> {
    try {
      const enqueued = await send(calls.map(({ task }) => task))
      for (const [index, call] of calls.entries()) call.resolve(enqueued[index] as Enqueued)
    } catch (error) {
      // One of them is to blame, and nothing was stored: each goes alone.
      if (calls.length > 1 && isRefusal(error)) await Promise.all(calls.map((call) => sendTogether([call])))
      else for (const call of calls) call.reject(error)
    }
  }

  return {
    async insert(task) {
      if (mayJoin && isPlain(task)) {
        return new Promise((resolve, reject) => {
          waiting.push({ task, resolve, reject })
          sendWaiting()
        })
      }
      const [enqueued] = await send([task])
      return enqueued as Enqueued
    },
  }
}

/** Waits for nobody's transaction, as a task does whose key or id another one may have. */
const isPlain = ({ key, idWasGiven }: PreparedTask) => key === undefined && !idWasGiven

const isRefusal = (error: unknown) =>
  isDatabaseError(error) && !error.retryable && error.outcome === 'not-applied'
