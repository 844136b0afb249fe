// Random sequences of calls by several clients on a real Postgres, compared after each call with the model.
import { createIzta, defineJob, IztaError, type Izta, type JobContext, type Task } from 'izta'
import { createTestClock, drain } from 'izta/testing'
import * as fc from 'fast-check'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'
import {
  childrenTags,
  isBare,
  isEnded,
  jobFacts,
  Model,
  retryAfterSeconds,
  type ModelTask,
  type RunSpec,
  type TaskSpec,
} from './model.ts'
import { followAll, timeoutMs } from './sequences.ts'

type Command =
  | { readonly do: 'enqueue'; readonly tasks: readonly [TaskSpec] }
  | { readonly do: 'enqueue many'; readonly tasks: readonly TaskSpec[] }
  | { readonly do: 'cancel'; readonly which: number }
  | { readonly do: 'retry'; readonly which: number; readonly force: boolean }
  | { readonly do: 'pause' | 'resume'; readonly queue: string }
  | { readonly do: 'run'; readonly queues: readonly string[]; readonly tick: boolean }
  | { readonly do: 'wait'; readonly seconds: number }
  | {
      readonly do: 'list'
      readonly status: Task['status']
      readonly queue: string
      readonly pageSize: number
    }

const queues = ['a', 'b', 'c']
/** Older and newer than any that a client makes. */
const givenIds = ['00000000-0000-4000-8000-000000000001', 'ffffffff-ffff-4fff-bfff-ffffffffffff']

const runSpec = (children: fc.Arbitrary<readonly TaskSpec[]>): fc.Arbitrary<RunSpec> =>
  fc.record({
    ends: fc.constantFrom('finish', 'throw', 'fail', 'fail for good', 'fail for a while'),
    children,
    cancels: fc.constantFrom(false, false, false, true),
  })
const rarely = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 3 })

function taskSpec(children: fc.Arbitrary<readonly TaskSpec[]>, givenId: boolean): fc.Arbitrary<TaskSpec> {
  const facts = fc.record({
    job: fc.constantFrom('plain', 'brief', 'bare'),
    queue: fc.constantFrom(...queues),
    priority: fc.constantFrom(5, 5, 0, 9),
    maxAttempts: fc.integer({ min: 1, max: 3 }),
    runs: fc.array(runSpec(children), { maxLength: 3 }),
    key: fc.option(fc.constantFrom('one', 'two'), { nil: undefined }),
    keyUntil: fc.constantFrom('finished', 'started'),
    when: fc.option(
      fc.oneof(
        fc.constantFrom(0.001, 2, 60).map((delaySeconds) => ({ delaySeconds })),
        fc.constantFrom(-3600, -0.5, 0, 3).map((runAtSeconds) => ({ runAtSeconds })),
      ),
      { nil: {} },
    ),
    id: givenId ? rarely(fc.constantFrom(...givenIds)) : fc.constant(undefined),
  })
  return facts.map(({ when, key, keyUntil, id, ...rest }) => ({
    ...rest,
    ...when,
    ...(key === undefined ? {} : { key, keyUntil }),
    ...(id === undefined ? {} : { id }),
  }))
}
const child = taskSpec(fc.constant([]), false)
const task = taskSpec(fc.array(child, { maxLength: 3 }), true)
const inBulk = taskSpec(fc.array(child, { maxLength: 2 }), false)

const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 5, arbitrary: task.map((one) => ({ do: 'enqueue' as const, tasks: [one] as const })) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('enqueue many' as const),
      tasks: fc.array(inBulk, { maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), which: fc.nat(20) }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('retry' as const), which: fc.nat(20), force: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('pause', 'resume', 'resume'),
      queue: fc.constantFrom(...queues),
    }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('run' as const),
      queues: fc.oneof(fc.constant([]), fc.subarray(queues)),
      tick: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('wait' as const),
      seconds: fc.constantFrom(0.5, 1, 2, 60, 3600, 90_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('list' as const),
      status: fc.constantFrom('pending', 'failing', 'finished', 'failed', 'cancelled'),
      queue: fc.constantFrom(...queues),
      pageSize: fc.integer({ min: 1, max: 4 }),
    }),
  },
)

interface Payload {
  readonly tag: string
  readonly spec: TaskSpec
}
const payload = z.custom<Payload>((value) => typeof value === 'object')
const log = { debug() {}, info() {}, warn() {}, error() {} }
const { database, pool } = await testDatabase()
const clock = await createTestClock({ database })

/** What every handler does: set by the sequence that runs. */
let work: (payload: Payload, ctx: JobContext) => Promise<{ readonly run: RunSpec; readonly tags: string }>
const common = { payload, backoff: { jitter: 'none' } } as const
async function handle(given: Payload, ctx: JobContext): Promise<undefined> {
  const { run, tags } = await work(given, ctx)
  const { ends, children } = run
  for (const [n, one] of children.entries()) {
    ctx.enqueue(jobs[one.job], { tag: `${tags}.${n}`, spec: one }, optionsOf(one))
  }
  if (ends === 'throw') throw new Error('thrown by the handler')
  if (ends === 'fail') return ctx.fail('declared')
  if (ends === 'fail for good') return ctx.fail('declared', { retry: false })
  if (ends === 'fail for a while') return ctx.fail('declared', { retryAfterSeconds })
  return undefined
}
const jobs = {
  plain: defineJob({ ...common, id: 'plain', run: handle }),
  brief: defineJob({
    ...common,
    id: 'brief',
    result: z.string(),
    retention: { finishedDays: jobFacts.brief.finishedDays, failedDays: jobFacts.brief.failedDays },
    run: async (given, ctx) => {
      await handle(given, ctx)
      return given.tag
    },
  }),
  bare: defineJob({ ...common, id: 'bare', retention: { finishedDays: 'none' }, run: handle }),
}

const optionsOf = ({
  queue,
  priority,
  maxAttempts,
  id,
  key,
  keyUntil,
  delaySeconds,
  runAtSeconds,
}: TaskSpec) => ({
  queue,
  priority,
  maxAttempts,
  id,
  key,
  keyUntil,
  delaySeconds,
  runAt: runAtSeconds === undefined ? undefined : new Date(clock.date.getTime() + runAtSeconds * 1000),
})

/** The answer, or the code of the error. */
const answerOf = async (call: Promise<{ readonly outcome: string }>) => {
  try {
    return (await call).outcome
  } catch (error) {
    if (IztaError.is(error)) return error.code
    throw error
  }
}

/** One sequence of commands, each sent by another client than the one before. */
async function follow(commands: readonly Command[]): Promise<void> {
  await pool.query('truncate izta.task, izta.history, izta.queue')
  const clients = Array.from({ length: 3 }, () =>
    createIzta({ database, jobs: Object.values(jobs), clock, log }),
  )
  const model = new Model(clock.date.getTime())
  let enqueued = 0
  let served: readonly string[] = []

  work = async ({ tag }, ctx) => {
    const one = model.tasks.find((known) => known.tag === tag) ?? model.adopt(tag)
    if (one === undefined) throw new Error(`a task ${tag} runs that the model does not have`)
    one.id ??= ctx.task.id
    const objection = model.start(one, served)
    const run: RunSpec = one.spec.runs[ctx.attempt - 1] ?? { ends: 'finish', children: [], cancels: false }
    if (objection !== undefined) wrong.push(`${tag} was started although ${objection}`)
    if (ctx.attempt !== one.attempt + 1)
      wrong.push(`${tag} ran as attempt ${ctx.attempt}, not ${one.attempt + 1}`)
    if (run.cancels) expectSame(await answerOf(clients[0]!.cancel(one.id)), model.cancel(one.id))
    const tags = childrenTags(one)
    model.end(one, run)
    return { run, tags }
  }
  const wrong: string[] = []
  const expectSame = (real: unknown, modelled: unknown) => {
    if (real !== modelled) wrong.push(`the answer was ${String(real)}, not ${String(modelled)}`)
  }

  for (const [index, step] of commands.entries()) {
    const izta = clients[index % clients.length]!
    const target = () => {
      const known = [...model.tasks.map(({ id }) => id!), ...givenIds]
      return known[('which' in step ? step.which : 0) % known.length]!
    }
    switch (step.do) {
      case 'enqueue':
      case 'enqueue many': {
        const items = step.tasks.map((spec) => ({ spec, tag: `t${enqueued++}` }))
        const answers =
          step.do === 'enqueue'
            ? [await izta.enqueue(jobs[items[0]!.spec.job], items[0]!, optionsOf(items[0]!.spec))]
            : await izta.enqueueMany(
                items.map((item) => [jobs[item.spec.job], item, optionsOf(item.spec)] as const),
              )
        items.forEach(({ spec, tag }, n) => {
          const made = model.enqueue(spec, tag)
          if ('refusedFor' in made) {
            const { id, status } = made.refusedFor
            expect(answers[n]).toEqual({ id, created: false, status })
          } else {
            made.id ??= answers[n]!.id
            expect(answers[n]).toEqual({ id: made.id, created: true, status: 'pending' })
          }
        })
        break
      }
      case 'cancel': {
        const id = target()
        expect(await answerOf(izta.cancel(id))).toBe(model.cancel(id))
        break
      }
      case 'retry': {
        const id = target()
        expect(await answerOf(izta.retry(id, { force: step.force }))).toBe(model.retry(id, step.force))
        break
      }
      case 'pause':
      case 'resume':
        await izta.queues[step.do](step.queue)
        model.setQueue(step.queue, step.do === 'pause')
        break
      case 'run': {
        served = step.queues
        if (step.tick) {
          model.prune()
          // A tick makes the queues of the definitions, too, and keeps them.
          model.setQueue('default', false)
        }
        await drain(izta, { queues: step.queues, schedules: step.tick, concurrency: 1 })
        expect(wrong).toEqual([])
        expect(model.due(step.queues)).toEqual([])
        break
      }
      case 'wait':
        await clock.advance({ milliseconds: step.seconds * 1000 })
        model.now = clock.date.getTime()
        break
      case 'list': {
        const { do: _, ...filter } = step
        const listed = await Array.fromAsync(izta.list(filter), ({ id }) => id)
        const fits = ({ status, spec }: ModelTask) => status === step.status && spec.queue === step.queue
        expect(listed).toEqual(newestFirst(model.tasks.filter(fits)).map(({ id }) => id))
        break
      }
    }
    await compare(izta, model)
  }
  const found = await Promise.all(model.tasks.map(({ id, spec }) => clients[0]!.get(jobs[spec.job], id!)))
  expect(found.map((one) => one && factsOf(one))).toEqual(model.tasks.map(expectedOf))
}

const newestFirst = (tasks: readonly ModelTask[]) => tasks.toSorted((a, b) => (a.id! < b.id! ? 1 : -1))

async function compare(izta: Izta, model: Model): Promise<void> {
  const [tasks, counts, known] = await Promise.all([
    Array.fromAsync(izta.list({ pageSize: 1000 })),
    izta.counts({ since: new Date(0) }),
    izta.queues.list(),
  ])
  for (const { id, payload: given } of tasks) {
    const tag = (given as Payload | undefined)?.tag
    if (tag === undefined || model.tasks.some((one) => one.id === id)) continue
    const unnamed = model.tasks.find((one) => one.tag === tag) ?? model.adopt(tag)
    if (unnamed !== undefined) unnamed.id ??= id
  }
  model.drained()
  expect(tasks.map(factsOf)).toEqual(newestFirst(model.tasks).map(expectedOf))
  const counted: Record<string, Record<string, number>> = {}
  for (const { spec, status } of model.tasks) {
    counted[spec.queue] ??= { pending: 0, running: 0, failing: 0, failed: 0, finished: 0, cancelled: 0 }
    counted[spec.queue]![status]!++
  }
  expect(counts).toEqual(counted)
  const isListed = new Set(known.map(({ name }) => name))
  const dueIn = (name: string) => model.tasks.filter((one) => one.spec.queue === name && model.isDue(one))
  expect(known).toEqual(
    [...model.queues]
      .filter(([name, { mayBeGone }]) => !mayBeGone || isListed.has(name) || dueIn(name).length > 0)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { paused }]) => {
        const instants = dueIn(name).map(({ dueAt }) => dueAt)
        const oldestDueAt = instants.length === 0 ? undefined : new Date(Math.min(...instants))
        return { name, paused, due: instants.length, oldestDueAt }
      }),
  )
}

const factsOf = (one: Task) => ({
  id: one.id,
  tag: (one.payload as Payload | undefined)?.tag,
  job: one.job,
  queue: one.queue,
  priority: one.priority,
  status: one.status,
  attempt: one.attempt,
  maxAttempts: one.maxAttempts,
  losses: one.losses,
  key: one.key,
  parent: one.parent,
  enqueuedAt: one.enqueuedAt,
  dueAt: one.dueAt,
  errors: one.errors.map(({ code }) => code as string),
  code: 'code' in one ? (one.code as string) : undefined,
  result: one.status === 'finished' ? (one.result as unknown) : undefined,
  finishedAt: 'finishedAt' in one ? one.finishedAt : undefined,
  expiresAt: 'expiresAt' in one ? one.expiresAt : undefined,
})

const instant = (ms: number | undefined) => (ms === undefined ? undefined : new Date(ms))

const expectedOf = (one: ModelTask): ReturnType<typeof factsOf> => ({
  id: one.id!,
  tag: isBare(one) ? undefined : one.tag,
  job: one.spec.job,
  queue: one.spec.queue,
  priority: one.spec.priority,
  status: one.status,
  attempt: one.attempt,
  maxAttempts: one.spec.maxAttempts,
  losses: 0,
  key: one.spec.key,
  parent: one.parent,
  enqueuedAt: new Date(one.enqueuedAt),
  dueAt: new Date(one.dueAt),
  errors: one.errors,
  code: one.status === 'failing' || one.status === 'failed' ? one.errors.at(-1) : undefined,
  result: one.status === 'finished' && jobFacts[one.spec.job].keepsResult ? one.tag : undefined,
  finishedAt: isEnded(one) ? instant(one.finishedAt) : undefined,
  expiresAt: instant(one.expiresAt),
})

test(
  'whatever several clients ask for in turn, tasks, lists, counts and answers are those of the model',
  () => followAll(command, { maxLength: 25, runs: 25 }, follow),
  timeoutMs,
)
