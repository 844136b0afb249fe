import { createServer } from 'node:http'
import { once } from 'node:events'
import { createServer as createTcpServer, type AddressInfo } from 'node:net'
import type { Database } from 'izta'
import { runJob } from 'izta/testing'
import { afterAll, expect, test, vi } from 'vitest'
import * as neon from '../../functions/database/neon.ts'
import * as neonSocket from '../../functions/database/neon-socket.ts'
import * as pg from '../../functions/database/pg.ts'
import * as rds from '../../functions/database/rds.ts'
import { testDatabase } from '../support/database.ts'

const { url } = await testDatabase()
vi.stubEnv('DATABASE_URL', url)
const { openIzta } = await import('../../functions/izta.ts')
const runner = await import('../../functions/runner.ts')
const scheduler = await import('../../functions/scheduler.ts')
const enqueue = await import('../../functions/enqueue.ts')
const { jobs } = await import('../../functions/jobs/index.ts')
const { schedules } = await import('../../functions/jobs/schedules.ts')
const { divide } = await import('../../functions/jobs/divide.ts')
const { syncFeed } = await import('../../functions/jobs/sync-feed.ts')
const { syncFeedJob } = await import('../../functions/jobs/sync-feed-handler.ts')
const { syncFeeds } = await import('../../functions/jobs/sync-feeds.ts')
const { syncFeedsJob } = await import('../../functions/jobs/sync-feeds-handler.ts')

const izta = openIzta({ jobs, schedules })

/** A feed server: /ok answers, /gone is 404, /busy is 503. */
const statuses: Record<string, number> = { '/ok': 200, '/gone': 404, '/busy': 503 }
const server = createServer((request, response) => {
  response.writeHead(statuses[request.url ?? ''] ?? 500, { etag: '"v1"' }).end('<feed/>')
}).listen(0, '127.0.0.1')
await once(server, 'listening')
const address = server.address()
const feeds = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`

afterAll(async () => {
  server.close()
  await izta.close()
})

const context = { getRemainingTimeInMillis: () => 900_000 }

test('tasks that the enqueue function takes are run by the runner function', async () => {
  vi.spyOn(console, 'info').mockReturnValue()
  const body = JSON.stringify({
    tasks: [
      { job: divide.id, payload: { numerator: 1, denominator: 2 } },
      {
        job: syncFeeds.id,
        payload: { feeds: ['ok', 'gone'].map((name) => ({ name, url: `${feeds}/${name}` })) },
      },
    ],
  })
  const answer = await enqueue.handler({
    version: '2.0',
    rawPath: '/',
    requestContext: { http: { method: 'POST' } },
    body,
    isBase64Encoded: false,
  })
  expect(answer).toMatchObject({ statusCode: 202 })
  vi.spyOn(console, 'error').mockReturnValue()
  expect(await runner.handler({}, context)).toMatchObject({ claimed: 4, finished: 3, failed: 1, more: false })
  const tasks = await Array.fromAsync(izta.list({ job: syncFeed }))
  expect(tasks.map(({ key, status }) => `${key} ${status}`).toSorted()).toEqual([
    'gone failed',
    'ok finished',
  ])
  expect(tasks.find(({ status }) => status === 'failed')).toMatchObject({
    error: { code: 'http-status', status: 404 },
  })
})

test('the scheduler function stores the schedules of the code and makes their tasks ahead', async () => {
  expect(await scheduler.handler({ source: 'aws.scheduler' })).toMatchObject({ made: 1 })
  expect(await izta.schedules.list()).toMatchObject([{ name: 'hourly-feeds', job: 'sync-feeds' }])
  expect(await scheduler.handler({ source: 'aws.scheduler' })).toMatchObject({ made: 0 })
})

test('divide fails with a declared error, without a second attempt', async () => {
  expect(await runJob(divide, { numerator: 1, denominator: 4 })).toMatchObject({
    status: 'finished',
    result: 0.25,
  })
  expect(await runJob(divide, { numerator: 1, denominator: 0 })).toMatchObject({
    status: 'failed',
    error: { code: 'divide-by-zero' },
    willRetry: false,
  })
})

test('sync-feeds fans out one keyed task a feed', async () => {
  const names = ['one', 'two']
  const run = await runJob(syncFeedsJob, { feeds: names.map((name) => ({ name, url: `${feeds}/ok` })) })
  expect(run).toMatchObject({
    children: names.map((name) => ({ job: 'sync-feed', key: name, queue: 'feeds' })),
  })
})

test('sync-feed tells what it fetched, and which failures are worth another attempt', async () => {
  const fetchFeed = (path: string) => runJob(syncFeedJob, { name: 'feed', url: feeds + path })
  expect(await fetchFeed('/ok')).toMatchObject({ status: 'finished', result: { bytes: 7, etag: '"v1"' } })
  expect(await fetchFeed('/gone')).toMatchObject({
    error: { code: 'http-status', status: 404 },
    willRetry: false,
  })
  expect(await fetchFeed('/busy')).toMatchObject({
    error: { code: 'http-status', status: 503 },
    willRetry: true,
  })
})

test.for([
  ['neon', neon],
  ['neon-socket', neonSocket],
  ['pg', pg],
  ['rds', rds],
] as const)('the adapter %s opens a database at a URL', async ([, { openDatabase, replyLimitBytes }]) => {
  const database = openDatabase('postgres://app@db.example.com/app?sslmode=verify-full')
  expect(database.replyLimitBytes).toBe(replyLimitBytes)
  await database.close?.()
})

/** Whether the adapter asks for TLS before it says anything else. */
async function asksForTls(openDatabase: (url: string) => Database, host: string, search = '') {
  const greeted = Promise.withResolvers<Buffer>()
  const listener = createTcpServer((socket) => {
    socket.once('data', (bytes) => {
      greeted.resolve(bytes)
      socket.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const { port } = listener.address() as AddressInfo
  const database = openDatabase(`postgres://app:secret@${host}:${port}/app${search}`)
  await database.query({ text: 'select 1', values: [] }).catch(() => {})
  await database.close?.()
  listener.close()
  // https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest
  return (await greeted.promise).readInt32BE(4) === 80_877_103
}

test('connections are encrypted unless the connection string says otherwise or names this machine', async () => {
  // The same address in another spelling, which only the system understands.
  expect(await asksForTls(pg.openDatabase, '127.1')).toBe(true)
  expect(await asksForTls(pg.openDatabase, '127.1', '?sslmode=disable')).toBe(false)
  expect(await asksForTls(pg.openDatabase, '127.0.0.1')).toBe(false)
  expect(await asksForTls(pg.openDatabase, '127.0.0.1', '?sslmode=verify-full')).toBe(true)
  vi.stubEnv('AWS_REGION', 'eu-central-1')
  vi.stubEnv('AWS_ACCESS_KEY_ID', 'AKIDEXAMPLE')
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret')
  expect(await asksForTls((text) => rds.openDatabase(text.replace(':secret', '')), '127.1')).toBe(true)
})

test('without DATABASE_URL the functions say what is missing', async () => {
  vi.resetModules()
  vi.stubEnv('DATABASE_URL', '')
  await expect(import('../../functions/runner.ts')).rejects.toThrow('DATABASE_URL is not set')
})
