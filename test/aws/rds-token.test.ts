// IAM tokens: their form, checked against AWS's documented algorithm, and how connections use them.
import { createHash, createHmac } from 'node:crypto'
import { DatabaseAccessError, DatabaseError } from 'izta'
import { rdsToken } from 'izta/lambda'
import { pgDatabase } from 'izta/pg'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { testDatabase } from '../support/database.ts'

const { url } = await testDatabase({ migrated: false })

const host = 'app.abc123.eu-central-1.rds.amazonaws.com'
const connection = { host, port: 5432, user: 'izta', ssl: {} }
const keys = { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' }

beforeEach(() => {
  vi.useFakeTimers({ now: new Date('2026-11-24T10:00:00.500Z'), toFake: ['Date'] })
})
afterEach(() => {
  vi.useRealTimers()
  vi.unstubAllEnvs()
})

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex')
const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest()
const encode = (text: string) =>
  encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`,
  )

/**
 * The token as the page "Create a signed AWS API request" has it for query parameters, written anew:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
function expectedToken(user: string, region: string, sessionToken?: string): string {
  const [date, at] = ['20261124', '20261124T100000Z']
  const scope = `${date}/${region}/rds-db/aws4_request`
  const parameters: [string, string][] = [
    ['Action', 'connect'],
    ['DBUser', user],
    ['X-Amz-Algorithm', 'AWS4-HMAC-SHA256'],
    ['X-Amz-Credential', `${keys.accessKeyId}/${scope}`],
    ['X-Amz-Date', at],
    ['X-Amz-Expires', '900'],
    ...(sessionToken === undefined ? [] : [['X-Amz-Security-Token', sessionToken] as [string, string]]),
    ['X-Amz-SignedHeaders', 'host'],
  ]
  const query = parameters.map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&')
  const request = ['GET', '/', query, `host:${host}:5432`, '', 'host', sha256('')].join('\n')
  const toSign = ['AWS4-HMAC-SHA256', at, scope, sha256(request)].join('\n')
  const key = [date, region, 'rds-db', 'aws4_request'].reduce<string | Buffer>(
    hmac,
    `AWS4${keys.secretAccessKey}`,
  )
  return `${host}:5432/?${query}&X-Amz-Signature=${hmac(key, toSign).toString('hex')}`
}

/** The same parameters in whatever order: a server reads them by name. */
function parsed(token: string): Record<string, string> {
  const { host: address, pathname, searchParams } = new URL(`https://${token}`)
  return { address, pathname, ...Object.fromEntries(searchParams) }
}

test.for([
  ['of a user of the database', 'izta', undefined],
  ['of temporary credentials', 'izta', 'IQoJb3JpZ2luX2VjE//wEaDGV1+w=='],
  ['of a user whose name needs encoding', "o'neil & sons*(app) ~+ž", undefined],
] as const)('a token %s has the signature that AWS computes', async ([, user, sessionToken]) => {
  const password = rdsToken({ credentials: () => ({ ...keys, sessionToken }) })
  const token = await password({ ...connection, user })
  expect(parsed(token)).toEqual(parsed(expectedToken(user, 'eu-central-1', sessionToken)))
  expect(token).toMatch(/^app\.abc123\.eu-central-1\.rds\.amazonaws\.com:5432\/\?Action=connect&DBUser=/)
  expect(token).not.toContain('+')
})

test('the region is the option, else that of the host, else that of the environment', async () => {
  vi.stubEnv('AWS_REGION', 'us-west-2')
  const scopeOf = async (region: string | undefined, name: string) =>
    parsed(await rdsToken({ region, credentials: () => keys })({ ...connection, host: name }))[
      'X-Amz-Credential'
    ]?.split('/')[2]
  expect(await scopeOf('us-east-1', host)).toBe('us-east-1')
  expect(await scopeOf(undefined, host)).toBe('eu-central-1')
  expect(await scopeOf(undefined, 'app.proxy-abc.cn-north-1.rds.amazonaws.com.cn')).toBe('cn-north-1')
  expect(await scopeOf(undefined, 'db.example.com')).toBe('us-west-2')
})

test('each connection gets a token of its own, by the credentials of that moment', async () => {
  const credentials = vi.fn<() => typeof keys>().mockReturnValue(keys)
  const password = rdsToken({ credentials })
  const first = parsed(await password(connection))
  vi.setSystemTime(new Date('2026-11-24T10:14:00Z'))
  const second = parsed(await password(connection))
  expect([first['X-Amz-Date'], second['X-Amz-Date']]).toEqual(['20261124T100000Z', '20261124T101400Z'])
  expect(credentials).toHaveBeenCalledTimes(2)
})

test('credentials come from the environment, as Lambda sets them', async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', keys.accessKeyId)
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', keys.secretAccessKey)
  vi.stubEnv('AWS_SESSION_TOKEN', 'session')
  expect(parsed(await rdsToken()(connection))).toEqual(
    parsed(expectedToken('izta', 'eu-central-1', 'session')),
  )
})

test('without credentials the error says so, and is not retried', async () => {
  vi.stubEnv('AWS_ACCESS_KEY_ID', '')
  const error = await rdsToken()(connection).catch((thrown: unknown) => thrown)
  expect(error).toBeInstanceOf(DatabaseAccessError)
  expect(error).toMatchObject({ code: 'database-token', retryable: false, outcome: 'not-applied' })
  expect(String(error)).toContain('No AWS credentials')
})

test('a provider of credentials that fails is asked again', async () => {
  const credentials = () => Promise.reject(new Error('metadata service: timeout'))
  await expect(rdsToken({ credentials })(connection)).rejects.toMatchObject({
    code: 'database-token',
    retryable: true,
  })
})

test('without a region the error says so', async () => {
  vi.stubEnv('AWS_REGION', '')
  vi.stubEnv('AWS_DEFAULT_REGION', '')
  const password = rdsToken({ credentials: () => keys })
  await expect(password({ ...connection, host: 'db.example.com' })).rejects.toMatchObject({
    code: 'database-token',
    message: expect.stringContaining('AWS_REGION') as string,
  })
})

test('no token is made for a connection without TLS', async () => {
  const credentials = vi.fn<() => typeof keys>().mockReturnValue(keys)
  const connectionString = Object.assign(new URL(url), { password: '' }).href
  const database = pgDatabase({
    connectionString,
    password: rdsToken({ region: 'eu-central-1', credentials }),
  })
  const error = await database.query({ text: 'select 1', values: [] }).catch((thrown: unknown) => thrown)
  await database.close?.()
  expect(error).toBeInstanceOf(DatabaseError)
  expect(error).toMatchObject({ code: 'database-token', retryable: false, outcome: 'not-applied' })
  expect(String(error)).toContain('sslmode=verify-full')
  expect(credentials).not.toHaveBeenCalled()
})
