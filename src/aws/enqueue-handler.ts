// The enqueue function: takes tasks from whatever may invoke it, and answers in the way that this one reads.
import type { Context } from 'aws-lambda'
import * as z from 'zod/mini'
import { configOf, type Configured, type ResolvedConfig } from '../config.ts'
import { IztaError } from '../errors.ts'
import { checkOptions } from '../options.ts'
import { readJson, refuse, type EnqueueAnswer, type Refused } from './enqueue-answer.ts'
import { enqueueBatch, type EnqueueBatchAnswer } from './enqueue-batch.ts'
import { readEvent } from './enqueue-event.ts'
import type { EnqueueHttpResponse, HttpRequest } from './enqueue-http.ts'
import { enqueueRequest } from './enqueue-request.ts'
import { runInvocation, withinInvocation, type InvocationContext, type UnusedCallback } from './invocation.ts'

/** What `createEnqueueHandler` takes. */
export interface EnqueueHandlerOptions {
  readonly izta: Configured
  /**
   * The path that takes requests over HTTP; any other is answered with 404.
   * @default '/' where everything arrives (Function URL, catch-all route), else whatever the API or load balancer routes here
   */
  readonly path?: string
}

/**
 * The answer has the shape that the sender of the event reads. A sender that reads none gets a rejection for what was
 * not stored, so that Lambda repeats the event and keeps it as a dead letter at last.
 */
export interface EnqueueHandler {
  (
    event: unknown,
    context?: InvocationContext,
  ): Promise<EnqueueAnswer | EnqueueHttpResponse | EnqueueBatchAnswer>
  /** Fits `SQSHandler` of `aws-lambda`. */
  (event: unknown, context: Context, callback: UnusedCallback): Promise<EnqueueBatchAnswer>
  /** Fits `APIGatewayProxyHandler`, `APIGatewayProxyHandlerV2` and `ALBHandler`. */
  (event: unknown, context: Context, callback: UnusedCallback): Promise<EnqueueHttpResponse>
  /** Fits `EventBridgeHandler` and `ScheduledHandler`. */
  (event: unknown, context: Context, callback: UnusedCallback): Promise<void>
}

const enqueueHandlerOptions = z.strictObject({
  izta: z.custom<Configured>().check(z.describe('what createIzta returns')),
  path: z.optional(z.string().check(z.startsWith('/'), z.describe('a path that starts with /'))),
})

/**
 * The handler that takes tasks as `{ tasks: [{ job, payload, options }] }`. `job` is a job's id; options are those of
 * `izta.enqueue`, with `runAt` as ISO 8601 text. All tasks of a request are stored, or none. Repeating a request makes
 * no second task where each has its `id`; tasks of asynchronous events have one even if they bring none.
 *
 * - **HTTP** (Function URL, HTTP API, REST API, load balancer): the request is the body of a POST. Answers
 *   `{ tasks: [{ id, created }] }` with 202, else `{ error: { code, message, retryable, issues } }` with 400 (not JSON,
 *   wrong shape), 404, 405, 413 (too large), 422 (unknown job, payload or option refused), 500 or 503 (database).
 * - **SQS**: the request is the body of each message. Answers `batchItemFailures`, which the event source mapping must
 *   be told to read; throws when all have failed.
 * - **Any other invocation**, asynchronous ones included: the request is the event, or the `detail` of an EventBridge
 *   event. Throws for whatever was not stored. With `onError: 'answer'` beside `tasks`, as `izta/remote` sends, it
 *   answers what HTTP does, with `statusCode`, and throws nothing: only for callers that wait for the answer.
 *
 * @throws {OptionError} when an option is unknown or wrong.
 * @throws {IztaError} from the handler: `unknown-event`, or the code of the refusal.
 *
 * @example
 * ```ts
 * export const handler = createEnqueueHandler({ izta })
 * ```
 */
export function createEnqueueHandler(options: EnqueueHandlerOptions): EnqueueHandler {
  const { izta, path } = checkOptions('createEnqueueHandler', enqueueHandlerOptions, options)
  const resolved = configOf(izta)
  const handler = (event: unknown, context?: InvocationContext) =>
    runInvocation(context, undefined, async () => {
      const config = withinInvocation(resolved, context)
      const read = readEvent(event, context)
      if (read.kind === 'http') return answerHttp(config, read, path)
      if (read.kind === 'batch') return enqueueBatch(config, read)
      const answer = await enqueueRequest(config, read.body, read.ids)
      if (read.onError === 'throw' && 'error' in answer) throw errorOf(answer)
      return answer
    })
  return handler as EnqueueHandler
}

async function answerHttp(
  config: ResolvedConfig,
  request: HttpRequest,
  path: string | undefined,
): Promise<EnqueueHttpResponse> {
  const expected = path ?? (request.isRouted ? request.path : '/')
  if (request.path !== expected) {
    return request.respond(refuse(404, 'not-found', `Nothing is here: POST to ${expected}.`))
  }
  if (request.method !== 'POST') {
    return request.respond(refuse(405, 'method-not-allowed', 'Only POST is allowed here.'), { allow: 'POST' })
  }
  const read = readJson(request.body)
  return request.respond('error' in read ? read : await enqueueRequest(config, read.value))
}

const toldIssues = 5

/** The refusal as an error, whose message Lambda logs and puts into the dead letter. */
function errorOf({ error: { code, message, retryable, issues } }: Refused): IztaError {
  const told = issues
    .slice(0, toldIssues)
    .map(({ index, path, message: text }) =>
      [index, path, text].filter((part) => part !== undefined).join(' '),
    )
  return new IztaError(code, [message, ...told].join('\n'), { retryable })
}
