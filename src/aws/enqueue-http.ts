// Requests over HTTP: Function URLs, HTTP APIs (payload formats 2.0 and 1.0), REST APIs and load balancers.
import { STATUS_CODES } from 'node:http'
import * as z from 'zod/mini'
import type { EnqueueAnswer } from './enqueue-answer.ts'

/** An answer to a Function URL, an API Gateway or a load balancer. */
export interface EnqueueHttpResponse {
  readonly statusCode: number
  /** For load balancers, which want it. */
  readonly statusDescription?: string
  /** Absent for a load balancer with multi-value headers. */
  readonly headers?: Record<string, string>
  /** For load balancers with multi-value headers, which read no others. */
  readonly multiValueHeaders?: Record<string, string[]>
  /** JSON: the `EnqueueAnswer` without its status code. */
  readonly body: string
  readonly isBase64Encoded: false
}

export interface HttpRequest {
  readonly kind: 'http'
  readonly method: string
  /** As the caller wrote it, without the stage of an HTTP API. */
  readonly path: string
  /** Whether a route of its own has brought the request here; a Function URL brings everything. */
  readonly isRouted: boolean
  readonly body: Buffer
  respond(answer: EnqueueAnswer, headers?: Readonly<Record<string, string>>): EnqueueHttpResponse
}

const content = { body: z.catch(z.string(), ''), isBase64Encoded: z.catch(z.boolean(), false) }
const text = z.catch(z.optional(z.string()), undefined)

/** https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html */
const format2 = z.object({
  rawPath: z.catch(z.string(), '/'),
  routeKey: text,
  requestContext: z.object({ stage: text, http: z.object({ method: z.string() }) }),
  ...content,
})

/** Format 1.0 of HTTP APIs, which REST APIs and load balancers have without `version`. */
const format1 = z.object({
  httpMethod: z.string(),
  path: z.catch(z.string(), '/'),
  version: text,
  resource: text,
  requestContext: z.catch(z.object({ stage: text, elb: z.optional(z.unknown()) }), { stage: undefined }),
  headers: z.optional(z.unknown()),
  multiValueHeaders: z.optional(z.unknown()),
  ...content,
})

/** Undefined when the event is no HTTP request. */
export function readHttpEvent(event: unknown): HttpRequest | undefined {
  const newer = format2.safeParse(event)
  if (newer.success) {
    const { rawPath, routeKey, requestContext } = newer.data
    return {
      kind: 'http',
      method: requestContext.http.method,
      path: withoutStage(rawPath, requestContext.stage),
      isRouted: !isCatchAll(routeKey),
      body: bodyOf(newer.data),
      respond: respondPlainly,
    }
  }
  const older = format1.safeParse(event)
  if (!older.success) return undefined
  const { httpMethod, path, version, resource, requestContext, headers, multiValueHeaders } = older.data
  const isBalanced = requestContext.elb !== undefined
  const hasManyHeaders = isObject(multiValueHeaders) && !isObject(headers)
  return {
    kind: 'http',
    method: httpMethod,
    // A REST API leaves its stage out.
    path: version === undefined ? path : withoutStage(path, requestContext.stage),
    isRouted: isBalanced || !isCatchAll(resource),
    body: bodyOf(older.data),
    respond: isBalanced ? balancedResponder(hasManyHeaders) : respondPlainly,
  }
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null

/** `$default`, `ANY /{proxy+}`, `/{proxy+}`: whatever is asked for. */
const isCatchAll = (route: string | undefined): boolean =>
  route === undefined || route === '$default' || /\{[^}]+\+\}$/.test(route)

function withoutStage(path: string, stage: string | undefined): string {
  if (stage === undefined || stage === '$default') return path
  if (path === `/${stage}`) return '/'
  return path.startsWith(`/${stage}/`) ? path.slice(stage.length + 1) : path
}

const bodyOf = ({ body, isBase64Encoded }: { body: string; isBase64Encoded: boolean }): Buffer =>
  Buffer.from(body, isBase64Encoded ? 'base64' : 'utf8')

function parts({ statusCode, ...body }: EnqueueAnswer, headers: Readonly<Record<string, string>>) {
  return {
    statusCode,
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    isBase64Encoded: false as const,
  }
}

const respondPlainly: HttpRequest['respond'] = (answer, headers = {}) => parts(answer, headers)

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html */
const balancedResponder =
  (hasManyHeaders: boolean): HttpRequest['respond'] =>
  (answer, added = {}) => {
    const { headers, ...rest } = parts(answer, added)
    const { statusCode } = rest
    const described = { ...rest, statusDescription: `${statusCode} ${STATUS_CODES[statusCode] ?? ''}`.trim() }
    if (!hasManyHeaders) return { ...described, headers }
    const multiValueHeaders = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name, [value]]),
    )
    return { ...described, multiValueHeaders }
  }
