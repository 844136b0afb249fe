#!/usr/bin/env node
// The command `izta`: reads arguments, runs a command, and turns errors into one line and an exit code.
import { readFileSync } from 'node:fs'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { environment } from '../environment.ts'
import { IztaError, readableMessage } from '../errors.ts'
import { UsageError } from './usage-error.ts'

const exitCodes = { failure: 1, usage: 2 }

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string
}

// Each command is loaded when it is used, so that help and refusals come at once.
const program = new Command('izta')
  .description('Background jobs and schedules on Postgres.')
  .version(version)
  .exitOverride()
  .showHelpAfterError('(run izta --help for what there is)')

program
  .command('migrate')
  .description('bring the schema up to date; with --jobs, also store the schedules that a file exports')
  .option('--database-url <url>', 'connection string (default: DATABASE_URL)')
  .option('--schema <name>', "the database schema of izta's tables (default: izta)")
  .option('--jobs <file>', 'a file that exports jobs and schedules, or an izta instance')
  .option('--roles', 'make group roles that may enqueue, run or read, and no more')
  .action(async (options: { databaseUrl?: string; schema?: string; jobs?: string; roles?: boolean }) => {
    const { runMigrate } = await import('./migrate.ts')
    await runMigrate({ ...options, databaseUrl: options.databaseUrl ?? environment('DATABASE_URL') })
  })

program
  .command('dev')
  .description('run the jobs of a file on this machine, with scheduler, runner and an address to enqueue at')
  .argument(
    '<file>',
    'exports jobs and schedules, or an izta instance; TypeScript runs as it is on Node.js 22.18 or newer',
  )
  .option('--port <number>', 'port of the enqueue address (default: a free one)', parsePort)
  .option('--database-url <url>', 'a database to use (default: an embedded PostgreSQL, gone at the end)')
  .action(async (file: string, options: { port?: number; databaseUrl?: string }) => {
    const { runDev } = await import('./dev.ts')
    await runDev(file, options)
  })

program
  .command('doctor')
  .description('examine an installation: database, user, queues, schedules, and with --stack its functions')
  .option('--database-url <url>', 'connection string (default: DATABASE_URL)')
  .option('--schema <name>', "the database schema of izta's tables (default: izta)")
  .option('--jobs <file>', 'a file that exports jobs, or an izta instance: compares their timeouts')
  .option(
    '--stack <name>',
    'a deployed stack, service-stage: examines its runners with the AWS credentials at hand',
  )
  .option('--region <name>', 'of the stack (default: AWS_REGION)')
  .option('--json', 'print a list of { name, level, message }')
  .action(
    async (options: {
      databaseUrl?: string
      schema?: string
      jobs?: string
      stack?: string
      region?: string
      json?: boolean
    }) => {
      const { runDoctor } = await import('./doctor/doctor.ts')
      process.exitCode = await runDoctor({
        ...options,
        databaseUrl: options.databaseUrl ?? environment('DATABASE_URL'),
      })
    },
  )

function parsePort(text: string): number {
  const port = Number(text)
  if (/^\d+$/.test(text) && port <= 65_535) return port
  throw new InvalidArgumentError('Expected a number from 0 to 65535.')
}

try {
  await program.parseAsync()
} catch (error) {
  process.exitCode = report(error)
}

/** commander has said itself what is wrong with the arguments. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage
  const isExpected = IztaError.is(error) || error instanceof UsageError
  console.error(`izta: ${readableMessage(error)}`)
  // Of what is nobody's expectation the place is worth more than a short message.
  if (!isExpected && error instanceof Error && error.stack !== undefined) console.error(error.stack)
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failure
}
