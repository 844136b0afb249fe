// An HTTP address for the enqueue handler, in place of its Function URL.
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { bodyLimitBytes } from '../aws/enqueue-answer.ts'
import type { EnqueueHandler } from '../aws/enqueue-handler.ts'
import { IztaError, readableMessage } from '../errors.ts'
import type { Logger } from '../observe/log.ts'

export interface HttpAddress {
  readonly url: string
  /** Takes nothing more, and answers what it has taken. */
  close(): Promise<void>
}

/** Serves on 127.0.0.1; port 0 is a free one. */
export async function serveEnqueue(handler: EnqueueHandler, port: number, log: Logger): Promise<HttpAddress> {
  const exchanges = new Set<Promise<void>>()
  const server = createServer((request, response) => {
    const exchange = answer(handler, request, response).catch((error: unknown) => {
      // The caller hung up.
      log.debug('a request ended before its answer', { error: readableMessage(error) })
    })
    exchanges.add(exchange)
    void exchange.finally(() => exchanges.delete(exchange))
  })
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (cause) {
    const message = `The enqueue address could not be opened on port ${port} (${readableMessage(cause)}): choose another port, or none for a free one.`
    throw new IztaError('port-taken', message, { cause })
  }
  const address = server.address()
  const opened = typeof address === 'object' && address !== null ? address.port : port
  return {
    url: `http://127.0.0.1:${opened}/`,
    async close() {
      const closed = once(server, 'close')
      server.close()
      await Promise.all(exchanges)
      server.closeAllConnections()
      await closed
    },
  }
}

async function answer(
  handler: EnqueueHandler,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { method = 'GET', url = '/', headers } = request
  if (isForeign(headers)) {
    response.writeHead(403, { connection: 'close' }).end()
    return
  }
  const [rawPath = '/', rawQueryString = ''] = url.split('?', 2)
  const body = await readBody(request)
  const answered = await handler({
    version: '2.0',
    routeKey: '$default',
    rawPath,
    rawQueryString,
    headers,
    requestContext: { http: { method, path: rawPath, protocol: 'HTTP/1.1', sourceIp: '127.0.0.1' } },
    body: body.toString('base64'),
    isBase64Encoded: true,
  })
  if (!('body' in answered)) throw new TypeError('The enqueue handler did not answer over HTTP.')
  // What was too large has not been read to its end.
  const connection = body.length > bodyLimitBytes ? { connection: 'close' } : {}
  response.writeHead(answered.statusCode, { ...answered.headers, ...connection }).end(answered.body)
}

/**
 * A web page of another site must not enqueue here through its visitor's browser, nor by a name of its own that it has
 * pointed to 127.0.0.1.
 */
function isForeign({ origin, host }: IncomingMessage['headers']): boolean {
  const isLocal = /^(127\.0\.0\.1|localhost|\[::1\])(:\d+)?$/i.test(host ?? '')
  return !isLocal || (origin !== undefined && URL.parse(origin)?.host !== host)
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    chunks.push(chunk as Buffer)
    bytes += (chunk as Buffer).length
    if (bytes > bodyLimitBytes) break
  }
  return Buffer.concat(chunks)
}
