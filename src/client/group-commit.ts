// Single enqueues that come while others are on their way go together in the next call (group commit): a busy process
// asks for fewer transactions, and an idle one waits for nothing.
import { AsyncResource } from 'node:async_hooks'
import { isDataRefused } from '../db/transient.ts'
import { defaults } from '../defaults.ts'
import type { PreparedTask } from '../job/prepare.ts'
import type { Enqueued, Inserted } from './insert.ts'

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
  send: (tasks: readonly PreparedTask[]) => Promise<Inserted>,
): Joining {
  const waiting: Call[] = []
  /** What is sent for others belongs to the context of none of them. */
  const neutral = new AsyncResource('izta.joining')
  let flights = 0

  function sendWaiting(): void {
    while (flights < mostFlights && waiting.length > 0) {
      flights++
      void sendTogether(takeNext()).finally(() => {
        flights--
        neutral.runInAsyncScope(sendWaiting)
      })
    }
  }

  function takeNext(): Call[] {
    let count = 0
    let bytes = 0
    for (const { task } of waiting) {
      bytes += Buffer.byteLength(task.payload)
      if (count === mostTasks || (count > 0 && bytes > mostBytes)) break
      count++
    }
    return waiting.splice(0, count)
  }

  /** Ends with the statement: wakes, which may take long, keep their callers, and nobody else. */
  async function sendTogether(calls: readonly Call[]): Promise<void> {
    try {
      const { enqueued, woken } = await send(calls.map(({ task }) => task))
      void woken.then(() => {
        for (const [index, call] of calls.entries()) call.resolve(enqueued[index] as Enqueued)
      })
    } catch (error) {
      if (calls.length > 1 && isDataRefused(error)) {
        // One of them is to blame, and nothing was stored: it is found by halves.
        const half = Math.ceil(calls.length / 2)
        await sendTogether(calls.slice(0, half))
        await sendTogether(calls.slice(half))
      } else for (const call of calls) call.reject(error)
    }
  }

  return {
    insert: (task) =>
      new Promise((resolve, reject) => {
        const call = { task, resolve, reject }
        if (!mayJoin || !isPlain(task)) return void sendTogether([call])
        waiting.push(call)
        sendWaiting()
      }),
  }
}

/** Waits for nobody's transaction, as a task does whose key or id another one may have. */
const isPlain = ({ key, idWasGiven }: PreparedTask) => key === undefined && !idWasGiven
