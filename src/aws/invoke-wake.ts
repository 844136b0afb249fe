// Wakes a runner Lambda by an asynchronous invocation.
import { DefinitionError } from '../errors.ts'
import { anyQueue, type Wake } from '../wake/wakes.ts'
import { createAwsApi, type AwsApi, type AwsOptions } from './api.ts'

/** What `invokeWake` takes. */
export interface InvokeWakeOptions extends AwsOptions {
  /**
   * The runner function of each queue, by name or ARN; `'*'` for all that are not named.
   * @example `{ default: 'app-prod-runner', mail: 'app-prod-runner-mail' }`
   */
  runners: Readonly<Record<string, string>>
  /**
   * Sleepy mode: the scheduler function, by name or ARN. It is invoked when a task is due later and no alarm is set for
   * it, and sets one.
   * @default none: ticks find what is due
   */
  scheduler?: string | undefined
  /** Replaces the signed calls, in tests. */
  api?: AwsApi
}

/**
 * A wake that invokes the queue's runner function asynchronously. The caller's role needs `lambda:InvokeFunction` on
 * those functions and on the scheduler's, if that is given. Lambda answers once it has queued the event:
 * https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html
 *
 * @throws {DefinitionError} when no runner is named.
 *
 * @example
 * ```ts
 * const wake = invokeWake({ runners: { '*': 'app-prod-runner', mail: 'app-prod-runner-mail' } })
 * ```
 */
export function invokeWake(options: InvokeWakeOptions): Wake {
  const runners = new Map(Object.entries(options.runners))
  if (runners.size === 0) {
    throw new DefinitionError(
      'invokeWake: option "runners" names no function: give one per queue, or one for "*".',
    )
  }
  const api = options.api ?? createAwsApi(options)

  const functionsOf = (queue: string): Iterable<string> => {
    if (queue === anyQueue) return new Set(runners.values())
    const name = runners.get(queue) ?? runners.get(anyQueue)
    if (name !== undefined) return [name]
    throw new DefinitionError(
      `No runner is known for queue "${queue}" (known: ${[...runners.keys()].join(', ')}): deploy one, or see that another process works on it.`,
    )
  }

  const invoke = (name: string, body: { readonly hops: number; readonly queue?: string }) =>
    api({
      service: 'lambda',
      method: 'POST',
      path: `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`,
      headers: { 'x-amz-invocation-type': 'Event' },
      beginsChain: body.hops === 0,
      body,
    })

  /** One invocation serves all queues of a function that are woken in one breath: wakes must not multiply. */
  const starting = new Map<string, Promise<unknown>>()
  function start(name: string, queue: string, hops: number): Promise<unknown> {
    const key = `${name} ${hops}`
    const begun = starting.get(key)
    if (begun !== undefined) return begun
    const invoked = Promise.resolve().then(() => {
      starting.delete(key)
      return invoke(name, { queue, hops })
    })
    starting.set(key, invoked)
    return invoked
  }

  const { scheduler } = options
  return {
    async wake(queue, hops) {
      await Promise.all([...functionsOf(queue)].map((name) => start(name, queue, hops)))
    },
    ...(scheduler !== undefined && {
      async wakeAt(_, hops) {
        await invoke(scheduler, { hops })
      },
    }),
  }
}
