// What the works of one source tree share: an instance of izta with its connection, and a count of its statements.
import type { Client } from 'pg'
import type { AnyJob, Database } from '../../src/index.ts'
import { quiet } from '../izta-queue.ts'
import { startNeonEndpoint } from '../neon-endpoint.ts'
import type { Tree } from '../tree.ts'

/** A piece of work that needs more of izta than every queue has. */
export type TreeWork<Options, Result> = (
  tree: Tree,
  watcher: Client,
  options: Options & { readonly url: string },
) => Promise<Result>

export interface InstanceOptions<Job extends AnyJob> {
  readonly url: string
  readonly jobs: readonly Job[]
  /** @default 'pg' */
  readonly driver?: 'pg' | 'neon'
  /** Most connections. @default 5 */
  readonly max?: number
  /** Whether attempts may fail: their warnings are not printed. @default false */
  readonly mayFail?: boolean
}

export async function openInstance<Job extends AnyJob>(
  { core, pg, neon }: Tree,
  { url, jobs, driver = 'pg', max = 5, mayFail = false }: InstanceOptions<Job>,
) {
  const endpoint = driver === 'pg' ? undefined : await startNeonEndpoint(url)
  const database =
    endpoint === undefined ? pg.pgDatabase({ connectionString: url, max }) : neon.neonDatabase(endpoint.url)
  const counted = countStatements(database)
  const izta = core.createIzta({ database: counted, jobs, log: mayFail ? { ...quiet, warn() {} } : quiet })
  return {
    izta,
    /** Milliseconds of each statement so far; one statement is one round trip with either driver. */
    statementMs: counted.ms,
    /** Messages of the statements that failed. */
    failures: counted.failures,
    async [Symbol.asyncDispose]() {
      await izta.close()
      await endpoint?.stop()
    },
  }
}

function countStatements(
  database: Database,
): Database & { readonly ms: number[]; readonly failures: string[] } {
  const ms: number[] = []
  const failures: string[] = []
  return {
    ...database,
    async query(statement, options) {
      const startedAt = performance.now()
      try {
        return await database.query(statement, options)
      } catch (error) {
        failures.push(error instanceof Error ? error.message : String(error))
        throw error
      } finally {
        ms.push(performance.now() - startedAt)
      }
    },
    ms,
    failures,
  }
}

/** Resolves when the queue holds nothing unfinished any more. */
export async function untilSettled(watcher: Client): Promise<void> {
  for (;;) {
    const { rows } = await watcher.query<{ unfinished: boolean }>(
      'select exists (select from izta.task) as unfinished',
    )
    if (rows[0]?.unfinished === false) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
