// Wakes runners that stay by NOTIFY; they listen on one connection a process and open it again when it breaks.
import { backoffMs, pause, systemClock } from '../clock.ts'
import { DefinitionError } from '../errors.ts'
import type { Logger } from '../observe/log.ts'
import { notifyStatement, wakeChannel } from '../store/notify.ts'
import { anyQueue, type Wake } from '../wake/wakes.ts'
import type { Database } from '../db/database.ts'
import { throughGate } from '../db/gated.ts'
import { placeOf } from '../db/redact.ts'
import { toDatabaseError } from '../db/transient.ts'
import { PgClient } from './pg-client.ts'
import { checkPgOptions, pgDefaults, type PgOptions } from './pool.ts'

/** What `notifyWake` takes. */
export interface NotifyWakeOptions {
  /** Sends the notifications, with any adapter: the one of the instance. */
  database: Database
  /**
   * Where the runners of this process listen: a connection string, or options of `pg.Client`, of the same database.
   * Not through a pooler in transaction mode, which keeps notifications from its clients without a word.
   * @default none: this process only sends
   */
  listen?: string | PgOptions | undefined
}

/**
 * A wake for runners of `startRunner` in other processes: after the commit of an enqueue that makes a runner due, one
 * statement notifies the channel `izta_wake` with the queue's name. A process whose `startRunner` has this wake listens
 * on a connection of its own until `stop()`. While that is not to be had, runners find tasks by their polls.
 *
 * @throws {DefinitionError} when the database is no adapter, or `listen` no connection string and no options.
 *
 * @example
 * ```ts
 * const url = 'postgres://app:secret@db.example.com/app?sslmode=verify-full'
 * const database = pgDatabase(url)
 * const izta = createIzta({ database, jobs: [divide], wake: notifyWake({ database, listen: url }) })
 * const runner = startRunner(izta)
 * ```
 */
export function notifyWake(options: NotifyWakeOptions): Wake {
  const { database, listen } = options
  if (typeof database?.query !== 'function') {
    throw new DefinitionError(
      'notifyWake: option "database": expected a database adapter, as createIzta has it.',
    )
  }
  const sender = createSender(database)
  if (listen === undefined) return { wake: sender }
  const connection = checkPgOptions('notifyWake: option "listen"', listen, 'options of pg.Client')
  const listeners = new Set<(queue: string) => void>()
  let current: Listener | undefined
  return {
    wake: sender,
    listen(onWake, log) {
      const listener = (queue: string) => onWake(queue)
      listeners.add(listener)
      current ??= startListening(connection, log, (queue) => {
        for (const tell of listeners) tell(queue)
      })
      return async () => {
        listeners.delete(listener)
        if (listeners.size > 0) return
        const last = current
        current = undefined
        await last?.stop()
      }
    },
  }
}

/** Queues that are woken in one breath share a statement. */
function createSender(given: Database): (queue: string) => Promise<void> {
  const database = throughGate(given)
  let next: { readonly queues: Set<string>; readonly sent: Promise<void> } | undefined
  return (queue) => {
    if (next === undefined) {
      const queues = new Set<string>()
      const sent = Promise.resolve().then(async () => {
        next = undefined
        await database.query(notifyStatement([...queues]))
      })
      next = { queues, sent }
    }
    next.queues.add(queue)
    return next.sent
  }
}

interface Listener {
  /** Closes the connection. */
  stop(): Promise<void>
}

/** A lost connection is opened again at once, then with pauses that grow from 1 s to 30 s. */
const listenPauses = { firstMs: 1_000, longestMs: 30_000 }
/** After a connection that held this long the pauses begin again with the first. */
const steadyMs = 5_000
/** Finds out within seconds that the other end is gone: nothing is sent on this connection. */
const keepAliveInitialDelayMillis = 10_000

function startListening(options: PgOptions, log: Logger, onWake: (queue: string) => void): Listener {
  const stopping = new AbortController()
  const { signal } = stopping
  const settings = { ...pgDefaults, keepAliveInitialDelayMillis, ...options }

  async function listen(): Promise<void> {
    for (let failures = 0; !signal.aborted;) {
      const startedMs = systemClock.now()
      try {
        await listenOnce(settings, signal, onWake)
      } catch (error) {
        const { message } = toDatabaseError(error, placeOf(options), { sent: false })
        failures = systemClock.now() - startedMs > steadyMs ? 1 : failures + 1
        if (signal.aborted) return
        log[failures === 1 ? 'warn' : 'debug'](
          'listening for wakes failed: runners poll until it works again',
          {
            error: message,
          },
        )
        await pause(systemClock, failures === 1 ? 0 : backoffMs(failures - 1, listenPauses), signal)
      }
    }
  }

  const done = listen()
  return {
    async stop() {
      stopping.abort()
      await done
    },
  }
}

/** Rejects when the connection breaks or cannot be had, resolves when the signal has ended it. */
async function listenOnce(
  options: PgOptions,
  signal: AbortSignal,
  onWake: (queue: string) => void,
): Promise<void> {
  const client = new PgClient(options)
  const ended = Promise.withResolvers<void>()
  // Whoever awaits it may have gone with another error.
  ended.promise.catch(() => {})
  client.on('error', ended.reject)
  client.on('end', () => ended.reject(new Error('Connection terminated unexpectedly')))
  client.on('notification', ({ payload }) =>
    onWake(payload === undefined || payload === '' ? anyQueue : payload),
  )
  const stop = () => ended.resolve()
  signal.addEventListener('abort', stop)
  const opened = client.connect().then(() => client.query(`listen ${wakeChannel}`))
  opened.catch(ended.reject)
  try {
    await Promise.race([opened, ended.promise])
    // What was sent before has reached nobody.
    if (!signal.aborted) onWake(anyQueue)
    await ended.promise
  } finally {
    signal.removeEventListener('abort', stop)
    const closed = client.end()
    // Whatever state it is in: nobody may be there any more who would say goodbye.
    client.connection.stream.destroy()
    await closed
  }
}
