// `izta/remote`: enqueues through the enqueue function, for services without access to the database.
import * as z from 'zod/mini'
import { backoffMs, pause, systemClock } from '../clock.ts'
import type { Enqueuing } from '../client/enqueue.ts'
import { bulkItems, readItem, readItems, type Item, type ItemReader } from '../client/items.ts'
import { defaults } from '../defaults.ts'
import { DefinitionError, IztaError, OptionError } from '../errors.ts'
import type { EnqueueOptions } from '../job/context.ts'
import { jobsById } from '../job/by-id.ts'
import { isJob, type AnyJob } from '../job/job.ts'
import { checkOptions, intFrom, numberFrom } from '../options.ts'
import type { PreparedTask } from '../job/prepare.ts'
import { createAwsApi, type AwsAnswer, type AwsApi, type AwsCredentials, type AwsOptions } from './api.ts'
import { readAnswer, type RemotelyEnqueued } from './remote-answer.ts'

export type { RemotelyEnqueued }

/** What `createRemoteIzta` takes: the enqueue function's name or its URL, and the jobs. */
export interface RemoteIztaOptions extends AwsOptions {
  /** Name or ARN of the enqueue function; the caller needs `lambda:InvokeFunction` on it. */
  functionName?: string | undefined
  /**
   * URL of the enqueue function, signed with SigV4; the caller needs `lambda:InvokeFunctionUrl` and
   * `lambda:InvokeFunction`. Its region is read from the host name.
   */
  url?: string | undefined
  /** The definitions of the jobs; their handlers may be left out. */
  jobs: readonly AnyJob[]
  /** The largest payload, as the function's own `createIzta` has it. 1 to 67,108,864. @default 1048576 */
  payloadLimitBytes?: number | undefined
  /** Seconds to wait for the answer to one try, above 0. @default 30 */
  timeoutSeconds?: number | undefined
  /** Replaces the signed calls, in tests. */
  api?: AwsApi | undefined
}

/**
 * The enqueueing half of `Izta`, with the same types and checks. Its calls throw what those of `Izta` throw, whether a
 * task is refused here or by the function, and an `IztaError` with `aws-refused` or `aws-unreachable` when the function
 * could not be called, or `unexpected-answer` when what answered is no enqueue function. At most 6 MiB a call.
 */
export type RemoteIzta = Pick<Enqueuing<RemotelyEnqueued, unknown>, 'enqueue' | 'enqueueMany'>

const remoteOptions = z.strictObject({
  functionName: z.optional(
    z.string().check(z.minLength(1), z.describe('the name or ARN of the enqueue function')),
  ),
  url: z.optional(z.url({ protocol: /^https?$/ }).check(z.describe('the URL of the enqueue function'))),
  jobs: z
    .array(z.custom<AnyJob>(isJob).check(z.describe('what defineJob or implementJob returns')))
    .check(z.describe('an array of jobs')),
  payloadLimitBytes: z._default(intFrom(1, 64 * 1024 * 1024), defaults.payloadLimitBytes),
  timeoutSeconds: z._default(numberFrom(1, 900), 30),
  region: z.optional(z.string()),
  endpoint: z.optional(z.string()),
  credentials: z.optional(z.custom<() => Promise<AwsCredentials> | AwsCredentials>()),
  api: z.optional(z.custom<AwsApi>()),
})

/** The body of a synchronous invocation: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
const requestLimitBytes = 6 * 1024 * 1024
const attempts = 4
const remotePauses = { firstMs: 200, longestMs: 5_000 }

/**
 * Makes an object with the typed `enqueue` and `enqueueMany` of izta that goes through the deployed enqueue function.
 * A call whose answer was lost is repeated with the same ids, so no task is made twice.
 *
 * @throws {DefinitionError} when an option is wrong, or not exactly one of `functionName` and `url` is given.
 *
 * @example
 * ```ts
 * const izta = createRemoteIzta({ functionName: 'app-prod-enqueue', jobs: [divide] })
 * const { id } = await izta.enqueue(divide, { numerator: 1, denominator: 2 })
 * ```
 */
export function createRemoteIzta(options: RemoteIztaOptions): RemoteIzta {
  const fail = (_: string, message: string) => new DefinitionError(message)
  const { functionName, url, timeoutSeconds, payloadLimitBytes, ...checked } = checkOptions(
    'createRemoteIzta',
    remoteOptions,
    options,
    fail,
  )
  if ((functionName === undefined) === (url === undefined)) {
    throw new DefinitionError(
      'createRemoteIzta: give either "functionName" or "url" of the enqueue function.',
    )
  }
  const jobs = jobsById('createRemoteIzta', checked.jobs)
  const region = checked.region ?? regionOf(functionName ?? url)
  const api = checked.api ?? createAwsApi({ ...checked, region })

  function send(body: object): Promise<AwsAnswer> {
    const common = { service: 'lambda', method: 'POST', body, timeoutSeconds, attempts: 1 } as const
    if (url !== undefined) {
      const { origin, pathname, search } = new URL(url)
      const headers = { 'content-type': 'application/json' }
      return api({ ...common, origin, path: `${pathname}${search}`, headers })
    }
    return api({
      ...common,
      body: { ...body, onError: 'answer' },
      path: `/2015-03-31/functions/${encodeURIComponent(functionName ?? '')}/invocations`,
      headers: { 'x-amz-invocation-type': 'RequestResponse' },
    })
  }

  const reader: ItemReader = {
    jobs,
    payloadLimitBytes,
    callLimitBytes: requestLimitBytes,
    madeBy: 'createRemoteIzta',
  }

  async function enqueueAll(
    items: readonly Item[],
    tasks: readonly PreparedTask[],
  ): Promise<RemotelyEnqueued[]> {
    if (tasks.length === 0) return []
    const body = { tasks: tasks.map((task, index) => requestOf(items[index] as Item, task)) }
    const bytes = Buffer.byteLength(JSON.stringify(body))
    if (bytes > requestLimitBytes) {
      throw new OptionError(
        'tasks',
        `The request has ${bytes} bytes, and Lambda takes ${requestLimitBytes}: split it, or pass references in place of large payloads.`,
      )
    }
    const ids = tasks.map(({ id }) => id)
    const { answer, isRepeat } = await sendRepeatedly(async () => readAnswer(await send(body), ids))
    // The call whose answer was lost may have made it: an id that was made here is in no other hands.
    const isOurs = ({ id, idWasGiven }: PreparedTask, takenId: string) =>
      isRepeat && takenId === id && !idWasGiven
    return tasks.map((task, index) => {
      const { id, created } = answer[index] as RemotelyEnqueued
      return { id, created: created || isOurs(task, id) }
    })
  }

  return {
    async enqueue(job: AnyJob, payload?: unknown, taskOptions?: EnqueueOptions) {
      const item: Item = [job, payload, taskOptions]
      const [enqueued] = await enqueueAll([item], [await readItem(reader, item)])
      return enqueued as RemotelyEnqueued
    },
    async enqueueMany(first: unknown, payloads?: unknown, taskOptions?: EnqueueOptions) {
      const items = bulkItems(first, payloads, taskOptions)
      return enqueueAll(items, await readItems(reader, items))
    },
  }
}

/** The id goes along, so that a repeat of the request makes nothing. */
function requestOf([job, payload, options]: Item, { id }: PreparedTask) {
  return {
    job: job.id,
    ...(payload === undefined ? {} : { payload }),
    options: { ...options, id },
  }
}

/** Repeats what may succeed later; every repeat carries the ids of the first try. */
async function sendRepeatedly<T>(send: () => Promise<T>): Promise<{ answer: T; isRepeat: boolean }> {
  for (let attempt = 1; ; attempt++) {
    try {
      return { answer: await send(), isRepeat: attempt > 1 }
    } catch (error) {
      if (attempt >= attempts || !IztaError.is(error) || !error.retryable) throw error
    }
    await pause(systemClock, backoffMs(attempt, remotePauses))
  }
}

/** `arn:aws:lambda:REGION:…` or `https://ID.lambda-url.REGION.on.aws/`. */
function regionOf(target: string | undefined): string | undefined {
  return /^arn:[\w-]+:lambda:([\w-]+):|\.lambda-url\.([\w-]+)\.on\.aws/
    .exec(target ?? '')
    ?.slice(1)
    .find(Boolean)
}
