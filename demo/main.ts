// Entry of `npm run demo`: sees that everything is there, reads the arguments, and cleans up when interrupted.
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const help = `Audits the licences and the integrity of installed npm packages with izta, on a local PostgreSQL.

Usage: npm run demo -- [options] [folder]

  folder      where node_modules is (default: this repository)
  --crash     kill the runner's process half way and see that nothing is lost
  -h, --help  show this

In a terminal the progress is live; NO_COLOR=1 turns colours off. Piped, it prints plain lines.
A task is failing while it has attempts left, and failed when it has none or wants none.
Exit codes: 0 all audited and exact, 1 not so, 2 wrong arguments or something missing, 130 interrupted.
`

/** An error whose message says everything: what is wrong is outside the code. */
class SetupError extends Error {}

interface Arguments {
  readonly crash: boolean
  readonly root: string
}

/** Undefined when help is asked for. */
function readArguments(): Arguments | undefined {
  const options = { crash: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } as const
  try {
    const { values, positionals, tokens } = parseArgs({
      options,
      allowPositionals: true,
      strict: false,
      tokens: true,
    })
    for (const token of tokens) {
      if (token.kind !== 'option') continue
      if (!Object.hasOwn(options, token.name)) {
        throw new Error(`Unknown option ${token.rawName}. Known: --crash, --help.`)
      }
      if (token.value !== undefined) throw new Error(`Option ${token.rawName} takes no value.`)
    }
    if (values['help'] === true) return undefined
    const [folder = join(import.meta.dirname, '..'), ...more] = positionals
    if (more.length > 0) throw new Error(`One folder can be audited at a time; got ${positionals.length}.`)
    return { crash: values['crash'] === true, root: resolve(folder) }
  } catch (error) {
    throw new SetupError(messageOf(error))
  }
}

/** Loads the rest only now, so that a missing package can be told in words. */
async function loadDemo() {
  try {
    const modules = [import('./audit.ts'), import('./screen.ts'), import('../src/index.ts')] as const
    const [{ runAudit }, { createScreen }, { IztaError }] = await Promise.all(modules)
    return { runAudit, createScreen, IztaError }
  } catch (error) {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND'
    if (isMissing) throw new SetupError(`Something is not installed, run "npm ci" first: ${error.message}`)
    throw error
  }
}

/** Exit codes of interrupted programs, as shells count them. */
const exitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const

/** Aborts at the first signal; its exit code is then the abort's reason. */
function listenForSignals(): AbortSignal {
  const interruption = new AbortController()
  let interruptedAtMs = Infinity
  for (const [name, exitCode] of Object.entries(exitCodes)) {
    process.on(name, () => {
      interruptedAtMs = Math.min(interruptedAtMs, performance.now())
      interruption.abort(exitCode)
      // npm passes on a Ctrl-C that the terminal has sent already; only a later one means: at once.
      if (performance.now() - interruptedAtMs > 1000) process.exit(exitCode)
    })
  }
  // Nobody reads any more, as in `npm run demo | head`.
  process.stdout.on('error', () => interruption.abort(1))
  return interruption.signal
}

async function main(): Promise<number> {
  const given = readArguments()
  if (given === undefined) {
    process.stdout.write(help)
    return 0
  }
  const modules = join(given.root, 'node_modules')
  if (!(await stat(modules).catch(() => undefined))?.isDirectory()) {
    throw new SetupError(`There is no folder ${modules}: run "npm ci" there first.`)
  }
  const { runAudit, createScreen, IztaError } = await loadDemo()
  const signal = listenForSignals()
  try {
    const isExact = await runAudit({ ...given, screen: createScreen(), signal })
    signal.throwIfAborted()
    return isExact ? 0 : 1
  } catch (error) {
    if (signal.aborted) return Number(signal.reason)
    throw IztaError.is(error) ? new SetupError(error.message, { cause: error }) : error
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

try {
  process.exitCode = await main()
} catch (error) {
  const isSetup = error instanceof SetupError
  console.error(isSetup ? error.message : error)
  process.exitCode = isSetup ? 2 : 1
}
