// `izta dev`: the local stack with the jobs of a file, until Ctrl-C.
import { configOf } from '../config.ts'
import { placeOf } from '../db/redact.ts'
import type { AnyJob } from '../job/job.ts'
import { startLocalStack, type LocalStack, type LocalStackOptions } from '../local/stack.ts'
import { loadDefinitions } from './definitions.ts'
import { createDevLog } from './dev-log.ts'
import { runMigrate, tell } from './migrate.ts'
import { UsageError } from './usage-error.ts'

/** What other processes enqueue into the same database starts so soon. */
const tickSeconds = 2

export interface DevOptions {
  readonly port?: number
  readonly databaseUrl?: string
}

/** Resolves when the stack runs; a signal ends the process. */
export async function runDev(file: string, { port, databaseUrl }: DevOptions): Promise<void> {
  const { izta, jobs, schedules } = await loadDefinitions(file)
  if (izta !== undefined && databaseUrl !== undefined) {
    throw new UsageError(
      `${file} exports an izta instance, which has its database: leave out --database-url.`,
    )
  }
  // Said before the stack does the same in silence.
  if (databaseUrl !== undefined) await runMigrate({ databaseUrl })
  else if (izta !== undefined) tell(await izta.migrate())
  // Whoever read the lines has gone (`izta dev … | head`).
  process.stdout.on('error', () => process.exit(1))
  const log = createDevLog(process.stdout)
  const shared = { schedulerSeconds: tickSeconds, ...(port === undefined ? {} : { port }) }
  const options: LocalStackOptions =
    izta === undefined
      ? {
          ...shared,
          jobs,
          schedules,
          log: log.logger,
          ...(databaseUrl === undefined ? {} : { database: databaseUrl }),
        }
      : { ...shared, izta }
  const starting = startLocalStack(options)
  stopOnSignals(starting)
  const stack = await starting
  const config = configOf(stack.izta)
  log.follow(stack.izta, config.jobs)
  introduce(stack, databaseUrl)
}

function introduce({ izta, url, databaseUrl }: LocalStack, given: string | undefined): void {
  const { jobs, schedules } = configOf(izta)
  const named = (names: Iterable<{ name: string }>) => [...names].map(({ name }) => name).join(', ') || 'none'
  console.log(`jobs       ${named(jobs.values())}`)
  console.log(`schedules  ${named(schedules?.values() ?? [])}`)
  console.log(`database   ${describeDatabase(databaseUrl, given)}`)
  console.log(`enqueue    ${url}`)
  console.log(`           ${curlFor(url, [...jobs.values()])}`)
  console.log('Ctrl-C stops.')
}

function describeDatabase(url: string | undefined, given: string | undefined): string {
  if (given !== undefined) return placeOf({ connectionString: given })
  return url === undefined ? 'that of the izta instance' : `${url} (gone at the end)`
}

/** A task that can be sent as it stands, if there is a job without payload. */
function curlFor(url: string, jobs: readonly AnyJob[]): string {
  const bare = jobs.find(({ payload }) => payload === undefined)
  if (bare !== undefined) return `curl ${url} -d '{"tasks":[{"job":"${bare.id}"}]}'`
  const id = jobs[0]?.id ?? 'job'
  return `curl ${url} -d '{"tasks":[{"job":"${id}","payload":{…}}]}'   with a payload of yours`
}

/** The first stops in order, also while the stack is starting; the second ends the process at once. */
function stopOnSignals(starting: Promise<LocalStack>): void {
  let stopping = false
  const onSignal = () => {
    if (stopping) process.exit(130)
    stopping = true
    console.log('\nstopping: running tasks are handed back (Ctrl-C again ends at once)')
    void starting.then(stopAndExit, () => {})
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
}

async function stopAndExit(stack: LocalStack): Promise<void> {
  await stack.stop()
  // A handler that ignores its signal would keep the process alive.
  process.exit(0)
}
