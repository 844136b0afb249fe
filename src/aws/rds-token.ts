// Passwords of RDS and Aurora that are made of the caller's AWS credentials: IAM database authentication.
import { AwsV4Signer } from 'aws4fetch'
import { DatabaseAccessError, IztaError, readableMessage } from '../errors.ts'
import {
  environmentCredentials,
  environmentRegion,
  withoutUndefined,
  type AwsCredentials,
  type AwsOptions,
} from './api.ts'

/** What `rdsToken` takes. */
export interface RdsTokenOptions extends Omit<AwsOptions, 'endpoint' | 'region'> {
  /** @default the region in the host's name, else AWS_REGION, else AWS_DEFAULT_REGION */
  region?: string | undefined
}

/** The connection to make a token for, as `pgDatabase` tells it. */
export interface RdsConnection {
  readonly host: string
  readonly port: number
  readonly user: string
  /** `false` without TLS. */
  readonly ssl: unknown
}

/** https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html */
const lifetimeSeconds = 15 * 60

/**
 * The option `password` of `pgDatabase` for a database that trusts IAM: each new connection gets a token of its own,
 * which AWS accepts for 15 minutes; a connection that is open stays open. Making one sends nothing. The caller's role
 * needs `rds-db:connect` on the database user, and the connection TLS, without which the token would be readable.
 *
 * @throws {DatabaseAccessError} `database-token`, from `query`, when the connection has no TLS, or no region or no
 * credentials are known.
 *
 * @example
 * ```ts
 * const host = 'app.abc123.eu-central-1.rds.amazonaws.com'
 * const database = pgDatabase({
 *   connectionString: `postgres://izta@${host}/app?sslmode=verify-full`,
 *   password: rdsToken(),
 * })
 * ```
 */
export function rdsToken(options: RdsTokenOptions = {}): (connection: RdsConnection) => Promise<string> {
  return async ({ host, port, user, ssl }) => {
    if (!ssl) {
      throw refusal(
        `The connection to ${host} is without TLS, so its token was not made: add ?sslmode=verify-full to the connection string.`,
      )
    }
    const region = options.region ?? regionOf(host) ?? environmentRegion()
    if (region === undefined) {
      throw refusal(`No AWS region for ${host}: give rdsToken the option region, or set AWS_REGION.`)
    }
    const credentials = await credentialsOf(options, host)
    const url = new URL(`https://${host}:${port}/`)
    url.search = new URLSearchParams({
      Action: 'connect',
      DBUser: user,
      'X-Amz-Expires': String(lifetimeSeconds),
    }).toString()
    const signer = new AwsV4Signer({
      ...withoutUndefined(credentials),
      url: url.href,
      method: 'GET',
      service: 'rds-db',
      region,
      signQuery: true,
    })
    const { url: signed } = await signer.sign()
    // URLSearchParams writes a space as a plus, which SigV4 does not know.
    return signed.href.slice('https://'.length).replaceAll('+', '%20')
  }
}

/** `app.abc123.eu-central-1.rds.amazonaws.com`; names of your own do not tell it. */
const regionOf = (host: string) => /\.([a-z0-9-]+)\.rds\.amazonaws\.com(?:\.cn)?$/.exec(host)?.[1]

async function credentialsOf(options: RdsTokenOptions, host: string): Promise<AwsCredentials> {
  try {
    return await (options.credentials ?? environmentCredentials)()
  } catch (cause) {
    throw new DatabaseAccessError(
      'database-token',
      `The token for ${host} could not be made without AWS credentials: ${readableMessage(cause)}`,
      // A provider asks other services, which may answer the next time.
      { cause, retryable: IztaError.is(cause) ? cause.retryable : true },
    )
  }
}

const refusal = (message: string) => new DatabaseAccessError('database-token', message, { retryable: false })
