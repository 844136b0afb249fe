// One function as Lambda runs it: environments with one invocation at a time, so many of them at the most.
import { randomUUID } from 'node:crypto'
import type { Context } from 'aws-lambda'
import type { ResolvedConfig } from '../config.ts'
import { readableMessage } from '../errors.ts'

/** Lambda's context, without the callbacks that ended with Node.js 22. */
export type LocalContext = Omit<Context, 'done' | 'fail' | 'succeed'>

/** Where invocations happen, one after the other: this process or a child. */
export interface Environment {
  invoke(event: unknown, context: LocalContext): Promise<unknown>
  /** Ends a running invocation in order, as far as that is possible. */
  stop(): Promise<void>
}

export interface FunctionOptions {
  readonly name: string
  readonly config: ResolvedConfig
  readonly createEnvironment: () => Environment
  /** Invocations at once. */
  readonly concurrency: number
  readonly timeoutSeconds: number
  /** After each invocation, with its answer; undefined when it failed. */
  readonly onEnd?: (answer: unknown) => void
}

export interface LocalFunction {
  /** Starts an invocation, or remembers to start one as soon as one ends: never more than one, they see the same. */
  trigger(event: unknown): void
  stop(): Promise<void>
}

export function createFunction(options: FunctionOptions): LocalFunction {
  const { name, config, concurrency, timeoutSeconds } = options
  const environments = new Set<Environment>()
  const free: Environment[] = []
  const invocations = new Set<Promise<void>>()
  let waiting: { readonly event: unknown } | undefined
  let stopping = false

  function trigger(event: unknown): void {
    if (stopping) return
    const environment = free.shift() ?? grow()
    if (environment === undefined) {
      waiting = { event }
      return
    }
    const invocation = invoke(environment, event)
    invocations.add(invocation)
    void invocation.finally(() => invocations.delete(invocation))
  }

  function grow(): Environment | undefined {
    if (environments.size >= concurrency) return undefined
    const environment = options.createEnvironment()
    environments.add(environment)
    return environment
  }

  async function invoke(environment: Environment, event: unknown): Promise<void> {
    let answer: unknown
    try {
      answer = await environment.invoke(event, createContext(name, config, timeoutSeconds))
    } catch (error) {
      if (!stopping)
        config.log.error('an invocation failed', { function: name, error: readableMessage(error) })
    }
    // Last in line, so that one whose handler is stuck is asked only when the others are busy.
    free.push(environment)
    if (waiting !== undefined) {
      const { event: next } = waiting
      waiting = undefined
      trigger(next)
    }
    if (!stopping) options.onEnd?.(answer)
  }

  return {
    trigger,
    async stop() {
      stopping = true
      waiting = undefined
      await Promise.all([...environments].map((environment) => environment.stop()))
      await Promise.all(invocations)
    },
  }
}

function createContext(name: string, { clock }: ResolvedConfig, timeoutSeconds: number): LocalContext {
  const endsAtMs = clock.now() + timeoutSeconds * 1000
  return {
    callbackWaitsForEmptyEventLoop: true,
    functionName: name,
    functionVersion: '$LATEST',
    invokedFunctionArn: `arn:aws:lambda:local:000000000000:function:${name}`,
    memoryLimitInMB: '1769',
    awsRequestId: randomUUID(),
    logGroupName: `/aws/lambda/${name}`,
    logStreamName: 'local',
    getRemainingTimeInMillis: () => Math.max(0, endsAtMs - clock.now()),
  }
}
