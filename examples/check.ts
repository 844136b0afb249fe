// Packages each example as its users would: with the packed tarball of izta, from a clean folder, without credentials.
// Takes the path of a tarball, else packs one. The tools, esbuild and osls, are the repository's, of the same versions.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const temporary = mkdtempSync(join(tmpdir(), 'izta-examples-'))
const tools = join(root, 'node_modules/.bin')

interface Manifest {
  readonly devDependencies: Readonly<Record<string, string>>
}

const readManifest = (folder: string) =>
  JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest

/** Returns what a command prints; what a failed one has said goes to the terminal. */
function run(folder: string, command: string, ...words: string[]): string {
  const env = { ...process.env, PATH: `${tools}:${process.env['PATH']}` }
  try {
    return execFileSync(command, words, {
      cwd: folder,
      encoding: 'utf8',
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`${command} ${words.join(' ')} failed:\n${stdout}${stderr}`, { cause: error })
  }
}

function pack(): string {
  // The name of the tarball comes last, after what building prints.
  const lines = run(root, 'npm', 'pack', '--silent', '--pack-destination', temporary).trim().split('\n')
  return join(temporary, lines.at(-1) ?? '')
}

const strict = [
  '--noEmit',
  '--strict',
  '--allowImportingTsExtensions',
  '--skipLibCheck',
  '--target',
  'es2023',
]
const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')]
const entries = ['runner', 'scheduler', 'enqueue'].map((entry) => `functions/izta/${entry}.ts`)

function check(name: string, tarball: string): void {
  const folder = join(temporary, name)
  cpSync(join(root, 'examples', name), folder, { recursive: true })
  const { devDependencies: ours } = readManifest(root)
  for (const [tool, version] of Object.entries(readManifest(folder).devDependencies)) {
    if (ours[tool] !== version)
      throw new Error(`${name} has ${tool} ${version}, the repository ${ours[tool]}`)
  }
  run(folder, 'npm', 'install', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund', tarball)
  run(folder, 'tsc', '--ignoreConfig', ...strict, '--module', 'nodenext', ...types, ...entries)
  run(folder, 'npm', 'run', 'package')
  const template = readFileSync(join(folder, '.serverless/cloudformation-template-update-stack.json'), 'utf8')
  const { Resources: resources } = JSON.parse(template) as { Resources: Record<string, { Type: string }> }
  const functions = Object.values(resources).filter(({ Type }) => Type === 'AWS::Lambda::Function')
  if (functions.length !== entries.length)
    throw new Error(`${name} was packaged with ${functions.length} functions, not ${entries.length}`)
  console.log(`example ${name}: packaged with ${functions.length} functions from the packed izta`)
}

try {
  const tarball = process.argv[2] ?? pack()
  for (const name of readdirSync(join(root, 'examples'))) {
    if (statSync(join(root, 'examples', name)).isDirectory()) check(name, tarball)
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
