// A job whose handlers wait until a test lets them end.
import { defineJob } from 'izta'

/** Handlers wait for `open`; a signal ends those that obey. `started` resolves when this many have begun. */
export function gatedJob(options: { timeoutSeconds?: number; obeys?: boolean } = {}) {
  const gate = Promise.withResolvers<void>()
  let begun = 0
  let heard = () => {}
  const job = defineJob({
    id: 'gated',
    timeoutSeconds: options.timeoutSeconds ?? 60,
    async run(_, { signal }) {
      begun++
      heard()
      const aborted = new Promise<never>((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(signal.reason as Error)),
      )
      aborted.catch(() => {})
      await (options.obeys === false ? gate.promise : Promise.race([gate.promise, aborted]))
    },
  })
  const started = async (count: number) => {
    while (begun < count) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      await new Promise<void>((resolve) => (heard = resolve))
    }
  }
  return { job, started, open: gate.resolve }
}
