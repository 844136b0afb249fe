// `izta dev`: the local stack with the jobs of a file, until Ctrl-C.
import { configOf } from '../config.ts'
import { placeOf } from '../db/redact.ts'
import { startLocalStack, type LocalStack, type LocalStackOptions } from '../local/stack.ts'
import { loadDefinitions } from './definitions.ts'
import { createDevLog } from './dev-log.ts'
import { UsageError } from './usage-error.ts'

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
  // Whoever read the lines has gone (`izta dev … | head`).
  process.stdout.on('error', () => process.exit(1))
  const log = createDevLog(process.stdout)
  const shared = port === undefined ? {} : { port }
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
  log.follow(stack.izta, (id) => config.jobs.get(id)?.name ?? id)
  introduce(stack, databaseUrl)
}

function introduce({ izta, url, databaseUrl }: LocalStack, given: string | undefined): void {
  const { jobs, schedules } = configOf(izta)
  const [job] = jobs.values()
  const example = {
    tasks: [{ job: job?.id ?? 'job', ...(job?.payload === undefined ? {} : { payload: {} }) }],
  }
  const named = (names: Iterable<{ name: string }>) => [...names].map(({ name }) => name).join(', ') || 'none'
  console.log(`jobs       ${named(jobs.values())}`)
  console.log(`schedules  ${named(schedules?.values() ?? [])}`)
  if (given !== undefined) console.log(`database   ${placeOf({ connectionString: given })}`)
  else if (databaseUrl !== undefined) console.log(`database   ${databaseUrl} (gone at the end)`)
  console.log(`enqueue    ${url}`)
  console.log(`           curl ${url} -d '${JSON.stringify(example)}'`)
  console.log('Ctrl-C stops.')
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
