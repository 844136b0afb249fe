// Checks the package as users get it: its contents, types and entry points, the size of bundles, and the example with it.
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Metafile } from 'esbuild'
import { checkPackageManagers } from './package-managers.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const tool = (name: string) => join(root, 'node_modules', '.bin', name)
const temporary = mkdtempSync(join(tmpdir(), 'izta-package-'))
const project = join(temporary, 'project')
// The local PostgreSQL of root runs as another user, who must reach its programs.
chmodSync(temporary, 0o755)

interface PackageJson {
  readonly name: string
  readonly exports: Readonly<Record<string, unknown>>
}
interface Packed {
  readonly filename: string
  readonly size: number
  readonly unpackedSize: number
  readonly files: readonly { readonly path: string }[]
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'))

/** Runs a command and returns what it prints; what a failed one has said goes to the terminal. */
function run(command: string, args: readonly string[], folder: string): string {
  try {
    return execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`${command} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error })
  }
}

const manifest = readJson(join(root, 'package.json')) as PackageJson
const entryPoints = Object.keys(manifest.exports)
  .filter((path) => path !== './package.json')
  .map((path) => manifest.name + path.slice(1))

function pack(): string {
  const printed = run('npm', ['pack', '--json', '--pack-destination', temporary], root)
  // What `prepack` prints comes first.
  const [packed] = JSON.parse(printed.slice(printed.search(/^\[/m))) as Packed[]
  if (packed === undefined) throw new Error('npm pack made nothing')
  const expected =
    /^(dist|docs|examples\/existing-app|migrations|src)\/|^(CHANGELOG|README)\.md$|^LICENSE$|^package\.json$/
  const strangers = packed.files.map(({ path }) => path).filter((path) => !expected.test(path))
  if (strangers.length > 0)
    throw new Error(`The package holds what users do not need: ${strangers.join(', ')}`)
  console.log(
    `${packed.filename}: ${packed.files.length} files, ${kB(packed.size)}, ${kB(packed.unpackedSize)} unpacked`,
  )
  return join(temporary, packed.filename)
}

function install(tarball: string): void {
  mkdirSync(project)
  writeFileSync(
    join(project, 'package.json'),
    JSON.stringify({ name: 'project', private: true, type: 'module' }),
  )
  const { version } = readJson(join(root, 'node_modules/@types/node/package.json')) as { version: string }
  const packages = [tarball, `@types/node@${version}`]
  run(
    'npm',
    ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', ...packages],
    project,
  )
}

const program = `
import { createIzta, defineJob, defineSchedule, IztaError, startRunner, type EndedTask, type Izta } from 'izta'
import { createEnqueueHandler, createRunnerHandler, createSchedulerHandler, rdsToken } from 'izta/lambda'
import { startLocalStack } from 'izta/local'
import { neonDatabase } from 'izta/neon'
import { neonSocketDatabase } from 'izta/neon-socket'
import { notifyWake, pgDatabase } from 'izta/pg'
import { createTestClock, drain, runJob } from 'izta/testing'
import * as z from 'zod'

export const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number().default(1) }),
  result: z.number(),
  error: z.object({ code: z.literal('divide-by-zero') }),
  run({ numerator, denominator }, ctx) {
    if (denominator === 0) return ctx.fail({ code: 'divide-by-zero' }, { retry: false })
    return numerator / denominator
  },
})
const hourly = defineSchedule({ name: 'hourly', job: divide, payload: { numerator: 1 }, cron: '0 * * * *' })
const izta: Izta = createIzta({ database: pgDatabase('postgres://localhost/app'), jobs: [divide], schedules: [hourly] })

export async function half(): Promise<number | string> {
  const { id } = await izta.enqueue(divide, { numerator: 1, denominator: 2 }, { delaySeconds: 1 })
  const task: EndedTask<typeof divide> = await izta.wait(divide, id)
  if (task.status === 'finished') return task.result
  return task.status === 'failed' ? (task.error?.code ?? task.code) : 'cancelled'
}
// @ts-expect-error -- the payload is typed
void (() => izta.enqueue(divide, { numerator: 'one' }))

export const database = pgDatabase({ connectionString: 'postgres://izta@localhost/app', password: rdsToken() })
export const handlers = [createEnqueueHandler({ izta }), createRunnerHandler({ izta }), createSchedulerHandler({ izta })]
export { createTestClock, drain, IztaError, neonDatabase, neonSocketDatabase, notifyWake, runJob, startLocalStack, startRunner }
`

/** What needs no types of Node: `@types/aws-lambda`, behind `izta/lambda`, does. */
const withoutNodeTypes = `
import { createIzta, startRunner, type Izta, type Runner } from 'izta'
import { neonDatabase } from 'izta/neon'
import { neonSocketDatabase } from 'izta/neon-socket'
import { pgDatabase } from 'izta/pg'
import { createRemoteIzta } from 'izta/remote'
import { createTestClock } from 'izta/testing'

export const izta: Izta = createIzta({ database: pgDatabase('postgres://localhost/app'), jobs: [] })
export const runner: Runner = startRunner(izta)
export { createTestClock, neonDatabase, neonSocketDatabase, createRemoteIzta }
`

/** Strictest settings, declarations of dependencies included. */
function checkTypes(): void {
  writeFileSync(join(project, 'program.ts'), program)
  writeFileSync(join(project, 'without-node-types.ts'), withoutNodeTypes)
  const strict = [
    '--noEmit',
    '--strict',
    '--exactOptionalPropertyTypes',
    '--skipLibCheck',
    'false',
    '--target',
    'es2022',
  ]
  for (const mode of [
    ['--module', 'nodenext', '--moduleResolution', 'nodenext'],
    ['--module', 'esnext', '--moduleResolution', 'bundler'],
  ]) {
    const check = (types: string, file: string) =>
      run(tool('tsc'), ['--ignoreConfig', ...strict, ...mode, '--types', types, file], project)
    check('node', 'program.ts')
    check('', 'without-node-types.ts')
  }
}

/** Every entry point loads without optional peers it can do without, and the packaged migrations are found from `dist/`. */
function checkRun(): void {
  const script = `
    ${entryPoints
      .filter((name) => name !== 'izta/opentelemetry')
      .map((name) => `await import('${name}')`)
      .join('\n')}
    const { createIzta } = await import('izta')
    const sent = []
    const database = { query: async ({ text }) => (sent.push(text), []) }
    await createIzta({ database, jobs: [] }).migrate().catch(() => {})
    if (!sent.some((text) => text.includes('create table izta.task'))) throw new Error('no migrations were found')
  `
  run(process.execPath, ['--input-type=module', '--eval', script], project)
  run(join(project, 'node_modules/.bin/izta'), ['--help'], project)
}

/** What docs/commonjs.md promises: `require`, types with `nodenext`, and a clear error where a bundle has no migrations. */
async function checkCommonJs(): Promise<void> {
  const required = entryPoints
    .filter((name) => name !== 'izta/opentelemetry')
    .map((name) => `require('${name}')`)
  writeFileSync(join(project, 'entry.cjs'), required.join('\n'))
  run(process.execPath, ['--no-warnings', 'entry.cjs'], project)
  writeFileSync(join(project, 'program.cts'), program)
  const nodenext = ['--ignoreConfig', '--noEmit', '--strict', '--skipLibCheck', '--module', 'nodenext']
  run(tool('tsc'), [...nodenext, '--target', 'es2022', '--types', 'node', 'program.cts'], project)
  const migrates = `
    const { createIzta } = require('izta')
    require('izta/local')
    createIzta({ database: { query: async () => [] }, jobs: [] }).migrate().catch((error) => console.log(error.code))`
  await build({
    stdin: { contents: migrates, resolveDir: project, loader: 'js' },
    bundle: true,
    external: ['cloudflare:sockets', 'pg-native'],
    format: 'cjs',
    logLevel: 'error',
    outfile: join(project, 'bundle.cjs'),
    platform: 'node',
    target: 'node22',
  })
  const said = run(process.execPath, ['bundle.cjs'], project).trim()
  if (said !== 'migrations-missing') throw new Error(`migrate in a CommonJS bundle said: ${said}`)
}

const define = `
import { createIzta, defineJob } from 'izta'
import * as z from 'zod'
const job = defineJob({ id: 'greet', payload: z.object({ name: z.string() }), run: ({ name }) => name })
`
const overPg = `${define}
import { pgDatabase } from 'izta/pg'
const izta = createIzta({ database: pgDatabase(''), jobs: [job] })
`
const overNeon = `${define}
import { neonDatabase } from 'izta/neon'
const izta = createIzta({ database: neonDatabase(''), jobs: [job] })
`
const overNeonSocket = `${define}
import { neonSocketDatabase } from 'izta/neon-socket'
const izta = createIzta({ database: neonSocketDatabase(''), jobs: [job] })
`
const handler = (name: string) => `
import { ${name} } from 'izta/lambda'
export const handler = ${name}({ izta })
`

/** Minified; `limitKB` counts what is loaded at start, without the chunks that `import()` may load later. */
const bundles: readonly { name: string; code: string; limitKB?: number }[] = [
  {
    name: 'enqueue only, pg',
    code: `${overPg} export const handler = () => izta.enqueue(job, { name: '' })`,
    limitKB: 270,
  },
  {
    name: 'enqueue only, Neon',
    code: `${overNeon} export const handler = () => izta.enqueue(job, { name: '' })`,
    limitKB: 330,
  },
  {
    name: 'enqueue only, Neon by WebSocket',
    code: `${overNeonSocket} export const handler = () => izta.enqueue(job, { name: '' })`,
    limitKB: 330,
  },
  { name: 'runner, pg', code: overPg + handler('createRunnerHandler'), limitKB: 400 },
  { name: 'runner, Neon', code: overNeon + handler('createRunnerHandler'), limitKB: 400 },
  { name: 'scheduler, pg', code: overPg + handler('createSchedulerHandler') },
]

async function checkBundles(): Promise<void> {
  for (const { name, code, limitKB = Infinity } of bundles) {
    const split = await bundle(code, true)
    const single = await bundle(code, false)
    const start = loadedAtStart(split.outputs)
    const startBytes = start.reduce((sum, output) => sum + output.bytes, 0)
    const allBytes = Object.values(single.outputs).reduce((sum, output) => sum + output.bytes, 0)
    const carriesCron = start.some(({ inputs }) =>
      Object.keys(inputs).some((path) => /\/(cron-parser|luxon)\//.test(path)),
    )
    console.log(`${name.padEnd(31)} ${kB(startBytes)} at start, ${kB(allBytes)} as one file`)
    if (startBytes > limitKB * 1000) throw new Error(`The bundle "${name}" is above its ${limitKB} kB.`)
    if (carriesCron !== name.startsWith('scheduler'))
      throw new Error(`cron-parser is for the scheduler's start only, and "${name}" differs.`)
  }
}

async function bundle(code: string, splitting: boolean): Promise<Metafile> {
  const { metafile } = await build({
    stdin: { contents: code, resolveDir: project, loader: 'ts' },
    absWorkingDir: project,
    bundle: true,
    external: ['cloudflare:sockets', 'pg-native'],
    format: 'esm',
    logLevel: 'error',
    metafile: true,
    minify: true,
    outdir: 'out',
    platform: 'node',
    splitting,
    target: 'node22',
    write: false,
  })
  return metafile
}

/** The entry's file and all that it imports statically. */
function loadedAtStart(outputs: Metafile['outputs']): Metafile['outputs'][string][] {
  const paths = new Set(Object.keys(outputs).filter((path) => outputs[path]?.entryPoint === '<stdin>'))
  for (const path of paths) {
    for (const imported of outputs[path]?.imports ?? []) {
      if (imported.kind === 'import-statement' && imported.path in outputs) paths.add(imported.path)
    }
  }
  return [...paths].map((path) => outputs[path]).filter((output) => output !== undefined)
}

const kB = (bytes: number) => `${Math.round(bytes / 1000)} kB`

try {
  const tarball = pack()
  run(tool('publint'), ['run', '--strict', tarball], root)
  run(tool('attw'), ['--profile', 'esm-only', '--no-emoji', '--format', 'ascii', tarball], root)
  console.log('publint and are-the-types-wrong: nothing to say')
  install(tarball)
  checkTypes()
  console.log('types: nodenext and bundler resolve, strict, with the libraries checked')
  checkRun()
  console.log(`entry points: ${entryPoints.join(', ')}`)
  checkPackageManagers(root, temporary, tarball)
  await checkCommonJs()
  console.log('CommonJS: require of every entry point, types with nodenext, a bundle')
  await checkBundles()
  console.log(run(process.execPath, [join(root, 'examples/check.ts'), tarball], root).trim())
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
