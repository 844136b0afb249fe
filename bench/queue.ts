// What the bench asks of a queue: the same few operations of izta and of every peer.

export interface QueueOptions {
  readonly url: string
  /** izta: keeps payload and result of finished tasks. @default false */
  readonly kept?: boolean
  /** izta: checks payloads against a zod schema at both ends. @default true */
  readonly checked?: boolean
  /** izta: sends single enqueues each in a call of its own, as from processes of their own. @default false */
  readonly alone?: boolean
  /** izta: how statements travel. @default 'pg' */
  readonly driver?: 'pg' | 'neon'
  /** izta: what runs the tasks. @default 'runner' */
  readonly host?: 'runner' | 'local-stack'
  /** izta: spreads the tasks of bulk enqueues evenly over so many queues. @default 1 */
  readonly queues?: number
  /** Handlers at once. @default the queue's best for a drain */
  readonly concurrency?: number
}

/** Opened in a process of its own for one run. The payload of task n is `{ n }`. */
export interface Queue {
  /** SQL that tells, as the column `unfinished`, whether tasks are left. */
  readonly unfinished: string
  /** Makes the schema. */
  install(): Promise<void>
  /** Stores tasks `from` to `from + count - 1` in one call. */
  enqueueMany(from: number, count: number): Promise<void>
  enqueueOne(n: number): Promise<void>
  /** Runs `onTask` as the handler of each task; resolves when it works, to what stops it. */
  work(onTask: (n: number) => void): Promise<() => Promise<void>>
  close(): Promise<void>
}

export type OpenQueue = (options: QueueOptions) => Queue

export const payloadsFrom = (from: number, count: number): { n: number }[] =>
  Array.from({ length: count }, (_, index) => ({ n: from + index }))
