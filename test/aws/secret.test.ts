// The database secret: where it is fetched, how often, and what happens when the password changes.
import { expect, test } from 'vitest'
import { AwsError, type AwsApi, type AwsRequest } from '../../src/aws/api.ts'
import { readConnectionString, secretDatabase } from '../../src/aws/secret.ts'
import type { Database } from '../../src/db/database.ts'
import { toDatabaseError } from '../../src/db/transient.ts'
import { DatabaseAccessError, DatabaseError } from '../../src/errors.ts'

const parameter = 'arn:aws:ssm:eu-central-1:111122223333:parameter/app/database-url'
const secret = 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:app-AbCdEf'
const statement = { text: 'select 1', values: [] }
const refused = () => new DatabaseAccessError('database-access', 'password', { sqlState: '28P01' })

/** A store whose value can change, and databases that accept one password. */
function vault(value: string) {
  const requests: AwsRequest[] = []
  const opened: string[] = []
  const closed: string[] = []
  const state = { value, accepts: value }
  const api: AwsApi = async (request) => {
    requests.push(request)
    const body =
      request.service === 'ssm' ? { Parameter: { Value: state.value } } : { SecretString: state.value }
    return { status: 200, body }
  }
  const open = (url: string): Database => {
    opened.push(url)
    return {
      query: async () => {
        if (url !== state.accepts) throw refused()
        return [{ url }]
      },
      close: async () => void closed.push(url),
    }
  }
  return { requests, opened, closed, state, api, open }
}

test('the secret is fetched with the first statement, once, however many come at once', async () => {
  const { requests, opened, api, open } = vault('postgres://one')
  const database = secretDatabase({ secret: parameter, open, api })
  expect(requests).toEqual([])
  await Promise.all([database.query(statement), database.query(statement)])
  await database.query(statement)
  expect(opened).toEqual(['postgres://one'])
  expect(requests).toEqual([
    expect.objectContaining({
      service: 'ssm',
      headers: { 'content-type': 'application/x-amz-json-1.1', 'x-amz-target': 'AmazonSSM.GetParameter' },
      body: { Name: '/app/database-url', WithDecryption: true },
    }),
  ])
})

test('a secret of Secrets Manager is fetched by its ARN', async () => {
  const { requests, api, open } = vault('postgres://one')
  await secretDatabase({ secret, open, api }).query(statement)
  expect(requests[0]).toMatchObject({ service: 'secretsmanager', body: { SecretId: secret } })
})

test('a rotated password heals itself: fetched again, sent again, the old connections closed', async () => {
  const { requests, opened, closed, state, api, open } = vault('postgres://one')
  const database = secretDatabase({ secret, open, api })
  await database.query(statement)
  state.value = state.accepts = 'postgres://two'
  const answers = await Promise.all([database.query(statement), database.query(statement)])
  expect(answers).toEqual([[{ url: 'postgres://two' }], [{ url: 'postgres://two' }]])
  expect([requests.length, opened, closed]).toEqual([
    2,
    ['postgres://one', 'postgres://two'],
    ['postgres://one'],
  ])
})

test.each([
  ['PostgreSQL', { code: '28P01' }],
  ['PgBouncer', { code: '08P01' }],
  ['Neon', { code: '' }],
])('a rotated password heals itself however it is refused: %s', async (_, parts) => {
  const said = Object.assign(new Error('password authentication failed for user "app"'), parts)
  const { requests, state, api } = vault('postgres://one')
  const open = (url: string): Database => ({
    async query() {
      if (url !== 'postgres://two') throw toDatabaseError(said, 'db.example.com', { sent: false })
      return []
    },
  })
  const database = secretDatabase({ secret, open, api })
  await expect(database.query(statement)).rejects.toMatchObject({ code: 'database-access' })
  state.value = 'postgres://two'
  expect(await database.query(statement)).toEqual([])
  expect(requests).toHaveLength(3)
})

test('a missing privilege is passed on without a new look at the secret', async () => {
  const { requests, api } = vault('postgres://one')
  const said = Object.assign(new Error('permission denied for table task'), { code: '42501' })
  const open = (): Database => ({ query: () => Promise.reject(toDatabaseError(said, 'db.example.com')) })
  await expect(secretDatabase({ secret, open, api }).query(statement)).rejects.toMatchObject({
    sqlState: '42501',
  })
  expect(requests).toHaveLength(1)
})

test('a password that stays wrong is told after one more try', async () => {
  const { requests, state, api, open } = vault('postgres://one')
  state.accepts = 'postgres://other'
  await expect(secretDatabase({ secret, open, api }).query(statement)).rejects.toMatchObject({
    code: 'database-access',
  })
  expect(requests).toHaveLength(2)
})

test('another error of the database is passed on without a new look at the secret', async () => {
  const { requests, api } = vault('postgres://one')
  const open = (): Database => ({
    query: () => Promise.reject(new DatabaseError('database-closed', 'closed', {})),
  })
  await expect(secretDatabase({ secret, open, api }).query(statement)).rejects.toMatchObject({
    code: 'database-closed',
  })
  expect(requests).toHaveLength(1)
})

test('a secret that cannot be fetched is a database error that says which and why, and is asked for again', async () => {
  const { state, api: working, open } = vault('postgres://one')
  let failure: AwsError | undefined = new AwsError('AWS ssm / answered 400 ParameterNotFound: {}', {
    status: 400,
    type: 'ParameterNotFound',
  })
  const api: AwsApi = (request) => (failure === undefined ? working(request) : Promise.reject(failure))
  const database = secretDatabase({ secret: parameter, open, api })
  await expect(database.query(statement)).rejects.toMatchObject({
    name: 'DatabaseAccessError',
    code: 'database-secret',
    retryable: false,
    outcome: 'not-applied',
    message: expect.stringContaining(`${parameter} could not be fetched: AWS ssm / answered 400`),
  })
  failure = new AwsError('AWS ssm / gave no answer', { status: 0, type: 'Unreachable' })
  await expect(database.query(statement)).rejects.toMatchObject({ retryable: true, outcome: 'not-applied' })
  failure = undefined
  expect(await database.query(statement)).toEqual([{ url: state.value }])
})

test('what names neither a secret nor a parameter is refused at once', () => {
  const { api, open } = vault('')
  for (const wrong of ['', 'app/database-url', 'arn:aws:s3:::bucket', 'postgres://user:pw@host/db']) {
    expect(() => secretDatabase({ secret: wrong, open, api })).toThrow('no ARN of a Secrets Manager secret')
  }
})

test('connection strings are used as they are, the JSON of RDS becomes one with TLS checked', () => {
  expect(readConnectionString(secret, ' postgresql://a:b@c/d\n')).toBe('postgresql://a:b@c/d')
  const rds = {
    engine: 'postgres',
    host: 'db.example.com',
    username: 'app',
    password: 'p@:/?',
    port: 5432,
    dbname: 'app',
  }
  expect(readConnectionString(secret, JSON.stringify(rds))).toBe(
    'postgres://app:p%40%3A%2F%3F@db.example.com:5432/app?sslmode=verify-full',
  )
  expect(readConnectionString(secret, '{"host":"h","username":"u","password":"p"}')).toBe(
    'postgres://u:p@h/postgres?sslmode=verify-full',
  )
})

test('a secret that is neither is told without being shown', () => {
  for (const wrong of ['hunter2', '', '[]', 'null', '{"password":"hunter2"}']) {
    expect(() => readConnectionString(secret, wrong)).toThrow(
      /^(?!.*hunter2)The database secret arn:.* holds neither a connection string/,
    )
  }
})
