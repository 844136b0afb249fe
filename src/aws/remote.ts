// `izta/remote`: enqueues through the enqueue function, for services without access to the database.
import * as z from 'zod/mini'
import { backoffMs, pause, systemClock } from '../clock.ts'
import type { EnqueueItem } from '../client/enqueue.ts'
import { defaults } from '../defaults.ts'
import { DefinitionError, IztaError, OptionError, UnknownJobError } from '../errors.ts'
import type { EnqueueOptions, EnqueueArguments } from '../job/context.ts'
import { isJob, type AnyJob, type PayloadInput } from '../job/job.ts'
import { checkOptions, numberFrom } from '../options.ts'
import { type NewTask, prepareTask } from '../job/prepare.ts'
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
  /** Seconds to wait for the answer to one try, above 0. @default 30 */
  timeoutSeconds?: number | undefined
  /** Replaces the signed calls, in tests. */
  api?: AwsApi | undefined
}

/** The enqueueing half of `Izta`. */
export interface RemoteIzta {
  /**
   * Stores a task and wakes a runner of its queue. Payload and options are checked here before anything is sent.
   *
   * @throws {PayloadError} the schema refuses the payload, here or there, or it is too large.
   * @throws {OptionError} an option is unknown or out of its range.
   * @throws {UnknownJobError} this instance or the function does not have the job.
   * @throws {DatabaseError} the function cannot use its database.
   * @throws {IztaError} `aws-refused` or `aws-unreachable`: the function could not be called.
   */
  enqueue<J extends AnyJob>(job: J, ...rest: EnqueueArguments<J>): Promise<RemotelyEnqueued>
  /** As `izta.enqueueMany`: all or nothing, at most 10,000 tasks and 6 MiB a call. */
  enqueueMany<J extends AnyJob>(
    job: J,
    payloads: readonly PayloadInput<J>[],
    options?: Omit<EnqueueOptions, 'id' | 'key' | 'keyUntil'>,
  ): Promise<RemotelyEnqueued[]>
  enqueueMany<const Jobs extends readonly AnyJob[]>(
    items: readonly [...{ [N in keyof Jobs]: EnqueueItem<Jobs[N]> }],
  ): Promise<RemotelyEnqueued[]>
  enqueueMany(items: readonly EnqueueItem[]): Promise<RemotelyEnqueued[]>
}

type Item = readonly [job: AnyJob, payload: unknown, options: EnqueueOptions | undefined]

const remoteOptions = z.strictObject({
  functionName: z.optional(
    z.string().check(z.minLength(1), z.describe('the name or ARN of the enqueue function')),
  ),
  url: z.optional(z.url({ protocol: /^https?$/ }).check(z.describe('the URL of the enqueue function'))),
  jobs: z
    .array(z.custom<AnyJob>(isJob).check(z.describe('what defineJob or implementJob returns')))
    .check(z.describe('an array of jobs')),
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
  const { functionName, url, timeoutSeconds, ...checked } = checkOptions(
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
  const jobs = new Map(checked.jobs.map((job) => [job.id, job]))
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

  function prepare([job, payload, taskOptions]: Item, index?: number): Promise<NewTask> | NewTask {
    if (jobs.has(job?.id)) return prepareTask(job, payload, taskOptions, defaults, index)
    throw new UnknownJobError(
      String(job?.id),
      `Job "${String(job?.id)}" is not among the jobs of createRemoteIzta({ jobs }): add it there.`,
    )
  }

  async function enqueueAll(items: readonly Item[], isBulk: boolean): Promise<RemotelyEnqueued[]> {
    if (items.length > defaults.tasksPerCall) {
      throw new OptionError(
        'tasks',
        `enqueueMany: ${items.length} tasks are above the limit of ${defaults.tasksPerCall} a call: split them.`,
      )
    }
    const tasks = await Promise.all(items.map((item, index) => prepare(item, isBulk ? index : undefined)))
    const body = { tasks: tasks.map((task, index) => requestOf(items[index] as Item, task)) }
    const bytes = Buffer.byteLength(JSON.stringify(body))
    if (bytes > requestLimitBytes) {
      throw new OptionError(
        'tasks',
        `The request has ${bytes} bytes, and Lambda takes ${requestLimitBytes}: split it, or pass references in place of large payloads.`,
      )
    }
    const { answer, isRepeat } = await sendRepeatedly(() => send(body))
    return tasks.map(({ id }, index) => {
      const { id: takenId, created } = answer[index] ?? { id, created: true }
      // The call whose answer was lost may have made it: an id made here is no stranger.
      const isOurs = isRepeat && takenId === id && items[index]?.[2]?.id === undefined
      return { id: takenId, created: created || isOurs }
    })
  }

  return {
    async enqueue(job: AnyJob, payload?: unknown, taskOptions?: EnqueueOptions) {
      const [enqueued] = await enqueueAll([[job, payload, taskOptions]], false)
      return enqueued as RemotelyEnqueued
    },
    async enqueueMany(
      first: AnyJob | readonly EnqueueItem[],
      payloads?: readonly unknown[],
      taskOptions?: EnqueueOptions,
    ) {
      if (!isJob(first))
        return enqueueAll(
          first.map(([job, ...rest]) => [job, rest[0], rest[1]]),
          true,
        )
      const items = (payloads ?? []).map((payload): Item => [first, payload, taskOptions])
      return enqueueAll(items, true)
    },
  }
}

/** The id goes along, so that a repeat of the request makes nothing. */
function requestOf([job, payload, options]: Item, { id }: NewTask) {
  return {
    job: job.id,
    ...(payload === undefined ? {} : { payload }),
    options: { ...options, id },
  }
}

/** Repeats what may succeed later; every repeat carries the ids of the first try. */
async function sendRepeatedly(send: () => Promise<AwsAnswer>) {
  for (let attempt = 1; ; attempt++) {
    try {
      return { answer: readAnswer(await send()), isRepeat: attempt > 1 }
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
