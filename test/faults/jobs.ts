// The jobs of a run: each behaves in one way, and ends in a way that the checks know.
import { setTimeout as sleep } from 'node:timers/promises'
import * as z from 'zod'
import { defineJob, defineSchedule, type AnyJob, type Schedule } from '../../src/index.ts'
import type { Ledger } from './ledger.ts'
import { leaseMs } from './pace.ts'

const common = {
  timeoutSeconds: 1,
  maxAttempts: 3,
  backoff: { firstSeconds: 0.1, maxSeconds: 0.5 },
  result: z.any(),
} as const

const block = (ms: number) => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms)

/** Jobs by what they do; `ledger` is missing where they are only enqueued. */
export function createJobs(ledger?: Ledger) {
  const book = ledger as Ledger
  const pause = z.object({ ms: z.number() })

  const work = defineJob({
    ...common,
    id: 'work',
    payload: pause,
    run: ({ ms }, ctx) =>
      book.run(ctx, async (id) => {
        // Some are slow after a loss, so that the thawed runner which lost it settles beside its successor.
        await sleep(ctx.losses > 0 && ms % 3 === 0 ? 700 : ms, undefined, { signal: ctx.signal })
        return id
      }),
  })
  /** Holds its key only until it starts. */
  const keyed = defineJob({
    ...common,
    id: 'keyed',
    payload: pause,
    run: (payload, ctx) => work.run(payload, ctx),
  })
  /** Only its bare row is kept. */
  const bare = defineJob({
    ...common,
    id: 'bare',
    payload: pause,
    retention: { finishedDays: 'none' },
    run: (payload, ctx) => work.run(payload, ctx),
  })
  /** Fails so often, then finishes. */
  const flaky = defineJob({
    ...common,
    id: 'flaky',
    payload: z.object({ failures: z.number() }),
    run: ({ failures }, ctx) =>
      book.run(ctx, async (id) => {
        if (ctx.attempt > 1) await sleep(400, undefined, { signal: ctx.signal })
        // A retry without delay is the one that a late copy of itself could undo.
        if (ctx.attempt <= failures) return ctx.fail(`run ${id}`, { retryAfterSeconds: 0 })
        return id
      }),
  })
  /** Makes children, and fails at its first attempt or at each if told to, when the children must not come to be. */
  const parent = defineJob({
    ...common,
    id: 'parent',
    payload: z.object({
      children: z.number(),
      keyed: z.boolean(),
      failsFirst: z.boolean(),
      failsAlways: z.boolean(),
    }),
    run: ({ children, keyed: withKeys, failsFirst, failsAlways }, ctx) =>
      book.run(ctx, async (id) => {
        for (let n = 0; n < children; n++) {
          ctx.enqueue(work, { ms: 5 * n }, withKeys ? { key: `${ctx.task.id} ${n}` } : {})
        }
        if (failsAlways || (failsFirst && ctx.attempt === 1)) throw new Error(`run ${id}`)
        await sleep(300, undefined, { signal: ctx.signal })
        return id
      }),
  })
  /** Kills its process each time. */
  const poison = defineJob({
    ...common,
    id: 'poison',
    payload: z.object({}),
    run: (_, ctx) =>
      book.run(ctx, () => {
        process.kill(process.pid, 'SIGKILL')
        block(1000)
      }),
  })
  /** Fills the memory until its process dies of it, once. */
  const hungry = defineJob({
    ...common,
    id: 'hungry',
    payload: z.object({}),
    run: (_, ctx) =>
      book.run(ctx, (id) => {
        const meals: number[][] = []
        while (ctx.losses === 0) meals.push(Array.from({ length: 100_000 }, (_item, n) => n / 3))
        return id
      }),
  })
  /** As large as its payload, which nothing can compress. */
  const bulky = defineJob({
    ...common,
    id: 'bulky',
    payload: z.object({ ms: z.number(), bulk: z.string() }),
    run: (payload, ctx) => work.run(payload, ctx),
  })
  /** Returns what cannot be stored. */
  const unstorable = defineJob({
    ...common,
    id: 'unstorable',
    payload: z.object({ kind: z.number() }),
    run: ({ kind }, ctx) =>
      book.run(ctx, () => {
        const cycle: Record<string, unknown> = {}
        cycle['self'] = cycle
        return [cycle, 1n, 'x'.repeat(1_100_000), () => 1, Symbol('s')][kind]
      }),
  })
  /** Odd but storable: nulls, lone surrogates, prototype keys. */
  const odd = defineJob({
    ...common,
    id: 'odd',
    payload: z.object({ text: z.string() }),
    run: ({ text }, ctx) =>
      book.run(ctx, () => {
        if (ctx.attempt === 1) throw new Error(text)
        return JSON.parse(JSON.stringify({ text, '__proto__ ': 1, constructor: text })) as unknown
      }),
  })
  /** Blocks the event loop past the end of its lease, once. */
  const blocker = defineJob({
    ...common,
    id: 'blocker',
    payload: z.object({}),
    run: (_, ctx) =>
      book.run(ctx, (id) => {
        if (ctx.losses === 0) block(leaseMs + 500)
        return id
      }),
  })
  /** Ignores its signal for longer than the grace time. */
  const stubborn = defineJob({
    ...common,
    id: 'stubborn',
    payload: z.object({}),
    run: (_, ctx) =>
      book.run(ctx, async (id) => {
        if (ctx.attempt === 1) await sleep(2600)
        return id
      }),
  })
  /** Known to the new generation of runners only. */
  const recent = defineJob({
    ...common,
    id: 'recent',
    payload: pause,
    run: (payload, ctx) => work.run(payload, ctx),
  })
  const slot = defineJob({ ...common, id: 'slot', run: (_, ctx) => book.run(ctx, (id) => id) })

  return {
    work,
    keyed,
    bare,
    flaky,
    parent,
    poison,
    hungry,
    bulky,
    unstorable,
    odd,
    blocker,
    stubborn,
    recent,
    slot,
  }
}

export type Jobs = ReturnType<typeof createJobs>
export const allJobs = (jobs: Jobs): AnyJob[] => Object.values(jobs)

/** Each has one slot a minute, one second after the other's. */
export const createSchedules = ({ slot }: Jobs): Schedule[] =>
  Array.from({ length: 60 }, (_, second) =>
    defineSchedule({
      name: `second-${second}`,
      job: slot,
      every: { minutes: 1 },
      anchor: new Date(second * 1000),
      missed: 'all',
    }),
  )
