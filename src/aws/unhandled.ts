// Logs rejections that nobody handles, in place of the end of the process, which would take every running task along.
import { environment } from '../config.ts'
import { readableMessage } from '../job/json.ts'
import type { Logger } from '../log.ts'

const logs: Logger[] = []

function report(reason: unknown): void {
  const stack = reason instanceof Error ? reason.stack : undefined
  logs.at(-1)?.error('a promise was rejected and nobody handled it: no task is blamed', {
    error: readableMessage(reason),
    ...(stack === undefined ? {} : { stack }),
  })
}

/**
 * Installs one listener a process, however often it is called; the function returned takes it away again.
 *
 * On Lambda the listeners that are there already go: the runtime's own ends the process
 * (https://github.com/aws/aws-lambda-nodejs-runtime-interface-client/blob/main/src/index.mjs). Those that the
 * application adds later stay.
 */
export function logUnhandledRejections(log: Logger): () => void {
  if (logs.length === 0) {
    if (environment('AWS_LAMBDA_RUNTIME_API') !== undefined) process.removeAllListeners('unhandledRejection')
    process.on('unhandledRejection', report)
  }
  logs.push(log)
  let installed = true
  return () => {
    if (!installed) return
    installed = false
    logs.splice(logs.indexOf(log), 1)
    if (logs.length === 0) process.off('unhandledRejection', report)
  }
}
