// The local stack as the demo wants it: the three Lambda handlers on this machine, with little to say.
import { pgDatabase } from '../src/adapters/pg.ts'
import { startLocalStack, type LocalStack } from '../src/local/index.ts'
import { jobs } from './jobs.ts'
import { quietLog } from './quiet-log.ts'

/** How long an invocation of the runner that is killed may take, and so how long its tasks wait at the most. */
const crashingTimeoutSeconds = 12

/** On a Postgres of its own. The scheduler ticks every second instead of every minute. */
export function startStack({ crash }: { readonly crash: boolean }): Promise<LocalStack> {
  const runner = crash
    ? { entry: new URL('runner.ts', import.meta.url), timeoutSeconds: crashingTimeoutSeconds, maxRunners: 1 }
    : { concurrency: 10, timeoutSeconds: 60 }
  return startLocalStack({ jobs, app: 'demo', log: quietLog, schedulerSeconds: 1, runners: [runner] })
}

/** What the server says it is, and where. */
export async function describePostgres(url: string): Promise<string> {
  const database = pgDatabase(url)
  try {
    const [row] = await database.query({ text: 'show server_version', values: [] })
    return `PostgreSQL ${row?.['server_version']} at ${new URL(url).host}`
  } finally {
    await database.close?.()
  }
}
