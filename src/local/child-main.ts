// Runs in a child process: calls the handler of an entry file, one invocation after the other, as Lambda's runtime does.
import type { ChildReply, ChildRequest } from './child.ts'

async function invoke({ entry, event, remainingMs, context }: ChildRequest): Promise<ChildReply> {
  const endsAtMs = performance.now() + remainingMs
  try {
    const { handler } = (await import(entry)) as { handler?: (event: unknown, context: unknown) => unknown }
    if (typeof handler !== 'function')
      throw new TypeError(`${entry} does not export a function named handler.`)
    const getRemainingTimeInMillis = () => Math.max(0, endsAtMs - performance.now())
    return { answer: await handler(event, { ...context, getRemainingTimeInMillis }) }
  } catch (error) {
    return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
  }
}

process.on('message', (request: ChildRequest) => void invoke(request).then((reply) => process.send?.(reply)))
process.once('disconnect', () => process.exit())
// Ctrl-C reaches the whole group of processes: the parent decides when this one ends.
process.on('SIGINT', () => {})
