// The enqueue function: the same request by direct invoke or as the POST of a Function URL.
import * as z from 'zod/mini'
import { configOf, type Configured } from '../config.ts'
import { checkOptions } from '../options.ts'
import { enqueueRequest, refuse, type EnqueueAnswer } from './enqueue-request.ts'
import { runInvocation, type InvocationContext } from './invocation.ts'

/** What `createEnqueueHandler` takes. */
export interface EnqueueHandlerOptions {
  readonly izta: Configured
  /** The path that takes requests over HTTP; any other is answered with 404. @default '/' */
  readonly path?: string
}

/** What a Function URL or an HTTP API answers with (payload format 2.0). */
export interface EnqueueHttpResponse {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  /** JSON: the `EnqueueAnswer` without its status code. */
  readonly body: string
}

/** Never throws: what is wrong stands in the answer. */
export type EnqueueHandler = (
  event: unknown,
  context?: InvocationContext,
) => Promise<EnqueueAnswer | EnqueueHttpResponse>

/** What Lambda takes in a request: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
export const bodyLimitBytes = 6 * 1024 * 1024

const enqueueHandlerOptions = z.strictObject({
  izta: z.custom<Configured>().check(z.describe('what createIzta returns')),
  path: z._default(z.string().check(z.startsWith('/'), z.describe('a path that starts with /')), '/'),
})

/** The parts of payload format 2.0 that count here. */
const httpEvent = z.object({
  rawPath: z.catch(z.string(), '/'),
  requestContext: z.object({ http: z.object({ method: z.string() }) }),
  body: z.catch(z.string(), ''),
  isBase64Encoded: z.catch(z.boolean(), false),
})

/**
 * The handler that takes tasks: `{ tasks: [{ job, payload, options }] }`, by direct invoke or as the body of a POST.
 * `job` is a job's id; options are those of `izta.enqueue`, with `runAt` as ISO 8601 text. All tasks are stored, or
 * none. Repeating a request makes no second task where each has its `id`.
 *
 * Answers `{ tasks: [{ id, created }] }` with 202, else `{ error: { code, message, retryable, issues } }` with 400
 * (not JSON, wrong shape), 404, 405, 413 (too large), 422 (unknown job, payload or option refused) or 503 (database).
 * A direct invoke gets the same object with `statusCode` in it.
 *
 * @throws {OptionError} when an option is unknown or wrong.
 *
 * @example
 * ```ts
 * export const handler = createEnqueueHandler({ izta })
 * ```
 */
export function createEnqueueHandler(options: EnqueueHandlerOptions): EnqueueHandler {
  const { izta, path } = checkOptions('createEnqueueHandler', enqueueHandlerOptions, options)
  const config = configOf(izta)
  const answer = async (event: unknown): Promise<EnqueueAnswer | EnqueueHttpResponse> => {
    const request = httpEvent.safeParse(event)
    if (!request.success) return enqueueRequest(config, event)
    const { rawPath, requestContext, body, isBase64Encoded } = request.data
    if (rawPath !== path) return httpResponse(refuse(404, 'not-found', `Nothing is here: POST to ${path}.`))
    if (requestContext.http.method !== 'POST') {
      return httpResponse(refuse(405, 'method-not-allowed', 'Only POST is allowed here.'), { allow: 'POST' })
    }
    const read = readBody(isBase64Encoded ? Buffer.from(body, 'base64') : Buffer.from(body))
    return httpResponse('error' in read ? read : await enqueueRequest(config, read.value))
  }
  return (event, context) => runInvocation(context, undefined, () => answer(event))
}

const decoder = new TextDecoder('utf-8', { fatal: true })

function readBody(bytes: Buffer): ReturnType<typeof refuse> | { readonly value: unknown } {
  if (bytes.length > bodyLimitBytes) {
    const message = `The body is above the limit of ${bodyLimitBytes} bytes: split the tasks, or pass references.`
    return refuse(413, 'body-too-large', message)
  }
  try {
    return { value: JSON.parse(decoder.decode(bytes)) as unknown }
  } catch (error) {
    const what = error instanceof SyntaxError ? 'JSON' : 'UTF-8 text'
    return refuse(
      400,
      'invalid-json',
      `The body is not ${what}: send { "tasks": [{ "job": …, "payload": … }] }.`,
    )
  }
}

function httpResponse(
  { statusCode, ...body }: EnqueueAnswer,
  headers: Record<string, string> = {},
): EnqueueHttpResponse {
  return {
    statusCode,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  }
}
