// A database whose connection string is a secret: fetched at run time, and again when the database refuses it.
import type { Database } from '../db/database.ts'
import { isDatabaseError } from '../db/transient.ts'
import {
  DatabaseAccessError,
  DatabaseUnreachableError,
  DefinitionError,
  IztaError,
  type DatabaseError,
} from '../errors.ts'
import { createAwsApi, type AwsApi, type AwsOptions } from './api.ts'

/** What `secretDatabase` takes. */
export interface SecretDatabaseOptions extends Omit<AwsOptions, 'region'> {
  /**
   * ARN of a secret in Secrets Manager or of a parameter in SSM Parameter Store. It holds a connection string, or
   * the JSON that RDS keeps (host, username, password and perhaps port and dbname).
   */
  secret: string
  /** Makes the adapter: `pgDatabase` or `neonDatabase`. */
  open: (connectionString: string) => Database
  /** The largest reply of the adapter, in bytes; `neonDefaults.replyLimitBytes` for Neon. @default no limit */
  replyLimitBytes?: number | undefined
  /** Replaces the signed calls, in tests. */
  api?: AwsApi
}

/** `arn:partition:service:region:account:resource` */
const arnPattern = /^arn:[\w-]+:(?<service>secretsmanager|ssm):(?<region>[\w-]+):\d+:(?:secret:|parameter\/)./

/**
 * A database that fetches its connection string with the first statement and keeps it. When the database refuses the
 * password, the secret has been rotated: it is fetched once more and the statement sent again, which is safe, since a
 * refused connection ran nothing. The caller's role needs `secretsmanager:GetSecretValue` or `ssm:GetParameter` on the
 * secret, and `kms:Decrypt` if that has a key of its own.
 *
 * @throws {DefinitionError} when `secret` is no ARN of a secret or parameter.
 * @throws {DatabaseAccessError} `database-secret`, from `query`, when the secret is missing, refused or unreadable.
 *
 * @example
 * ```ts
 * const secret = 'arn:aws:ssm:eu-central-1:111122223333:parameter/app/prod/database-url'
 * const izta = createIzta({ database: secretDatabase({ secret, open: pgDatabase }), jobs })
 * ```
 */
export function secretDatabase(options: SecretDatabaseOptions): Database {
  const { secret, open, replyLimitBytes } = options
  const { service, region } = arnPattern.exec(secret)?.groups ?? {}
  if (service === undefined || region === undefined) {
    throw new DefinitionError(
      `secretDatabase: "${secret.slice(0, 100)}" is no ARN of a Secrets Manager secret or an SSM parameter, such as arn:aws:ssm:eu-central-1:111122223333:parameter/app/prod/database-url.`,
    )
  }
  const api = options.api ?? createAwsApi({ ...options, region })
  const fetchValue = service === 'ssm' ? fetchParameter : fetchSecret
  let opened: Promise<Database> | undefined
  let connections: number | undefined

  function openAs(connectionString: string): Database {
    const database = open(connectionString)
    connections = database.connections
    return database
  }

  function current(): Promise<Database> {
    const opening = (opened ??= fetchValue(api, secret).then(
      (value) => openAs(readConnectionString(secret, value)),
      (error: unknown) => {
        throw unavailable(secret, error)
      },
    ))
    opening.catch(() => {
      if (opened === opening) opened = undefined
    })
    return opening
  }

  return {
    ...(replyLimitBytes === undefined ? {} : { replyLimitBytes }),
    get connections() {
      return connections
    },
    async query(statement, queryOptions) {
      const used = current()
      const database = await used
      try {
        return await database.query(statement, queryOptions)
      } catch (error) {
        // A statement that waited for a connection finds the old one closed when another has renewed it.
        const isStale =
          isDatabaseError(error) && (isPasswordRefused(error) || error.code === 'database-closed')
        if (!isStale || (error.code === 'database-closed' && opened === used)) throw error
        if (opened === used) {
          opened = undefined
          void database.close?.().catch(() => {})
        }
        return (await current()).query(statement, queryOptions)
      }
    },
    close: async () => (await opened)?.close?.(),
  }
}

/** Poolers and Neon say so in words, with a code of their own or none. A missing privilege is nothing that rotates. */
const isPasswordRefused = ({ code, sqlState }: DatabaseError) =>
  code === 'database-access' && sqlState !== '42501'

async function fetchSecret(api: AwsApi, secret: string): Promise<string> {
  const { body } = await api({
    service: 'secretsmanager',
    method: 'POST',
    path: '/',
    headers: jsonCall('secretsmanager.GetSecretValue'),
    body: { SecretId: secret },
  })
  return (body as { SecretString?: string } | undefined)?.SecretString ?? ''
}

async function fetchParameter(api: AwsApi, parameter: string): Promise<string> {
  const { body } = await api({
    service: 'ssm',
    method: 'POST',
    path: '/',
    headers: jsonCall('AmazonSSM.GetParameter'),
    body: { Name: nameOf(parameter), WithDecryption: true },
  })
  return (body as { Parameter?: { Value?: string } } | undefined)?.Parameter?.Value ?? ''
}

/** Names with a path start with a slash, which the ARN has only once: `parameter/app/url` is `/app/url`. */
function nameOf(parameterArn: string): string {
  const name = parameterArn.slice(parameterArn.indexOf(':parameter/') + ':parameter/'.length)
  return name.includes('/') ? `/${name}` : name
}

const jsonCall = (target: string) => ({
  'content-type': 'application/x-amz-json-1.1',
  'x-amz-target': target,
})

/** Nothing was sent to the database, so repeating is safe where AWS may answer later. */
function unavailable(secret: string, cause: unknown): Error {
  if (!IztaError.is(cause)) return cause as Error
  const options = { cause, retryable: cause.retryable }
  const message = `The database secret ${secret} could not be fetched: ${cause.message}`
  if (cause.retryable) return new DatabaseUnreachableError('database-secret', message, options)
  const advice =
    'See that it exists in this account and region, and that the role of the function may read it.'
  return new DatabaseAccessError('database-secret', `${message}\n${advice}`, options)
}

/** A connection string, or the JSON with host, username and password that RDS keeps. */
export function readConnectionString(secret: string, value: string): string {
  const text = value.trim()
  if (/^postgres(ql)?:\/\//.test(text)) return text
  const fields = parseFields(text)
  const { host, username, password } = fields
  if (host === undefined || username === undefined || password === undefined) {
    throw new DatabaseAccessError(
      'database-secret',
      `The database secret ${secret} holds neither a connection string (postgres://user:password@host/database) nor JSON with host, username and password: put one of them there.`,
      {},
    )
  }
  const user = `${encodeURIComponent(username)}:${encodeURIComponent(password)}`
  const port = fields['port'] === undefined ? '' : `:${fields['port']}`
  const name = encodeURIComponent(fields['dbname'] ?? fields['database'] ?? 'postgres')
  return `postgres://${user}@${host}${port}/${name}?sslmode=${fields['sslmode'] ?? 'verify-full'}`
}

function parseFields(text: string): Record<string, string | undefined> {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return {}
    return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, String(field)]))
  } catch {
    return {}
  }
}
