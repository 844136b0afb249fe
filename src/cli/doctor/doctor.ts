// `izta doctor`: examines an installation from a developer's machine and prints a line for each check.
import pc from 'picocolors'
import { createAwsApi } from '../../aws/api.ts'
import { createIzta } from '../../client/izta.ts'
import { configOf } from '../../config.ts'
import type { Database } from '../../db/database.ts'
import { databaseAt } from '../../local/database-at.ts'
import { loadDefinitions, type Definitions } from '../definitions.ts'
import { checkConnectionString } from './connection.ts'
import { attempt, gatherDatabaseFacts, type Facts } from './facts.ts'
import type { Finding, Level, Verdict } from './finding.ts'
import { functionChecks } from './functions.ts'
import { serverChecks } from './server.ts'
import { gatherStackFacts } from './stack.ts'
import { workChecks } from './work.ts'
import { UsageError } from '../usage-error.ts'

export interface DoctorCommand {
  readonly databaseUrl: string | undefined
  readonly schema?: string | undefined
  readonly jobs?: string | undefined
  readonly stack?: string | undefined
  readonly region?: string | undefined
  readonly json?: boolean | undefined
}

/** Where the lines go: standard output. */
export interface Output {
  readonly isTTY?: boolean | undefined
  write(text: string): unknown
}

/** Prints what it finds and returns the exit code: 1 when a check fails. */
export async function runDoctor(command: DoctorCommand, output: Output = process.stdout): Promise<number> {
  const findings = examine(await gatherFacts(command))
  output.write(command.json === true ? `${JSON.stringify(findings, null, 2)}\n` : lines(findings, output))
  return findings.some(({ level }) => level === 'failure') ? 1 : 0
}

/** Every check on the facts, and the questions that got no answer. */
export function examine(facts: Facts): Finding[] {
  const { troubles } = facts
  const checks: Readonly<Record<string, (known: Facts) => readonly Verdict[]>> = {
    connection: ({ connectionString }) =>
      connectionString === undefined ? [] : checkConnectionString(connectionString),
    ...serverChecks,
    ...workChecks,
    ...functionChecks,
  }
  // What is said twice helps nobody: a missing privilege or table makes the questions behind it fail.
  const isNamed = (code: string) =>
    (code === 'database-access' && (facts.missingPrivileges ?? []).length > 0) ||
    (code === 'not-migrated' && facts.schema?.state === 'pending')
  return [
    ...Object.entries(checks).flatMap(([name, check]) =>
      check(facts).map((verdict) => ({ name, ...verdict })),
    ),
    ...troubles
      .filter(({ code }) => !isNamed(code))
      .map(({ about, message }) => ({ name: about, level: 'failure' as const, message })),
  ]
}

async function gatherFacts({ databaseUrl, schema, jobs, stack, region }: DoctorCommand): Promise<Facts> {
  const defined = jobs === undefined ? undefined : await loadDefinitions(jobs)
  const { database, schemaName, connectionString, definitions } = targetOf(defined, databaseUrl, schema)
  try {
    const facts = isReadable(connectionString)
      ? await gatherDatabaseFacts({ database, schemaName, now: Date.now })
      : { troubles: [] }
    const troubles = [...facts.troubles]
    const stackFacts =
      stack === undefined
        ? undefined
        : await attempt(troubles, 'functions', () => gatherStackFacts(createAwsApi({ region }), stack))
    return { ...facts, troubles, connectionString, schemaName, definitions, stack: stackFacts }
  } finally {
    await database.close?.()
  }
}

function isReadable(connectionString: string | undefined): boolean {
  return (
    connectionString === undefined ||
    checkConnectionString(connectionString).every(({ level }) => level !== 'failure')
  )
}

interface Chosen {
  readonly database: Database
  readonly schemaName: string
  readonly connectionString: string | undefined
  readonly definitions: Facts['definitions']
}

function targetOf(defined: Definitions | undefined, databaseUrl?: string, schema?: string): Chosen {
  if (defined?.izta !== undefined) {
    // It knows its own database and schema.
    const { givenDatabase: database, schema: schemaName, jobs } = configOf(defined.izta)
    return { database, schemaName, connectionString: undefined, definitions: [...jobs.values()] }
  }
  if (databaseUrl === undefined) {
    throw new UsageError(
      'No database is given: set DATABASE_URL or pass --database-url postgres://user:password@host/database.',
    )
  }
  // In place of one that is never asked: what is wrong with its string is a finding.
  const database = isReadable(databaseUrl) ? databaseAt(databaseUrl) : { query: () => Promise.resolve([]) }
  const definitions =
    defined === undefined ? undefined : [...defined.jobs, ...defined.schedules.map(({ job }) => job)]
  // The instance checks the schema's name and that no two jobs share an id.
  const config = configOf(createIzta({ database, schema, jobs: definitions ?? [] }))
  return {
    database,
    schemaName: config.schema,
    connectionString: databaseUrl,
    definitions: defined === undefined ? undefined : [...config.jobs.values()],
  }
}

const signs: Readonly<Record<Level, string>> = { ok: '✔', warning: '!', failure: '✖' }
const colourOf = { ok: 'green', warning: 'yellow', failure: 'red' } as const

function lines(findings: readonly Finding[], output: Output): string {
  const colours = pc.createColors(output.isTTY === true && pc.isColorSupported)
  const width = Math.max(...findings.map(({ name }) => name.length))
  return findings
    .map(
      ({ name, level, message }) =>
        `${colours[colourOf[level]](signs[level])} ${name.padEnd(width)}  ${message}\n`,
    )
    .join('')
}
