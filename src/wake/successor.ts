// Runners that start each other: a sibling for a backlog, a successor for what is left.
import { defaults } from '../defaults.ts'
import { anyQueue, type Wakes } from './wakes.ts'

/**
 * Wakes one more runner of these queues (empty: of all), unless `hops` runners have started each other already: Lambda
 * stops longer chains. Other runners may serve some of the queues too, hence a wake for each.
 */
export async function wakeNext(
  { wakes }: { readonly wakes: Wakes },
  queues: readonly string[],
  hops: number,
): Promise<void> {
  if (hops >= defaults.runner.maxHops) return
  await wakes.wake(queues.length > 0 ? queues : [anyQueue], hops + 1)
}
