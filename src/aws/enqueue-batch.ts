// Messages of an SQS queue: what could not be stored is named, so that the queue delivers it again.
import type { ResolvedConfig } from '../config.ts'
import { defaults } from '../defaults.ts'
import { IztaError } from '../errors.ts'
import type { PreparedTask } from '../job/prepare.ts'
import { idsOf, readEnvelope, type MessageBatch, type QueueMessage } from './enqueue-event.ts'
import { readJson, type Refused } from './enqueue-answer.ts'
import { insertRequest, prepareRequest } from './enqueue-request.ts'

/** The messages that the queue keeps: `ReportBatchItemFailures` of the event source mapping must be on. */
export interface EnqueueBatchAnswer {
  readonly batchItemFailures: { itemIdentifier: string }[]
}

interface PreparedMessage {
  readonly message: QueueMessage
  readonly tasks: readonly PreparedTask[]
}

/**
 * Stores the tasks of all messages in as few statements as possible.
 *
 * @throws {IztaError} when not one message could be stored: then the queue keeps all of them even if its event source
 * mapping does not read `batchItemFailures`.
 */
export async function enqueueBatch(
  config: ResolvedConfig,
  { messages }: MessageBatch,
): Promise<EnqueueBatchAnswer> {
  const failures = new Map<QueueMessage, Refused['error']>()
  const blockedGroups = new Set<string>()
  const fail = (message: QueueMessage, { error }: Refused): void => {
    failures.set(message, error)
    if (message.group !== undefined) blockedGroups.add(message.group)
    const { code } = error
    config.log.error('a message was not stored: its queue delivers it again', {
      messageId: message.messageId,
      code,
      error: error.message,
    })
  }
  /** A message must not overtake an earlier one of its group. */
  const isBlocked = ({ group }: QueueMessage) => group !== undefined && blockedGroups.has(group)

  async function insert(prepared: readonly PreparedMessage[]): Promise<void> {
    const open = prepared.filter(({ message }) => !isBlocked(message))
    if (open.length === 0) return
    const answer = await insertRequest(
      config,
      open.flatMap(({ tasks }) => tasks),
    )
    if (!('error' in answer)) {
      for (const { message } of open) stored.add(message)
    } else if (open.length > 1 && answer.statusCode !== 503) {
      // One of them is to blame.
      for (const each of open) await insert([each])
    } else {
      for (const { message } of open) fail(message, answer)
    }
  }

  const stored = new Set<QueueMessage>()
  const readied: PreparedMessage[] = []
  const answers = await Promise.all(messages.map((message) => prepareMessage(config, message)))
  for (const [index, message] of messages.entries()) {
    const answer = answers[index]
    if (answer === undefined || isBlocked(message)) continue
    if ('error' in answer) fail(message, answer)
    else readied.push({ message, tasks: answer })
  }
  for (const chunk of chunksOf(readied)) await insert(chunk)
  const left = messages.filter((message) => !stored.has(message))
  const [first] = failures.values()
  if (left.length === messages.length && first !== undefined) {
    const message = `None of ${messages.length} messages could be stored: their queue delivers them again. The first: ${first.message}`
    throw new IztaError(first.code, message, { retryable: first.retryable })
  }
  return { batchItemFailures: left.map(({ messageId }) => ({ itemIdentifier: messageId })) }
}

async function prepareMessage(
  config: ResolvedConfig,
  { messageId, body: text, sentAt }: QueueMessage,
): Promise<readonly PreparedTask[] | Refused> {
  const read = readJson(Buffer.from(text))
  if ('error' in read) return read
  const { body, ids = idsOf(messageId, sentAt) } = readEnvelope(read.value)
  return prepareRequest(config, body, ids)
}

/** As many messages as one call takes; a task's id is in each call once. */
function chunksOf(prepared: readonly PreparedMessage[]): PreparedMessage[][] {
  const chunks: PreparedMessage[][] = []
  let chunk: PreparedMessage[] = []
  let ids = new Set<string>()
  for (const each of prepared) {
    const isFull = ids.size + each.tasks.length > defaults.tasksPerCall
    if (chunk.length === 0 || isFull || each.tasks.some(({ id }) => ids.has(id))) {
      chunk = []
      ids = new Set()
      chunks.push(chunk)
    }
    chunk.push(each)
    for (const { id } of each.tasks) ids.add(id)
  }
  return chunks
}
