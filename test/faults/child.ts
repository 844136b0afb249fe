// What the child processes share: their settings, and a logger that says nothing.
import type { Logger } from '../../src/index.ts'

export interface ChildSettings {
  /** Through the proxy. */
  readonly url: string
  /** Straight to the server. */
  readonly ledgerUrl: string
  /** Old runners do not know the newest job. */
  readonly generation: 'old' | 'new'
  readonly seed: number
}

export const childSettings = () => JSON.parse(process.argv[2] ?? '{}') as ChildSettings

const nothing = () => undefined
export const quiet: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing }
