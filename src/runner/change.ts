// What the loop of a run waits for: that anything changes, or that a time is over.
import type { Clock } from '../clock.ts'

export interface Change {
  notify(): void
  /** Resolves at the next change, at once if there was one since it resolved last, or after `ms`. */
  next(ms?: number): Promise<void>
}

export function createChange(clock: Clock): Change {
  let hasChanged = false
  let wake = () => {}

  function notify(): void {
    // A promise that is resolved again is reported to Node, which takes longer than all the rest.
    if (hasChanged) return
    hasChanged = true
    wake()
  }

  return {
    notify,
    async next(ms = Infinity) {
      if (!hasChanged) {
        const cancel = ms === Infinity ? undefined : clock.after(Math.max(0, ms), notify)
        await new Promise<void>((resolve) => (wake = resolve))
        cancel?.()
      }
      hasChanged = false
      wake = () => {}
    },
  }
}
