// Signed calls to the few AWS operations izta needs. The SDK would add half a megabyte a client to every bundle.
import { AwsClient } from 'aws4fetch'
import { backoffMs, pause, systemClock } from '../clock.ts'
import { environment } from '../environment.ts'
import { IztaError } from '../errors.ts'

/** Where and as whom to call AWS. In Lambda everything comes from the environment. */
export interface AwsOptions {
  /** @default AWS_REGION, else AWS_DEFAULT_REGION */
  region?: string | undefined
  /**
   * Asked before each try; a provider of the AWS SDK fits.
   * @default AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN
   */
  credentials?: (() => Promise<AwsCredentials> | AwsCredentials) | undefined
  /** One address for every service, for emulators. @default AWS_ENDPOINT_URL, else AWS's own addresses */
  endpoint?: string | undefined
}

/** As the SDK's credential providers give them. */
export interface AwsCredentials {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken?: string | undefined
}

/** AWS refused a call, could not be reached, or ran a function that failed. */
export class AwsError extends IztaError {
  override readonly name = 'AwsError'
  /** HTTP status; 0 when no answer came. */
  readonly status: number
  /** AWS's own name of the error, for example `ResourceNotFoundException`. */
  readonly type: string
  constructor(message: string, options: { status: number; type: string; cause?: unknown }) {
    const { status, type } = options
    // The older services answer a throttled call with 400.
    const retryable = status === 0 || status === 429 || status >= 500 || /Throttl|TooManyRequests/.test(type)
    super(status === 0 ? 'aws-unreachable' : 'aws-refused', message, {
      retryable,
      ...('cause' in options ? { cause: options.cause } : {}),
    })
    this.status = status
    this.type = type
  }
}

/** One call. Every call is made so that a repeat does no harm. */
export interface AwsRequest {
  readonly service: 'lambda' | 'scheduler' | 'secretsmanager' | 'ssm'
  readonly method: 'POST' | 'PUT' | 'GET' | 'DELETE'
  readonly path: string
  /** The address in place of the service's own, for Function URLs. */
  readonly origin?: string | undefined
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  /**
   * An invocation for new work: it does not go on with the chain of invocations that this one belongs to, which Lambda
   * stops at 16. @default false
   */
  readonly beginsChain?: boolean
  /** For one try. @default 10 */
  readonly timeoutSeconds?: number
  /** Tries in all; 1 for callers that must know of each. @default 4 */
  readonly attempts?: number
}

/** What AWS answered; `body` is undefined when it is empty. */
export interface AwsAnswer {
  readonly status: number
  readonly body: unknown
}

/**
 * Calls AWS, a few times if need be.
 *
 * @throws {AwsError}
 */
export type AwsApi = (request: AwsRequest) => Promise<AwsAnswer>

const awsPauses = { firstMs: 200, longestMs: 5_000 }

export function createAwsApi(options: AwsOptions = {}): AwsApi {
  const region = options.region ?? environmentRegion()
  const endpoint = options.endpoint ?? environment('AWS_ENDPOINT_URL')
  const credentials = options.credentials ?? environmentCredentials

  async function call(request: AwsRequest): Promise<AwsAnswer> {
    const { service, method, path, headers = {}, body, beginsChain = false, timeoutSeconds = 10 } = request
    if (region === undefined) {
      throw new AwsError(`No AWS region for ${service}: set AWS_REGION or the option region.`, {
        status: 400,
        type: 'NoRegion',
      })
    }
    const client = new AwsClient({ ...withoutUndefined(await credentials()), region, service, retries: 0 })
    const origin = request.origin ?? endpoint ?? `https://${service}.${region}.${domainOf(region)}`
    // Passes the chain of invocations on, so that Lambda can stop a runaway loop:
    // https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
    const trace = beginsChain ? undefined : environment('_X_AMZN_TRACE_ID')
    try {
      const response = await client.fetch(`${origin.replace(/\/$/, '')}${path}`, {
        method,
        headers: { ...headers, ...(trace === undefined ? {} : { 'x-amzn-trace-id': trace }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: AbortSignal.timeout(timeoutSeconds * 1000),
      })
      return readAnswer({ ...request, region }, response, await response.text())
    } catch (cause) {
      if (IztaError.is(cause)) throw cause
      throw new AwsError(`AWS ${service} ${path} gave no answer (${reasonOf(cause)}).`, {
        status: 0,
        type: 'Unreachable',
        cause,
      })
    }
  }

  return async (request) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await call(request)
      } catch (error) {
        if (attempt >= (request.attempts ?? 4) || !IztaError.is(error) || !error.retryable) throw error
        await pause(systemClock, backoffMs(attempt, awsPauses))
      }
    }
  }
}

function readAnswer(
  { service, path, region }: AwsRequest & { readonly region: string },
  { status, headers }: Response,
  text: string,
): AwsAnswer {
  // An invoked function that threw, crashed or ran into its timeout is reported with 200.
  const functionError = headers.get('x-amz-function-error')
  if (functionError !== null) {
    const message = `The function at ${path} failed (${functionError}): ${text.slice(0, 300)}`
    throw new AwsError(message, { status: 502, type: `FunctionError.${functionError}` })
  }
  const body = parse(text)
  // The functions of izta tell by themselves what is wrong; AWS's errors look otherwise.
  if ((status >= 200 && status < 300) || isObject(body?.['error'])) return { status, body }
  const type = headers.get('x-amzn-errortype')?.split(':')[0] ?? errorType(body)
  const advice =
    type === 'ResourceNotFoundException' ? ` See that the name is right and that it is in ${region}.` : ''
  throw new AwsError(`AWS ${service} ${path} answered ${status} ${type}: ${text.slice(0, 300)}${advice}`, {
    status,
    type,
  })
}

export const environmentRegion = () => environment('AWS_REGION') ?? environment('AWS_DEFAULT_REGION')

export function environmentCredentials(): AwsCredentials {
  const accessKeyId = environment('AWS_ACCESS_KEY_ID')
  const secretAccessKey = environment('AWS_SECRET_ACCESS_KEY')
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new AwsError(
      'No AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or pass the option credentials (a provider of the AWS SDK fits).',
      { status: 401, type: 'NoCredentials' },
    )
  }
  return { accessKeyId, secretAccessKey, sessionToken: environment('AWS_SESSION_TOKEN') }
}

export const withoutUndefined = ({ accessKeyId, secretAccessKey, sessionToken }: AwsCredentials) => ({
  accessKeyId,
  secretAccessKey,
  ...(sessionToken === undefined ? {} : { sessionToken }),
})

/** https://docs.aws.amazon.com/general/latest/gr/rande.html */
const domainOf = (region: string) => (region.startsWith('cn-') ? 'amazonaws.com.cn' : 'amazonaws.com')

/** undici says "fetch failed" and why in the cause. */
function reasonOf(error: unknown): string {
  const reason = error instanceof Error && error.cause instanceof Error ? error.cause : error
  if (!(reason instanceof Error)) return String(reason)
  return 'code' in reason && typeof reason.code === 'string' ? reason.code : reason.message
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isObject(value) ? value : undefined
  } catch {
    return undefined
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

function errorType(body: Record<string, unknown> | undefined): string {
  const type = body?.['__type'] ?? body?.['Code']
  return typeof type === 'string' ? (type.split('#').at(-1) ?? type) : 'Error'
}
