// What callers know of a job: its identity, schemas and defaults, and the types that follow from them.
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type { PayloadOf } from './json-types.ts'
import type { Backoff } from './retry.ts'

/** Any schema of the Standard Schema family: zod, Valibot, ArkType and others (https://standardschema.dev). */
export type Schema = StandardSchemaV1
export type SchemaInput<S> = S extends Schema ? StandardSchemaV1.InferInput<S> : undefined
export type SchemaOutput<S> = S extends Schema ? StandardSchemaV1.InferOutput<S> : undefined

/** Whether finished tasks keep payload and result, or only their id. */
export type Kept = 'all' | 'none'

export interface Retention<K extends Kept = Kept> {
  readonly finished: K
  /** 0 where finished tasks keep only their id. */
  readonly finishedSeconds: number
  readonly failedSeconds: number
}

/** A job without its handler: what callers need in order to enqueue and read, and nothing of the work itself. */
export interface JobDefinition<
  P extends Schema | undefined = Schema | undefined,
  R extends Schema | undefined = Schema | undefined,
  E extends Schema | undefined = Schema | undefined,
  K extends Kept = Kept,
> {
  readonly id: string
  readonly name: string
  readonly payload: P
  readonly result: R
  readonly error: E
  readonly queue: string
  readonly priority: number
  readonly maxAttempts: number
  readonly maxLosses: number
  readonly timeoutSeconds: number
  readonly backoff: Backoff
  readonly retention: Retention<K>
}

/** Any job, with its handler or without. */
// oxlint-disable-next-line typescript/no-explicit-any -- schemas are invariant: only `any` accepts every job
export type AnyJob = JobDefinition<any, any, any, any>

/** What `enqueue` takes for a job: the input of its payload schema, with `JsonValue` in place of `unknown`. */
export type PayloadInput<J extends AnyJob> = PayloadOf<SchemaInput<J['payload']>>
/** What a finished task's `result` is: the output of the result schema. */
export type ResultOutput<J extends AnyJob> = SchemaOutput<J['result']>
/** What a failed task's `error` is: the output of the error schema. */
export type ErrorOutput<J extends AnyJob> = SchemaOutput<J['error']>
/** A payload or result of a finished task: undefined where the job keeps neither. */
export type IfKept<J extends AnyJob, Value> = J['retention']['finished'] extends 'all'
  ? Value
  : J['retention']['finished'] extends 'none'
    ? undefined
    : Value | undefined
