// Logs rejections that nobody handles, in place of the end of the process, which would take every running task along.
import type { ResolvedConfig } from '../config.ts'
import { environment } from '../environment.ts'
import { readableMessage } from '../errors.ts'

type Logging = Pick<ResolvedConfig, 'log' | 'logMessages'>

const logs: Logging[] = []

function report(reason: unknown): void {
  const last = logs.at(-1)
  const stack = reason instanceof Error ? reason.stack : undefined
  last?.log.error('a promise was rejected and nobody handled it: no task is blamed', {
    class: reason instanceof Error ? reason.name : typeof reason,
    ...(last.logMessages
      ? { error: readableMessage(reason), ...(stack === undefined ? {} : { stack }) }
      : {}),
  })
}

/**
 * Installs one listener a process, however often it is called; the function returned takes it away again.
 *
 * On Lambda the listeners that are there already go: the runtime's own ends the process
 * (https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/blob/main/src/index.mjs). Those that the
 * application adds later stay.
 */
export function logUnhandledRejections(logging: Logging): () => void {
  if (logs.length === 0) {
    if (environment('AWS_LAMBDA_RUNTIME_API') !== undefined) process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', report)
  }
  logs.push(logging)
  let installed = true
  return () => {
    if (!installed) return
    installed = false
    logs.splice(logs.indexOf(logging), 1)
    if (logs.length === 0) process.off('unhandledRejection', report)
  }
}
