// Draws faults by their weights, in the order of a seed, and injects them.
import { setTimeout as sleep } from 'node:timers/promises'
import { kinds, type KindName } from './kinds.ts'
import type { Target } from './kinds/kind.ts'
import type { Random } from './random.ts'

export interface InjectOptions {
  readonly faults: number
  readonly kinds: readonly KindName[]
  /** Faults a second, for now. */
  readonly pace: () => number
  readonly random: Random
  readonly signal: AbortSignal
  readonly onFault: (kind: KindName) => void
}

/** Injects so many faults, and returns when each is over. */
export async function injectFaults(target: Target, options: InjectOptions): Promise<void> {
  const { faults, kinds: chosen, pace, random, signal, onFault } = options
  const running: KindName[] = []
  const open = new Set<Promise<void>>()
  let done = 0

  const isDrawable = (name: KindName) => {
    const { atOnce = Infinity, apart } = kinds[name]
    return (
      running.filter((other) => other === name).length < atOnce &&
      (apart === undefined || !running.some((other) => kinds[other].apart === apart))
    )
  }
  function draw(): KindName | undefined {
    const drawable = chosen.filter(isDrawable)
    const total = drawable.reduce((sum, name) => sum + kinds[name].weight, 0)
    let left = random.next() * total
    return drawable.find((name) => (left -= kinds[name].weight) < 0)
  }
  async function one(name: KindName): Promise<void> {
    running.push(name)
    try {
      if (await kinds[name].inject(target, random)) {
        done++
        onFault(name)
      }
    } catch {
      // Another fault was in its way, such as the end of the server.
    } finally {
      running.splice(running.indexOf(name), 1)
    }
  }
  while (done < faults && !signal.aborted) {
    const name = draw()
    if (name !== undefined) {
      const fault = one(name)
      open.add(fault)
      void fault.finally(() => open.delete(fault))
    }
    await sleep((random.next() * 2 * 1000) / pace())
  }
  await Promise.all(open)
}
