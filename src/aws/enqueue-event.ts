// Reads an event of the enqueue function: where it comes from, which requests it carries, and who reads the answer.
import { createHash } from 'node:crypto'
import * as z from 'zod/mini'
import { IztaError } from '../errors.ts'
import { showValue } from '../options.ts'
import { readHttpEvent, type HttpRequest } from './enqueue-http.ts'
import type { TaskIds } from './enqueue-request.ts'
import type { InvocationContext } from './invocation.ts'

/** One request by an invocation, with what to do when it is refused. */
export interface InvokedRequest {
  readonly kind: 'request'
  readonly body: unknown
  readonly onError: 'answer' | 'throw'
  readonly ids: TaskIds | undefined
}

/** One message of an SQS queue. */
export interface QueueMessage {
  readonly messageId: string
  /** Text that should be JSON. */
  readonly body: string
  readonly sentAt: Date | undefined
  /** Of a FIFO queue: the messages of one group are taken in their order. */
  readonly group: string | undefined
}

/** Messages of an SQS queue. */
export interface MessageBatch {
  readonly kind: 'batch'
  readonly messages: readonly QueueMessage[]
}

export type EnqueueEvent = HttpRequest | MessageBatch | InvokedRequest

/** An event of EventBridge: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html */
const busEvent = z.object({
  id: z.string(),
  'detail-type': z.string(),
  source: z.string(),
  time: z.catch(z.optional(z.string()), undefined),
  'replay-name': z.catch(z.string(), ''),
  detail: z.unknown(),
})

/**
 * The dead letter of an asynchronous invocation, which is taken as the event that it keeps:
 * https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
 */
const deadLetter = z
  .object({
    requestContext: z.object({ requestId: z.optional(z.string()), condition: z.string() }),
    requestPayload: z.unknown(),
  })
  .check(z.refine((letter) => 'requestPayload' in letter))

/** https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html */
const queueEvent = z.object({
  Records: z.array(
    z.object({
      eventSource: z.literal('aws:sqs'),
      messageId: z.string(),
      body: z.string(),
      attributes: z.catch(
        z.object({
          SentTimestamp: z.catch(z.optional(z.string()), undefined),
          MessageGroupId: z.catch(z.optional(z.string()), undefined),
        }),
        { SentTimestamp: undefined, MessageGroupId: undefined },
      ),
      eventSourceARN: z.catch(z.string(), ''),
    }),
  ),
})

const shapes =
  '{ "tasks": [{ "job", "payload", "options" }] } as the event, as the detail of an EventBridge event, as the body of SQS messages, or as the body of a POST by a Function URL, API Gateway or load balancer'

/** @throws {IztaError} `unknown-event`, so that an event that nobody understands does not count as done. */
export function readEvent(event: unknown, context: InvocationContext): EnqueueEvent {
  const http = readHttpEvent(event)
  if (http !== undefined) return http
  const queued = queueEvent.safeParse(event)
  if (queued.success) return { kind: 'batch', messages: queued.data.Records.map(messageOf) }
  const request = readRequest(event, context?.awsRequestId)
  if (request !== undefined) return request
  throw new IztaError(
    'unknown-event',
    `The enqueue function does not know this event: send ${shapes}; got ${showValue(event)}.`,
  )
}

/** The request of an event that carries one; tasks without an id get theirs from the event's, if it has one. */
function readRequest(event: unknown, eventId: string | undefined): InvokedRequest | undefined {
  const { body, ids } = readEnvelope(event)
  if (body !== event) return { kind: 'request', body, onError: 'throw', ids }
  if (!isObject(event) || !('tasks' in event || event['onError'] === 'answer')) return undefined
  const { onError, ...rest } = event
  // Any other value stays in the body, which is refused for it.
  const isKnown = onError === undefined || onError === 'answer' || onError === 'throw'
  return {
    kind: 'request',
    body: isKnown ? rest : event,
    onError: onError === 'answer' ? 'answer' : 'throw',
    ids: idsOf(eventId),
  }
}

/** The request in an event of EventBridge or in a dead letter; anything else as it is. */
export function readEnvelope(value: unknown): { readonly body: unknown; readonly ids?: TaskIds | undefined } {
  const letter = deadLetter.safeParse(value)
  if (letter.success) {
    const { requestPayload, requestContext } = letter.data
    const { body, ids } = readRequest(requestPayload, requestContext.requestId) ?? { body: requestPayload }
    return { body, ids }
  }
  const envelope = busEvent.safeParse(value)
  if (!envelope.success) return { body: value }
  const { id, detail, time } = envelope.data
  // A replay of an archive means it: its tasks are others.
  const origin = `${id} ${envelope.data['replay-name']}`
  return { body: detail, ids: idsOf(origin, time === undefined ? undefined : new Date(time)) }
}

function messageOf({ messageId, body, attributes, eventSourceARN }: QueuedRecord): QueueMessage {
  const { SentTimestamp, MessageGroupId } = attributes
  return {
    messageId,
    body,
    sentAt: SentTimestamp === undefined ? undefined : new Date(Number(SentTimestamp)),
    group: eventSourceARN.endsWith('.fifo') ? MessageGroupId : undefined,
  }
}

type QueuedRecord = z.output<typeof queueEvent>['Records'][number]

const latestMs = 2 ** 48 - 1

/**
 * Ids that depend on nothing but the event and the task's place in it: events are delivered at least once, and Lambda
 * repeats an invocation that failed. They are UUIDs of version 7 where the event has a time, else of version 8, and in
 * the order of the tasks.
 */
export function idsOf(origin: string | undefined, at?: Date): TaskIds | undefined {
  if (origin === undefined) return undefined
  const hash = createHash('sha256').update(origin).digest()
  const ms = at?.getTime() ?? Number.NaN
  const isDated = ms >= 0 && ms <= latestMs
  return (index) => {
    const bytes = Buffer.from(hash.subarray(0, 16))
    if (isDated) bytes.writeUIntBE(Math.trunc(ms), 0, 6)
    bytes[6] = ((isDated ? 7 : 8) << 4) | ((index >> 10) & 0x0f)
    bytes[7] = (index >> 2) & 0xff
    bytes[8] = 0x80 | ((index & 3) << 4) | ((bytes[8] ?? 0) & 0x0f)
    return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
