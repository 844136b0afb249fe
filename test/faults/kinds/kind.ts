// What a kind of fault is, and what the kinds share.
import type { Client } from 'pg'
import type { NeonEndpoint } from '../neon.ts'
import type { Processes } from '../processes.ts'
import type { Proxy } from '../proxy.ts'
import type { Random } from '../random.ts'
import type { Server } from '../server.ts'

export interface Target {
  readonly server: Server
  readonly proxies: readonly Proxy[]
  readonly neon: NeonEndpoint
  readonly runners: Processes
  readonly clients: Processes
}

/** Resolves to false when there was nothing to do it to. */
export type Inject = (target: Target, random: Random) => Promise<boolean>

export interface Kind {
  /** How often it is drawn, beside the others. */
  readonly weight: number
  /** What it does, for the report. */
  readonly what: string
  /** How many of it at once, at the most. */
  readonly atOnce?: number
  /** Kinds of one group never overlap. */
  readonly apart?: 'server'
  readonly inject: Inject
}

export async function withAdmin<T>({ server }: Target, work: (admin: Client) => Promise<T>): Promise<T> {
  const admin = await server.connect()
  try {
    return await work(admin)
  } finally {
    await admin.end().catch(() => undefined)
  }
}

/** Sends a message to one of the processes. */
export const message =
  (to: 'runners' | 'clients', build: (random: Random) => object): Inject =>
  (target, random) => {
    const child = target[to].any(random)
    child?.send(build(random), () => undefined)
    return Promise.resolve(child !== undefined)
  }
