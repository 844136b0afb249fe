// Queues that hand work to each other for an hour, on a Lambda that counts the invocations of a chain and stops it.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { createIzta, defineJob, type Izta, type Logger } from 'izta'
import { createRunnerHandler, createSchedulerHandler, invokeWake } from 'izta/lambda'
import { createTestClock } from 'izta/testing'
import { afterAll, afterEach, beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const start = new Date('2030-01-01T12:00:00Z')
const clock = await createTestClock({ database, at: start })

/** https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html */
const longestChain = 16
const traceVariable = '_X_AMZN_TRACE_ID'

interface Invocation {
  readonly name: string
  readonly event: unknown
  /** Which chain of invocations it belongs to, and the how many-th of it it is. */
  readonly chain: number
  readonly count: number
}

let waiting: Invocation[] = []
let refused: Invocation[] = []
let chains = 0

/** Takes what is invoked asynchronously, unless its chain is too long: the caller is not told. */
const lambda = createServer((request, response) => {
  void text(request).then((body) => {
    const name = /functions\/(\w+)\/invocations/.exec(request.url ?? '')?.[1] ?? ''
    const lineage = /Lineage=(\d+):(\d+)/.exec(String(request.headers['x-amzn-trace-id'] ?? ''))
    const chain = lineage === null ? (chains += 1) : Number(lineage[1])
    const invocation = {
      name,
      event: JSON.parse(body) as unknown,
      chain,
      count: Number(lineage?.[2] ?? 0) + 1,
    }
    const list = invocation.count > longestChain ? refused : waiting
    list.push(invocation)
    response.writeHead(202).end()
  })
})
await new Promise<void>((ready) => lambda.listen(0, '127.0.0.1', ready))
const endpoint = `http://127.0.0.1:${(lambda.address() as AddressInfo).port}`
afterAll(() => lambda.close())

beforeEach(async () => {
  waiting = []
  refused = []
  await pool.query('truncate izta.task, izta.history, izta.queue')
})
afterEach(() => void Reflect.deleteProperty(process.env, traceVariable))

/** Everything that is deployed: a runner a queue, the scheduler, and ticks each minute. */
async function deliverForAnHour(izta: Izta, queues: readonly string[]): Promise<void> {
  const remaining = { getRemainingTimeInMillis: () => 300_000 }
  const functions: Record<string, (event: unknown) => Promise<unknown>> = {
    scheduler: createSchedulerHandler({ izta, lingerSeconds: 0 }),
  }
  for (const queue of queues) {
    const runner = createRunnerHandler({ izta, queues: [queue], lingerSeconds: 0 })
    functions[queue] = (event) => runner(event, remaining)
  }
  const end = clock.date.getTime() + 3_600_000
  let tickAt = clock.date.getTime()
  while (clock.date.getTime() < end) {
    const next = waiting.shift() ?? { name: 'scheduler', event: {}, chain: (chains += 1), count: 1 }
    if (next.name === 'scheduler') {
      tickAt += 60_000
      if (tickAt > clock.date.getTime()) await clock.advanceTo(new Date(tickAt))
    }
    process.env[traceVariable] =
      `Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=${next.chain}:${next.count}`
    await functions[next.name]?.(next.event)
  }
}

const payload = z.object({ at: z.number() })
const stepSeconds = 30

for (const names of [
  ['ping', 'pong'],
  ['red', 'green', 'blue'],
]) {
  for (const way of ['as children', 'by an enqueue in the handler']) {
    test(`${names.length} queues in a ring hand work on ${way} for an hour: no wake is refused, no work waits`, async () => {
      const lateMs: number[] = []
      const jobs = names.map((queue, index) =>
        defineJob({
          id: queue,
          queue,
          payload,
          async run({ at }, ctx) {
            lateMs.push(clock.date.getTime() - at)
            await clock.advance({ seconds: stepSeconds })
            const next = jobs[(index + 1) % jobs.length] as (typeof jobs)[number]
            const now = { at: clock.date.getTime() }
            if (way === 'as children') ctx.enqueue(next, now)
            else await izta.enqueue(next, now)
          },
        }),
      )
      const runners = Object.fromEntries(names.map((name) => [name, name]))
      const aws = {
        endpoint,
        region: 'eu-central-1',
        credentials: () => ({ accessKeyId: 'a', secretAccessKey: 'b' }),
      }
      const izta: Izta = createIzta({ database, jobs, log: quiet, wake: invokeWake({ ...aws, runners }) })
      await izta.enqueue(jobs[0] as (typeof jobs)[number], { at: clock.date.getTime() })
      await deliverForAnHour(izta, names)
      expect(refused).toEqual([])
      expect(lateMs.length).toBeGreaterThanOrEqual(3600 / stepSeconds)
      expect(Math.max(...lateMs)).toBe(0)
    })
  }
}
