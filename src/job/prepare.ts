// Turns a job, a payload and options into the task to insert, or refuses them before anything is sent.
import { uuidv7 } from 'uuidv7'
import * as z from 'zod/mini'
import { defaults } from '../defaults.ts'
import { OptionError, PayloadError } from '../errors.ts'
import type { EnqueueOptions } from './context.ts'
import type { AnyJob, Schema } from './job.ts'
import { encodeJson, undefinedText } from './json.ts'
import type { AddBytes } from './payload-sum.ts'
import { describeIssues, validate, type Validated } from './validate.ts'
import { withoutUndefined } from './without-undefined.ts'
import { checkOptions, intFrom, nameSchema, numberFrom, showValue } from '../options.ts'

/** Any UUID, of whatever version. */
export const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

const tenYears = 315_360_000
const latestInstant = new Date('9999-12-31T23:59:59Z')

const keySchema = z.string().check(
  z.refine((key) => key !== '' && Buffer.byteLength(key) <= defaults.keyLimitBytes),
  // Postgres' text type holds neither.
  z.refine((key) => key.isWellFormed() && !key.includes('\0')),
  z.describe(`1 to ${defaults.keyLimitBytes} bytes of text without NUL and lone surrogates`),
)

/** The options of one enqueued task; unknown ones are refused. */
export const enqueueOptionsSchema = z
  .strictObject({
    runAt: z.optional(
      z
        .date()
        .check(
          z.minimum(new Date(0)),
          z.maximum(latestInstant),
          z.describe('a valid Date from 1970 to 9999'),
        ),
    ),
    delaySeconds: z.optional(numberFrom(0, tenYears)),
    queue: z.optional(nameSchema),
    priority: z.optional(intFrom(0, 9)),
    maxAttempts: z.optional(intFrom(1, 32_767)),
    key: z.optional(keySchema),
    keyUntil: z.optional(z.enum(['finished', 'started'])),
    id: z.optional(z.string().check(z.regex(uuidPattern), z.describe('a UUID'))),
  })
  .check(
    z.refine((options) => options.runAt === undefined || options.delaySeconds === undefined, {
      error: 'expected either runAt or delaySeconds, not both',
      path: ['delaySeconds'],
    }),
    z.refine((options) => options.keyUntil === undefined || options.key !== undefined, {
      error: 'expected only together with key',
      path: ['keyUntil'],
    }),
  )

const noOptions: z.output<typeof enqueueOptionsSchema> = {}

/** A task as it goes into the table: checked, with its defaults filled in. */
export interface NewTask {
  readonly id: string
  readonly queue: string
  readonly job: string
  /** JSON text. */
  readonly payload: string
  readonly priority: number
  readonly maxAttempts: number
  readonly delayMs: number
  readonly runAt: Date | undefined
  readonly key: string | undefined
  readonly keyUntil: 'finished' | 'started' | undefined
  /** Whether the caller chose the id: only then can a task of this id be there from an earlier call. */
  readonly idWasGiven?: boolean
  /** W3C traceparent of what enqueues it. */
  readonly trace?: string | undefined
}

/** A task to insert. */
export interface PreparedTask extends NewTask {
  /** Whether the caller chose the id: only then can a task of this id be there from an earlier call. */
  readonly idWasGiven: boolean
}

/** What checking a payload answers: at once, or later where the schema is asynchronous. */
export type Prepared = PreparedTask | Promise<PreparedTask>

export interface PrepareLimits {
  readonly payloadLimitBytes: number
  /** Gets the size of each payload before its schema is asked, and throws when they are too large together. */
  readonly add?: AddBytes
}

/**
 * The task to insert. Options are checked at once; the payload is checked against the schema's input and stored as
 * it was given.
 */
export function prepareTask(
  job: AnyJob,
  payload: unknown,
  options: EnqueueOptions | undefined,
  limits: PrepareLimits,
  index?: number,
): Prepared {
  const what = `enqueue of job "${job.id}"`
  const checked =
    options === undefined
      ? noOptions
      : checkOptions(
          what,
          enqueueOptionsSchema,
          options,
          (option, message) => new OptionError(option, message, index),
        )
  const encoded = preparePayload(job, payload, limits, index)
  const make = (text: string): PreparedTask => ({
    id: checked.id?.toLowerCase() ?? uuidv7(),
    idWasGiven: checked.id !== undefined,
    queue: checked.queue ?? job.queue,
    job: job.id,
    payload: text,
    priority: checked.priority ?? job.priority,
    maxAttempts: checked.maxAttempts ?? job.maxAttempts,
    delayMs: Math.round((checked.delaySeconds ?? 0) * 1000),
    runAt: checked.runAt,
    key: checked.key,
    keyUntil: checked.key === undefined ? undefined : (checked.keyUntil ?? 'finished'),
  })
  return typeof encoded === 'string' ? make(encoded) : encoded.then(make)
}

/** The payload as JSON text, when it fits the job's schema, is JSON and is not too large. */
export function preparePayload(
  job: AnyJob,
  payload: unknown,
  limits: PrepareLimits,
  index?: number,
): string | Promise<string> {
  if (job.payload === undefined && payload !== undefined) {
    throw refusal(job, index, 'payload-refused', [
      {
        path: '',
        code: 'schema',
        message: `the job takes none, so leave it out or give the job a payload schema; got ${showValue(payload)}`,
      },
    ])
  }
  // JSON is checked first: schemas say less helpful things of other values, or nothing.
  const encoded = payload === undefined ? undefined : encodeJson(payload, limits.payloadLimitBytes)
  if (encoded?.ok === false) throw refusal(job, index, encoded.code, [encoded.issue])
  if (encoded !== undefined) limits.add?.(encoded.bytes)
  const accept = (result: Validated): string => {
    if (!result.ok) throw refusal(job, index, 'payload-refused', result.issues)
    return encoded?.text ?? undefinedText
  }
  // The schema sees the value as it is stored and as every run will see it again.
  const stored = encoded?.isShortened === true ? withoutUndefined(payload) : payload
  const validated = validate(job.payload as Schema | undefined, stored)
  return validated instanceof Promise ? validated.then(accept) : accept(validated)
}

function refusal(
  job: AnyJob,
  index: number | undefined,
  code: ConstructorParameters<typeof PayloadError>[0],
  issues: PayloadError['issues'],
): PayloadError {
  const located = index === undefined ? issues : issues.map((issue) => ({ index, ...issue }))
  return new PayloadError(code, `Payload of job "${job.id}" refused: ${describeIssues(issues)}.`, located, {
    index,
  })
}
