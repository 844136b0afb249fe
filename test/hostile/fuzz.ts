// Sends hostile requests to the enqueue function and checks what must hold for each, and for what they have stored.
import { inspect } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Pool } from 'pg'
import * as z from 'zod'
import { createEnqueueHandler } from '../../src/aws/enqueue-handler.ts'
import type { Database } from '../../src/db/database.ts'
import { createIzta, defineJob, IztaError } from '../../src/index.ts'
import { encodeJson } from '../../src/job/json.ts'
import { drain } from '../../src/testing/drain.ts'
import { bodies, type Body } from './bodies.ts'

export interface FuzzReport {
  readonly seed: number
  readonly bodies: number
  /** Answers by status code. */
  readonly answers: Record<number, number>
  /** Of the accepted ones: tasks that were made, run and read back. */
  readonly tasks: number
  /** The longest that one request kept the process busy, and what it was. */
  readonly busiestMs: number
  readonly busiestKind: string
  /** The longest from call to answer, with the waits for database and processor. */
  readonly longestMs: number
  readonly largestAnswerBytes: number
  /** How much the heap grew per 1,000 requests after collections, by a line through the later half of the portions. */
  readonly heapBytesPerThousand: number
  /** What did not hold; empty when all is well. */
  readonly violations: readonly string[]
}

export interface FuzzOptions {
  readonly database: Database
  readonly pool: Pool
  readonly seed: number
  readonly count: number
  /** After so many requests everything that they have stored is run and read. */
  readonly portion: number
  readonly log?: (line: string) => void
}

/** Of the processor: how long an answer takes depends on what else the machine does. */
const longestBusyMs = 1000
const longestCallMs = 10_000
/** What Lambda carries: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html */
const answerLimitBytes = 6 * 1024 * 1024
/** A leak of one small object a request would exceed it; what grows below it is code and statistics of the engine. */
const heapLimitBytesPerThousand = 64_000
/** Fewer do not tell growth from chance. */
const fewestPortions = 10
const known = new Set([202, 400, 404, 405, 413, 422])

const run = () => {}
const jobs = [
  defineJob({ id: 'anything', payload: z.unknown(), run }),
  defineJob({ id: 'strict', payload: z.object({ n: z.number(), s: z.string() }), run }),
  defineJob({ id: 'list', payload: z.array(z.number()), run }),
  defineJob({ id: 'bare', run }),
  defineJob({
    id: 'asynchronous',
    payload: z.string().refine(async (text) => Promise.resolve(text === 'good')),
    run,
  }),
]

export async function fuzz({ database, pool, seed, count, portion, log }: FuzzOptions): Promise<FuzzReport> {
  const violations: string[] = []
  const answers: Record<number, number> = {}
  const failures: unknown[] = []
  const note = () => {}
  const error = (message: string, facts?: object) => void failures.push(message, facts)
  const izta = createIzta({ database, jobs, log: { debug: note, info: note, warn: note, error } })
  const handler = createEnqueueHandler({ izta })
  const heaps: number[] = []
  let [tasks, longestMs, busiestMs, busiestKind, largestAnswerBytes] = [0, 0, 0, '', 0]
  let accepted = new Map<string, string>()

  async function send({ kind, event }: Body, index: number): Promise<void> {
    const violated = (what: string) => violations.push(`request ${index} of seed ${seed} (${kind}): ${what}`)
    const startedAtMs = performance.now()
    const before = process.threadCpuUsage()
    const isObject = typeof event === 'object' && event !== null && !Array.isArray(event)
    const answer = await handler(isObject ? { ...event, onError: 'answer' } : event).catch(
      (thrown: unknown) => {
        if (!isObject && IztaError.is(thrown) && thrown.code === 'unknown-event') return undefined
        violated(`the handler threw ${String(thrown)}`)
        return undefined
      },
    )
    const tookMs = performance.now() - startedAtMs
    const { user, system } = process.threadCpuUsage(before)
    const busyMs = (user + system) / 1000
    longestMs = Math.max(longestMs, tookMs)
    if (busyMs > busiestMs) [busiestMs, busiestKind] = [busyMs, kind]
    if (busyMs > longestBusyMs) violated(`was busy for ${Math.round(busyMs)} ms`)
    if (tookMs > longestCallMs) violated(`took ${Math.round(tookMs)} ms`)
    if (answer === undefined) return
    if (!('statusCode' in answer)) return void violated('was taken for messages of a queue')
    const text = 'body' in answer ? answer.body : JSON.stringify(answer)
    const parsed = JSON.parse(text) as { tasks?: { id: string; created: boolean }[] }
    answers[answer.statusCode] = (answers[answer.statusCode] ?? 0) + 1
    largestAnswerBytes = Math.max(largestAnswerBytes, Buffer.byteLength(text))
    if (!known.has(answer.statusCode))
      violated(`${answer.statusCode} ${text.slice(0, 300)} ${inspect(failures.slice(-2))}`)
    if (Buffer.byteLength(text) > answerLimitBytes) violated(`answered with ${Buffer.byteLength(text)} bytes`)
    if (/\\n\s+at |node_modules|izta\.task|postgres:\/\//.test(text) && answer.statusCode !== 202) {
      if (!text.includes('drop table')) violated(`says too much: ${text.slice(0, 300)}`)
    }
    if (answer.statusCode !== 202 || parsed.tasks === undefined) return
    const sent = requested(event)
    parsed.tasks.forEach(({ id, created }, place) => {
      if (created) accepted.set(id, textOf(sent[place]))
    })
  }

  async function readBack(): Promise<void> {
    await pool.query('update izta.task set run_at = least(run_at, izta.now())')
    await drain(izta, { concurrency: 100 })
    const left = await pool.query<{ count: number }>('select count(*)::integer as count from izta.task')
    if (left.rows[0]?.count !== 0) violations.push(`${left.rows[0]?.count} tasks were not run`)
    for await (const task of izta.list({ pageSize: 1000 })) {
      const sent = accepted.get(task.id)
      if (sent === undefined) violations.push(`task ${task.id} was made and not told of`)
      else if (sent !== textOf(task.payload)) violations.push(`task ${task.id} has another payload`)
      if (task.status !== 'finished')
        violations.push(`task ${task.id} is ${task.status}: ${task.errors.at(-1)?.message}`)
      accepted.delete(task.id)
      tasks++
    }
    if (accepted.size > 0) violations.push(`${accepted.size} accepted tasks are gone`)
    accepted = new Map()
    await pool.query('truncate izta.task, izta.history')
    failures.length = 0
    heaps.push(collectedHeapBytes())
  }

  let sent = 0
  for (const body of bodies(seed)) {
    await send(body, sent++)
    if (sent % portion === 0 || sent === count) {
      await readBack()
      log?.(
        `${sent} requests, ${violations.length} violations, heap ${Math.round((heaps.at(-1) ?? 0) / 1000)} kB`,
      )
    }
    if (sent === count || violations.length > 100) break
  }
  // The earlier half loads code, and throws it away again.
  const laterHeaps = heaps.slice(Math.floor(heaps.length / 2))
  const heapBytesPerThousand = Math.round((slope(laterHeaps) * 1000) / portion)
  if (heaps.length >= fewestPortions && heapBytesPerThousand > heapLimitBytesPerThousand)
    violations.push(`the heap grows by ${heapBytesPerThousand} bytes per 1,000 requests`)
  return {
    seed,
    bodies: sent,
    answers,
    tasks,
    busiestMs: Math.round(busiestMs),
    busiestKind,
    longestMs: Math.round(longestMs),
    largestAnswerBytes,
    heapBytesPerThousand,
    violations,
  }
}

/** The payloads of a request that was accepted, in order. */
function requested(event: unknown): unknown[] {
  type Accepted = { tasks: { payload?: unknown }[] }
  const { body, isBase64Encoded, ...direct } = event as { body?: string; isBase64Encoded?: unknown }
  if (!('requestContext' in direct)) return (direct as Accepted).tasks.map(({ payload }) => payload)
  const text = isBase64Encoded === true ? new TextDecoder().decode(Buffer.from(body ?? '', 'base64')) : body
  const { tasks } = JSON.parse((text ?? '').replace(/^\uFEFF/, '')) as Accepted
  return tasks.map(({ payload }) => payload)
}

/** `JSON.stringify` recurses, and some payloads are deep. */
function textOf(payload: unknown): string {
  try {
    return JSON.stringify(payload) ?? 'undefined'
  } catch {
    const encoded = encodeJson(payload, Infinity)
    return encoded.ok ? encoded.text : encoded.code
  }
}

function collectedHeapBytes(): number {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  collect()
  collect()
  return process.memoryUsage().heapUsed
}

/** Of the line of least squares through values at 0, 1, 2, … */
function slope(values: readonly number[]): number {
  if (values.length < 2) return 0
  const middle = (values.length - 1) / 2
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length
  const over = values.reduce((sum, value, n) => sum + (n - middle) * (value - mean), 0)
  const under = values.reduce((sum, _, n) => sum + (n - middle) ** 2, 0)
  return over / under
}
