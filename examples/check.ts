// Packages each example as its users would: with the packed tarball of izta, from a clean folder, without credentials.
import { execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const temporary = mkdtempSync(join(tmpdir(), 'izta-examples-'))

function run(folder: string, command: string, ...words: string[]): string {
  return execFileSync(command, words, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
}

try {
  // The name of the tarball comes last, after what building prints.
  const packed = run(root, 'npm', 'pack', '--silent', '--pack-destination', temporary)
    .trim()
    .split('\n')
    .at(-1)
  if (packed === undefined) throw new Error('npm pack made nothing')
  const examples = readdirSync(join(root, 'examples')).filter((name) =>
    statSync(join(root, 'examples', name)).isDirectory(),
  )
  for (const name of examples) {
    const folder = join(temporary, name)
    cpSync(join(root, 'examples', name), folder, { recursive: true })
    run(folder, 'npm', 'install', '--prefer-offline', '--no-audit', '--no-fund', join(temporary, packed))
    const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types'), '--skipLibCheck']
    const entries = ['runner', 'scheduler', 'enqueue'].map((entry) => `functions/izta/${entry}.ts`)
    const strict = [
      '--ignoreConfig',
      '--noEmit',
      '--strict',
      '--allowImportingTsExtensions',
      '--module',
      'nodenext',
    ]
    run(folder, join(root, 'node_modules/.bin/tsc'), ...strict, '--target', 'es2023', ...types, ...entries)
    run(folder, 'npm', 'run', 'package')
    const template = readFileSync(
      join(folder, '.serverless/cloudformation-template-update-stack.json'),
      'utf8',
    )
    const { Resources: resources } = JSON.parse(template) as { Resources: Record<string, { Type: string }> }
    const functions = Object.values(resources).filter(({ Type }) => Type === 'AWS::Lambda::Function')
    if (functions.length !== 3)
      throw new Error(`${name} was packaged with ${functions.length} functions, not 3`)
    console.log(`${name}: packaged from ${packed}`)
  }
} finally {
  rmSync(temporary, { recursive: true, force: true })
}
