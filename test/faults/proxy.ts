// A TCP proxy in front of Postgres that cuts, holds and delays single statements on demand.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'

/**
 * `before`: the statement never arrives. `during`: it is cut while it runs. `after`: it was applied, its answer is
 * lost. `late`: the client sees a cut, and the statement arrives after it has tried again. `stall`: the answer is late.
 */
export type Cut = 'cut-before' | 'cut-during' | 'cut-after' | 'late-copy' | 'stalled-answer'

export interface Proxy {
  readonly port: number
  /** The next statement that passes meets the cut. False when none has come for two seconds. */
  arm(cut: Cut, delayMs: number): Promise<boolean>
  close(): void
}

interface Armed {
  readonly cut: Cut
  readonly delayMs: number
  readonly applied: (applied: boolean) => void
}

const patienceMs = 2000
const latePatienceMs = 2000
/** `ReadyForQuery`, with which the server ends each answer. */
const readyPrefix = Buffer.from([0x5a, 0, 0, 0, 5])
/** `Parse`, with which each statement begins. */
const parse = 0x50

export async function startProxy(target: () => { host: string; port: number }): Promise<Proxy> {
  const armed: Armed[] = []
  const sockets = new Set<Socket>()

  function serve(client: Socket): void {
    const server = connect(target())
    let isReady = false
    let answer: 'pass' | 'drop' | 'delay' = 'pass'
    let delayMs = 0
    for (const socket of [client, server]) {
      sockets.add(socket)
      socket.setNoDelay(true)
      socket.on('error', () => undefined)
      socket.on('close', () => sockets.delete(socket))
    }
    const cutBoth = () => {
      client.destroy()
      server.destroy()
    }
    let isLate = false
    client.on('close', () => {
      if (!isLate) server.destroy()
    })
    server.on('close', () => client.destroy())

    client.on('data', (chunk: Buffer) => {
      const one = isReady && chunk[0] === parse ? armed.shift() : undefined
      if (one === undefined) return void server.write(chunk)
      one.applied(true)
      switch (one.cut) {
        case 'cut-before':
          return cutBoth()
        case 'cut-during':
          server.write(chunk)
          return void setTimeout(cutBoth, one.delayMs % 8)
        case 'cut-after':
          answer = 'drop'
          return void server.write(chunk)
        case 'late-copy':
          isLate = true
          answer = 'drop'
          client.destroy()
          setTimeout(() => server.write(chunk), one.delayMs)
          // Of a large statement only the first part is there: a server waits for the rest as long as anybody holds the line.
          return void setTimeout(() => server.destroy(), one.delayMs + latePatienceMs)
        case 'stalled-answer':
          answer = 'delay'
          delayMs = one.delayMs
          return void server.write(chunk)
      }
    })
    server.on('data', (chunk: Buffer) => {
      if (chunk.subarray(-6, -1).equals(readyPrefix)) isReady = true
      if (answer === 'pass') return void client.write(chunk)
      if (answer === 'drop') return cutBoth()
      setTimeout(() => client.write(chunk), delayMs)
    })
  }

  const listener = createServer(serve).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const address = listener.address()
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port')
  return {
    port: address.port,
    async arm(cut, delayMs) {
      const applied = Promise.withResolvers<boolean>()
      const one = { cut, delayMs, applied: applied.resolve }
      armed.push(one)
      const timer = setTimeout(() => {
        if (armed.includes(one)) armed.splice(armed.indexOf(one), 1)
        applied.resolve(false)
      }, patienceMs)
      const result = await applied.promise
      clearTimeout(timer)
      return result
    },
    close() {
      listener.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}
