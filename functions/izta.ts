// Makes a function's izta instance from its environment: docs/deploying.md lists the variables.
import { openDatabase, replyLimitBytes } from '#database'
import { config } from 'zod/mini'
import en from 'zod/v4/locales/en.js'
import { invokeWake } from '../src/aws/invoke-wake.ts'
import { secretDatabase } from '../src/aws/secret.ts'
import { environment } from '../src/environment.ts'
import {
  createIzta,
  DefinitionError,
  type Database,
  type Izta,
  type IztaOptions,
  type Wake,
} from '../src/index.ts'

// The jobs use zod/mini, which is 50 kB less in a bundle than zod and brings no words for what it refuses.
config(en())

/** Only the scheduler names schedules: the others need not carry them. */
export function openIzta(definitions: Pick<IztaOptions, 'jobs' | 'schedules'>): Izta {
  return createIzta({
    ...definitions,
    database: database(),
    wake: runnersToWake(environment('IZTA_RUNNERS')),
  })
}

function database(): Database {
  const secret = environment('IZTA_DATABASE_SECRET')
  if (secret !== undefined) return secretDatabase({ secret, open: openDatabase, replyLimitBytes })
  const url = environment('DATABASE_URL')
  if (url !== undefined) return openDatabase(url)
  throw new DefinitionError(
    'DATABASE_URL is not set, nor is IZTA_DATABASE_SECRET: give the function a connection string, or the ARN of the secret that holds it.',
  )
}

/** `default=app-prod-runner,mail=app-prod-mail`: the runner function of each queue. */
function runnersToWake(list: string | undefined): Wake | undefined {
  if (list === undefined) return undefined
  const pairs = list.split(',').map((pair): [string, string] => {
    const [queue, name] = pair.trim().split('=')
    if (queue && name) return [queue, name]
    throw new DefinitionError(`IZTA_RUNNERS is "${list}": give QUEUE=FUNCTION pairs, separated by commas.`)
  })
  return invokeWake({ runners: Object.fromEntries(pairs), scheduler: environment('IZTA_SCHEDULER') })
}
