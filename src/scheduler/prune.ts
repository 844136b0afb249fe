// Removes history rows whose time is over.
import type { ResolvedConfig } from '../config.ts'
import { runStatement } from '../db/run.ts'
import { defaults } from '../defaults.ts'
import { pruneStatement, readPruned } from '../store/prune.ts'

/**
 * Goes on, a bounded number of rows at a time, until no row is left to remove or `seconds` are over. Resolves to the number
 * of rows.
 */
export async function pruneHistory(config: ResolvedConfig, seconds: number): Promise<number> {
  const { rows } = defaults.prune
  const untilMs = config.clock.now() + seconds * 1000
  let pruned = 0
  for (;;) {
    // oxlint-disable-next-line no-await-in-loop -- one portion after the other, each in a transaction of its own
    const removed = readPruned(await runStatement(config, pruneStatement(rows)))
    pruned += removed
    if (removed < rows || config.clock.now() >= untilMs) return pruned
  }
}
