// Wakes through Lambda's API, on a local server that stands in for it.
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { createAwsApi } from '../../src/aws/api.ts'
import { invokeWake } from '../../src/aws/invoke-wake.ts'

interface Seen {
  readonly method: string | undefined
  readonly path: string | undefined
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}

let seen: Seen[] = []
let answers: { status: number; body?: string; headers?: Record<string, string> }[] = []
const server = createServer((request, response) => {
  void text(request).then((body) => {
    seen.push({
      method: request.method,
      path: request.url,
      headers: request.headers,
      body: body === '' ? '' : JSON.parse(body),
    })
    const { status, body: reply = '', headers = {} } = answers.shift() ?? { status: 202 }
    response.writeHead(status, headers).end(reply)
  })
})
await new Promise<void>((ready) => server.listen(0, '127.0.0.1', ready))
const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
const credentials = () => ({ accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'secret', sessionToken: 'token' })
const options = { endpoint, credentials, region: 'eu-central-1' }

beforeEach(() => {
  seen = []
  answers = []
})
afterAll(() => server.close())

test('a wake invokes the runner of its queue asynchronously and tells it its hops', async () => {
  const wake = invokeWake({ ...options, runners: { default: 'app-runner', mail: 'app-mail' } })
  await wake.wake('mail', 3)
  expect(seen).toHaveLength(1)
  expect(seen[0]).toMatchObject({
    method: 'POST',
    path: '/2015-03-31/functions/app-mail/invocations',
    body: { queue: 'mail', hops: 3 },
    headers: { 'x-amz-invocation-type': 'Event', 'x-amz-security-token': 'token' },
  })
  expect(seen[0]?.headers.authorization).toMatch(
    /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/eu-central-1\/lambda\/aws4_request, SignedHeaders=.*x-amz-invocation-type/,
  )
})

test('a wake for new work begins a chain of invocations, one for work that is left goes on with its own', async () => {
  process.env['_X_AMZN_TRACE_ID'] = 'Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:a87bd80c:15'
  try {
    const wake = invokeWake({ ...options, runners: { mail: 'app-mail' }, scheduler: 'scheduler' })
    await wake.wake('mail', 0)
    await wake.wake('mail', 1)
    await wake.wakeAt?.(new Date(), 0)
    await wake.wakeAt?.(new Date(), 4)
    const traces = seen.map(({ headers }) => headers['x-amzn-trace-id'])
    expect(traces).toEqual([undefined, expect.stringContaining('Lineage'), undefined, expect.any(String)])
    expect(seen[3]?.body).toEqual({ hops: 4 })
  } finally {
    delete process.env['_X_AMZN_TRACE_ID']
  }
})

test('a wake of all queues invokes each runner once', async () => {
  const wake = invokeWake({ ...options, runners: { default: 'one', mail: 'one', reports: 'two' } })
  await wake.wake('*', 0)
  expect(new Set(seen.map(({ path }) => path))).toEqual(
    new Set(['/2015-03-31/functions/one/invocations', '/2015-03-31/functions/two/invocations']),
  )
  expect(seen).toHaveLength(2)
})

test('queues of one runner that are woken together invoke it once, later ones again', async () => {
  const wake = invokeWake({ ...options, runners: { default: 'one', mail: 'one' } })
  await Promise.all([wake.wake('default', 1), wake.wake('mail', 1)])
  expect(seen).toHaveLength(1)
  await wake.wake('mail', 1)
  expect(seen).toHaveLength(2)
})

test('queues that are not named go to the runner of "*", else the wake fails and names the queue', async () => {
  await invokeWake({ ...options, runners: { '*': 'any', mail: 'app-mail' } }).wake('other', 0)
  expect(seen[0]?.path).toBe('/2015-03-31/functions/any/invocations')
  const wake = invokeWake({ ...options, runners: { mail: 'app-mail' } })
  await expect(wake.wake('other', 0)).rejects.toThrow('No runner is known for queue "other" (known: mail)')
  expect(() => invokeWake({ ...options, runners: {} })).toThrow('names no function')
})

test('a function given by ARN is one path segment', async () => {
  await invokeWake({ ...options, runners: { a: 'arn:aws:lambda:eu-central-1:1:function:f' } }).wake('a', 0)
  expect(seen[0]?.path).toBe(
    '/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A1%3Afunction%3Af/invocations',
  )
})

test('a throttled call is repeated, a refused one is not', async () => {
  const wake = invokeWake({ ...options, runners: { a: 'f' } })
  answers = [{ status: 429 }, { status: 503 }]
  await wake.wake('a', 0)
  expect(seen).toHaveLength(3)
  answers = [{ status: 403, headers: { 'x-amzn-errortype': 'AccessDeniedException:http://x' }, body: '{}' }]
  await expect(wake.wake('a', 0)).rejects.toMatchObject({
    code: 'aws-refused',
    status: 403,
    type: 'AccessDeniedException',
    retryable: false,
  })
  expect(seen).toHaveLength(4)
})

test('a function that is not there is told with the region in which it was looked for', async () => {
  const headers = { 'x-amzn-errortype': 'ResourceNotFoundException:http://x' }
  answers = [{ status: 404, headers, body: '{}' }]
  await expect(invokeWake({ ...options, runners: { a: 'f' } }).wake('a', 0)).rejects.toThrow(
    'answered 404 ResourceNotFoundException: {} See that the name is right and that it is in eu-central-1.',
  )
})

test('an address where nobody answers is tried again and then told with its reason', async () => {
  const closed = createServer()
  await new Promise<void>((ready) => closed.listen(0, '127.0.0.1', ready))
  const { port } = closed.address() as AddressInfo
  await new Promise((done) => closed.close(done))
  const api = createAwsApi({ ...options, endpoint: `http://127.0.0.1:${port}` })
  await expect(api({ service: 'lambda', method: 'GET', path: '/x' })).rejects.toMatchObject({
    code: 'aws-unreachable',
    retryable: true,
    message: 'AWS lambda /x gave no answer (ECONNREFUSED).',
  })
})

test('a call without region or credentials says what to set', async () => {
  const request = { service: 'ssm', method: 'POST', path: '/' } as const
  await expect(createAwsApi({ endpoint, credentials })(request)).rejects.toThrow('set AWS_REGION')
  await expect(createAwsApi({ endpoint, region: 'eu-central-1' })(request)).rejects.toThrow(
    'AWS_ACCESS_KEY_ID',
  )
})
