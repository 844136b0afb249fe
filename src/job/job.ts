// Jobs: the definition of a kind of work, its schemas, handler and defaults.
import * as z from 'zod/mini'
import { defaults } from '../defaults.ts'
import { DefinitionError } from '../errors.ts'
import { checkOptions, intFrom, nameSchema, numberFrom, showImported, showValue } from '../options.ts'
import { backoffSchema, type BackoffOptions } from './retry.ts'
import type { JobContext } from './context.ts'
import type {
  AnyJob,
  JobDefinition,
  Kept,
  Retention,
  Schema,
  SchemaInput,
  SchemaOutput,
} from './definition.ts'
import type { OutputCheck, PayloadCheck, ProducedFor } from './json-types.ts'

export type {
  AnyJob,
  ErrorOutput,
  JobDefinition,
  Kept,
  PayloadInput,
  ResultOutput,
  Retention,
  Schema,
  SchemaInput,
  SchemaOutput,
} from './definition.ts'

/** How long ended tasks can be read. */
export interface RetentionOptions<F extends number | 'none' = number | 'none'> {
  /**
   * Days that finished tasks are kept, from 0.001 to 36,500; `'none'` keeps no payload and no result of them, only the
   * id for a day.
   * @default 7
   */
  finishedDays?: F | undefined
  /** Days that failed and cancelled tasks are kept, from 0 to 36,500. @default 30 */
  failedDays?: number | undefined
}

/** Options of `defineJob`. `H` is the type of the handler, `unknown` without one; `F` that of `finishedDays`. */
export interface JobOptions<
  P extends Schema | undefined,
  R extends Schema | undefined,
  E extends Schema | undefined,
  H = unknown,
  F extends number | 'none' = number | 'none',
> {
  /**
   * The job's identity, stored in every row of it: a UUID or a readable name, 1 to 100 of A–Z a–z 0–9 . _ : -.
   * Renaming code never breaks rows; changing the id does.
   */
  id: string
  /** For people, in logs and lists. @default the id */
  name?: string | undefined
  /**
   * Schema of the payload. Its input is checked and stored by enqueue, so it must be JSON; its output, of any type,
   * reaches `run`, checked again. Without one the job has no payload.
   */
  payload?: (P & PayloadCheck<SchemaInput<P>>) | undefined
  /**
   * Schema of the result. The handler returns its input, of any type; its output is stored and read back, so it must be
   * JSON. Without one nothing is stored.
   */
  result?: (R & OutputCheck<SchemaOutput<R>, 'result'>) | undefined
  /** Schema of the declared error. `ctx.fail` takes its input; its output is stored and read back, so it must be JSON. */
  error?: (E & OutputCheck<SchemaOutput<E>, 'error'>) | undefined
  /** @default 'default' */
  queue?: string | undefined
  /** 0 (first) to 9 (last). @default 5 */
  priority?: number | undefined
  /** Runs that may fail before the task has failed, from 1 to 32,767. @default 3 */
  maxAttempts?: number | undefined
  /**
   * Runs whose process may die before the task has failed with code `lost`, from 1 to 32,767. They count apart from
   * attempts.
   * @default 3
   */
  maxLosses?: number | undefined
  /** After so long `ctx.signal` aborts and the attempt fails. 1 to 86,400. @default 60 */
  timeoutSeconds?: number | undefined
  /** Delay before the next attempt. @default 1 s × 2ⁿ with full jitter, 1 h at most */
  backoff?: BackoffOptions | undefined
  /** @default finished 7 days, failed and cancelled 30 days */
  retention?: RetentionOptions<F> | undefined
  /** The work. Without it the job is a definition, which `implementJob` completes elsewhere. */
  run?: (NoInfer<Handler<P, R, E>> & H) | undefined
}

/**
 * What a handler returns: the input of the result schema, or anything when there is none (it is not stored).
 *
 * Nothing but `any` lets the compiler skip the returned type, so that a job may return `ctx.enqueue(itself, …)`.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- see above
export type HandlerResult<R> = R extends Schema ? ProducedFor<SchemaInput<R>, SchemaOutput<R>> : any

/** The work of a job. Called with the payload schema's output, checked again at every run. */
export type Handler<P, R, E> = (
  payload: SchemaOutput<P>,
  ctx: JobContext<E>,
) => HandlerResult<R> | Promise<HandlerResult<R>>

/** What `defineJob` returns: a job with its handler, or a definition where there is none. */
export type DefinedJob<
  P extends Schema | undefined,
  R extends Schema | undefined,
  E extends Schema | undefined,
  H,
  F,
> = unknown extends H
  ? JobDefinition<P, R, E, KeptFor<F>>
  : [H] extends [undefined]
    ? JobDefinition<P, R, E, KeptFor<F>>
    : Job<P, R, E, KeptFor<F>>

type KeptFor<F> = F extends 'none' ? 'none' : 'all'

/** A job that can be run. */
export interface Job<
  P extends Schema | undefined = Schema | undefined,
  R extends Schema | undefined = Schema | undefined,
  E extends Schema | undefined = Schema | undefined,
  K extends Kept = Kept,
> extends JobDefinition<P, R, E, K> {
  run(payload: SchemaOutput<P>, ctx: JobContext<E>): HandlerResult<R> | Promise<HandlerResult<R>>
}

/** Above 0, which keeps nothing: that has one spelling, `'none'`. */
const finishedDaysSchema = z
  .union([numberFrom(0.001, 36_500), z.literal('none')])
  .check(z.describe(`a number from 0.001 to 36500, or 'none'`))
const jobOptions = z.strictObject({
  id: nameSchema,
  name: z.optional(
    z.string().check(z.minLength(1), z.maxLength(200), z.describe('1 to 200 characters of text')),
  ),
  payload: z.optional(z.unknown()),
  result: z.optional(z.unknown()),
  error: z.optional(z.unknown()),
  queue: z._default(nameSchema, defaults.queue),
  priority: z._default(intFrom(0, 9), defaults.priority),
  maxAttempts: z._default(intFrom(1, 32_767), defaults.maxAttempts),
  maxLosses: z._default(intFrom(1, 32_767), defaults.maxLosses),
  timeoutSeconds: z._default(numberFrom(1, 86_400), defaults.timeoutSeconds),
  backoff: backoffSchema,
  retention: z.prefault(
    z.strictObject({
      finishedDays: z._default(finishedDaysSchema, defaults.retention.finishedDays),
      failedDays: z._default(numberFrom(0, 36_500), defaults.retention.failedDays),
    }),
    {},
  ),
  run: z.optional(z.custom((value) => typeof value === 'function').check(z.describe('a function'))),
})

const secondsPerDay = 86_400

/**
 * Declares a job: an id, schemas, defaults, and the handler that does the work.
 *
 * A definition may stand without `run`, so that callers bundle the schemas and not the work; `implementJob` adds
 * the handler elsewhere.
 *
 * @throws {DefinitionError} when an option is unknown or out of its range, or a schema is none.
 *
 * @example
 * ```ts
 * import { defineJob } from 'izta'
 * import * as z from 'zod'
 *
 * export const divide = defineJob({
 *   id: 'divide',
 *   payload: z.object({ numerator: z.number(), denominator: z.number() }),
 *   result: z.number(),
 *   error: z.object({ code: z.literal('divide-by-zero') }),
 *   async run({ numerator, denominator }, ctx) {
 *     if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' }, { retry: false })
 *     return numerator / denominator
 *   },
 * })
 * ```
 */
export function defineJob<
  P extends Schema | undefined = undefined,
  R extends Schema | undefined = undefined,
  E extends Schema | undefined = undefined,
  H = unknown,
  F extends number | 'none' = number,
>(options: JobOptions<P, R, E, H, F>): DefinedJob<P, R, E, H, F>
export function defineJob(options: JobOptions<Schema, Schema, Schema>): AnyJob {
  const what = `Job ${typeof options?.id === 'string' ? `"${options.id}"` : 'definition'}`
  const checked = checkOptions(what, jobOptions, options, (_, message) => new DefinitionError(message))
  for (const role of ['payload', 'result', 'error'] as const) {
    const schema: unknown = checked[role]
    if (schema !== undefined && !isSchema(schema)) {
      throw new DefinitionError(
        `${what}: option "${role}": expected a schema of zod, Valibot, ArkType or another library of https://standardschema.dev; got ${showValue(schema)}.`,
      )
    }
  }
  const { retention, run } = checked
  return Object.freeze({
    id: checked.id,
    name: checked.name ?? checked.id,
    payload: options.payload,
    result: options.result,
    error: options.error,
    queue: checked.queue,
    priority: checked.priority,
    maxAttempts: checked.maxAttempts,
    maxLosses: checked.maxLosses,
    timeoutSeconds: checked.timeoutSeconds,
    backoff: checked.backoff,
    retention: retentionOf(retention),
    ...(run === undefined ? {} : { run }),
  })
}

function retentionOf({
  finishedDays,
  failedDays,
}: {
  finishedDays: number | 'none'
  failedDays: number
}): Retention {
  return {
    finished: finishedDays === 'none' ? 'none' : 'all',
    finishedSeconds: finishedDays === 'none' ? 0 : Math.round(finishedDays * secondsPerDay),
    failedSeconds: Math.round(failedDays * secondsPerDay),
  }
}

/**
 * Adds the handler to a definition that was declared without one.
 *
 * @example
 * ```ts
 * import { syncFeed } from './sync-feed.ts' // defineJob({ id: 'sync-feed', payload, result })
 *
 * export const syncFeedJob = implementJob(syncFeed, async ({ url }, ctx) => {
 *   const response = await fetch(url, { signal: ctx.signal })
 *   return { status: response.status }
 * })
 * ```
 *
 * @throws {DefinitionError} when the definition is none, or the handler is not a function.
 */
export function implementJob<
  P extends Schema | undefined,
  R extends Schema | undefined,
  E extends Schema | undefined,
  K extends Kept,
>(definition: JobDefinition<P, R, E, K>, run: Handler<P, R, E>): Job<P, R, E, K> {
  if (!isJob(definition)) {
    throw new DefinitionError(
      `implementJob: expected what defineJob returns; got ${showImported(definition)}.`,
    )
  }
  if (typeof run !== 'function') {
    throw new DefinitionError(
      `Job "${definition.id}": implementJob expects a function; got ${showValue(run)}.`,
    )
  }
  return Object.freeze({ ...definition, run })
}

/** Whether a value is what `defineJob` or `implementJob` returns, also of another copy of izta. */
export function isJob(value: unknown): value is AnyJob {
  return (
    typeof value === 'object' && value !== null && 'id' in value && 'backoff' in value && 'retention' in value
  )
}

/** Whether the definition has its handler. */
export function isImplemented(job: AnyJob): job is Job {
  return 'run' in job && typeof job.run === 'function'
}

function isSchema(value: unknown): value is Schema {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) return false
  const standard: unknown = Reflect.get(value, '~standard')
  return typeof standard === 'object' && standard !== null && 'validate' in standard
}
