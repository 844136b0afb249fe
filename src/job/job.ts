// Jobs: the definition of a kind of work, its schemas, handler and defaults.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import { z } from 'zod'
import { defaults } from '../defaults.ts'
import { DefinitionError } from '../errors.ts'
import { checkOptions, namePattern, nameRule } from '../options.ts'
import { backoffSchema, type Backoff, type BackoffOptions } from './retry.ts'
import type { JobContext } from './context.ts'

/** Any schema of the Standard Schema family: zod, Valibot, ArkType and others (https://standardschema.dev). */
export type Schema = StandardSchemaV1
export type SchemaInput<S> = S extends Schema ? StandardSchemaV1.InferInput<S> : undefined
export type SchemaOutput<S> = S extends Schema ? StandardSchemaV1.InferOutput<S> : undefined

/** How long the rows of ended tasks stay readable. */
export interface RetentionOptions {
  /** Days that finished tasks are kept. @default 7 */
  finishedDays?: number
  /** Days that failed and cancelled tasks are kept. @default 30 */
  failedDays?: number
  /** `'none'` keeps no payload and no result of finished tasks: only the bare id, for a day. */
  finished?: 'none'
}

export interface Retention {
  /** 0 keeps the bare row only. */
  readonly finishedSeconds: number
  readonly failedSeconds: number
}

/** What `defineJob` takes, beside the handler. */
export interface JobOptions<
  P extends Schema | undefined,
  R extends Schema | undefined,
  E extends Schema | undefined,
> {
  /**
   * The job's identity, stored in every row of it: a UUID or a readable name, 1 to 100 of A–Z a–z 0–9 . _ : -.
   * Renaming code never breaks rows; changing the id does.
   */
  id: string
  /** For people, in logs and lists. @default the id */
  name?: string
  /**
   * Schema of the payload. Its input is checked and stored by enqueue; its output reaches `run`, checked again.
   * Without one the job has no payload.
   */
  payload?: P
  /** Schema of the result: checked when the handler returns, stored, typed when read. Without one nothing is stored. */
  result?: R
  /** Schema of the declared error that `ctx.fail` takes: checked, stored, typed when read. */
  error?: E
  /** @default 'default' */
  queue?: string
  /** 0 (first) to 9 (last). @default 5 */
  priority?: number
  /** Runs that may fail before the task has failed, from 1 to 32,767. @default 3 */
  maxAttempts?: number
  /** After so long `ctx.signal` aborts and the attempt fails. 1 to 86,400. @default 60 */
  timeoutSeconds?: number
  /** Delay before the next attempt. @default 1 s × 2ⁿ with full jitter, 1 h at most */
  backoff?: BackoffOptions
  /** @default finished 7 days, failed and cancelled 30 days */
  retention?: RetentionOptions
}

/** A job without its handler: what callers need in order to enqueue and read, and nothing of the work itself. */
export interface JobDefinition<
  P extends Schema | undefined = Schema | undefined,
  R extends Schema | undefined = Schema | undefined,
  E extends Schema | undefined = Schema | undefined,
> {
  readonly id: string
  readonly name: string
  readonly payload: P
  readonly result: R
  readonly error: E
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  readonly timeoutSeconds: number
  readonly backoff: Backoff
  readonly retention: Retention
}

/** What a handler may return: the result schema's input, or anything when there is none (it is not stored). */
export type HandlerResult<R> = R extends Schema ? StandardSchemaV1.InferInput<R> : unknown

/** The work of a job. Called with the payload schema's output, checked anew at every run. */
export type Handler<P, R, E> = (
  payload: SchemaOutput<P>,
  ctx: JobContext<E>,
) => HandlerResult<R> | Promise<HandlerResult<R>>

/** A job that can be run. */
export interface Job<
  P extends Schema | undefined = Schema | undefined,
  R extends Schema | undefined = Schema | undefined,
  E extends Schema | undefined = Schema | undefined,
> extends JobDefinition<P, R, E> {
  run(payload: SchemaOutput<P>, ctx: JobContext<E>): HandlerResult<R> | Promise<HandlerResult<R>>
}

/** Any job, with its handler or without. */
// oxlint-disable-next-line typescript/no-explicit-any -- schemas are invariant: only `any` accepts every job
export type AnyJob = JobDefinition<any, any, any>

/** What `enqueue` takes for a job: the input of its payload schema. */
export type PayloadInput<J extends AnyJob> = SchemaInput<J['payload']>
/** What a finished task's `result` is: the output of the result schema. */
export type ResultOutput<J extends AnyJob> = SchemaOutput<J['result']>
/** What a failed task's `error` is: the output of the error schema. */
export type ErrorOutput<J extends AnyJob> = SchemaOutput<J['error']>

const days = z.number().min(0).max(36_500)
const jobOptions = z.strictObject({
  id: z.string().regex(namePattern, `expected ${nameRule}`),
  name: z.string().min(1).max(200).optional(),
  payload: z.unknown().optional(),
  result: z.unknown().optional(),
  error: z.unknown().optional(),
  queue: z.string().regex(namePattern, `expected ${nameRule}`).default(defaults.queue),
  priority: z.int().min(0).max(9).default(defaults.priority),
  maxAttempts: z.int().min(1).max(32_767).default(defaults.maxAttempts),
  timeoutSeconds: z.number().min(1).max(86_400).default(defaults.timeoutSeconds),
  backoff: backoffSchema,
  retention: z
    .strictObject({
      finishedDays: days.default(defaults.retention.finishedDays),
      failedDays: days.default(defaults.retention.failedDays),
      finished: z.literal('none').optional(),
    })
    .prefault({}),
  run: z.custom((value) => value === undefined || typeof value === 'function', 'expected a function').optional(),
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
 * import { z } from 'zod'
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
>(options: JobOptions<P, R, E> & { run: Handler<P, R, E> }): Job<P, R, E>
export function defineJob<
  P extends Schema | undefined = undefined,
  R extends Schema | undefined = undefined,
  E extends Schema | undefined = undefined,
>(options: JobOptions<P, R, E>): JobDefinition<P, R, E>
export function defineJob(options: JobOptions<Schema, Schema, Schema> & { run?: unknown }): AnyJob {
  const what = `Job ${typeof options?.id === 'string' ? `"${options.id}"` : 'definition'}`
  const checked = checkOptions(what, jobOptions, options, (_, message) => new DefinitionError(message))
  for (const role of ['payload', 'result', 'error'] as const) {
    const schema: unknown = checked[role]
    if (schema !== undefined && !isSchema(schema)) {
      throw new DefinitionError(
        `${what}: option "${role}" is no Standard Schema: pass a schema of zod, Valibot, ArkType or another library of https://standardschema.dev.`,
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
    timeoutSeconds: checked.timeoutSeconds,
    backoff: checked.backoff,
    retention: {
      finishedSeconds: retention.finished === 'none' ? 0 : Math.round(retention.finishedDays * secondsPerDay),
      failedSeconds: Math.round(retention.failedDays * secondsPerDay),
    },
    ...(run === undefined ? {} : { run }),
  })
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
 * @throws {DefinitionError} when the handler is not a function.
 */
export function implementJob<
  P extends Schema | undefined,
  R extends Schema | undefined,
  E extends Schema | undefined,
>(definition: JobDefinition<P, R, E>, run: Handler<P, R, E>): Job<P, R, E> {
  if (typeof run !== 'function') {
    throw new DefinitionError(`Job "${definition.id}": implementJob expects a function, got ${typeof run}.`)
  }
  return Object.freeze({ ...definition, run })
}

/** Whether the definition has its handler. */
export function isImplemented(job: AnyJob): job is Job {
  return 'run' in job && typeof job.run === 'function'
}

function isSchema(value: unknown): value is Schema {
  return (
    (typeof value === 'object' || typeof value === 'function') && value !== null && '~standard' in value
  )
}
