// An invocation environment in a process of its own, which may be killed like one of Lambda.
import { fork, type ChildProcess } from 'node:child_process'
import { resolve as resolvePath } from 'node:path'
import { pathToFileURL } from 'node:url'
import { environmentWith } from '../environment.ts'
import type { Environment } from './function.ts'

/** What the parent sends for each invocation. */
export interface ChildRequest {
  /** URL of the entry file, which exports `handler`. */
  readonly entry: string
  readonly event: unknown
  readonly remainingMs: number
  /** The plain values of the context. */
  readonly context: Record<string, unknown>
}

/** What the child answers. */
export type ChildReply = { readonly answer: unknown } | { readonly error: string }

export interface ChildEnvironment extends Environment {
  /** Undefined while no process is alive. */
  readonly pid: number | undefined
}

/** Asked for when a process starts, because a CommonJS bundle, which has no URL, may load this file without using it. */
const main = () =>
  new URL(import.meta.url.endsWith('.ts') ? './child-main.ts' : './child-main.js', import.meta.url)

/** Starts its process with the first invocation, and another one after it has ended. */
export function createChildEnvironment(file: string | URL, databaseUrl: string): ChildEnvironment {
  const entry = typeof file === 'string' ? pathToFileURL(resolvePath(file)).href : file.href
  let child: ChildProcess | undefined

  function start(): ChildProcess {
    const started = fork(main(), {
      env: environmentWith({ DATABASE_URL: databaseUrl }),
      serialization: 'advanced',
    })
    started.once('exit', () => {
      if (child === started) child = undefined
    })
    return started
  }

  return {
    get pid() {
      return child?.pid
    },
    async invoke(event, context) {
      const remainingMs = context.getRemainingTimeInMillis()
      const { awsRequestId, functionName, functionVersion, invokedFunctionArn, memoryLimitInMB } = context
      const facts = { awsRequestId, functionName, functionVersion, invokedFunctionArn, memoryLimitInMB }
      const running = (child ??= start())
      const outcome = await new Promise<ChildReply>((resolve) => {
        const timer = setTimeout(() => running.kill('SIGKILL'), remainingMs)
        const end = (reply: ChildReply) => {
          clearTimeout(timer)
          running.off('message', end)
          running.off('exit', exited)
          running.off('error', failed)
          resolve(reply)
        }
        const exited = (code: number | null, signal: string | null) =>
          end({ error: `The process ended with ${signal ?? `code ${code}`} during the invocation.` })
        const failed = (error: Error) => end({ error: error.message })
        running.on('message', end)
        running.on('exit', exited)
        running.on('error', failed)
        running.send({ entry, event, remainingMs, context: facts } satisfies ChildRequest)
      })
      if ('error' in outcome) throw new Error(outcome.error)
      return outcome.answer
    },
    async stop() {
      const last = child
      if (last === undefined) return
      const ended = new Promise((resolve) => last.once('exit', resolve))
      last.kill('SIGKILL')
      await ended
    },
  }
}
