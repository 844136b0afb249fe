// The demo as its users start it: as a process, piped, on a small folder and on this repository's own packages.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { stripVTControlCharacters } from 'node:util'
import { afterAll, expect, test, vi } from 'vitest'
import { recount, type Totals } from '../../demo/recount.ts'

// Starting a Postgres and reading thousands of files takes its time on a busy machine.
vi.setConfig({ testTimeout: 90_000 })

const folder = await mkdtemp(join(tmpdir(), 'izta-demo-test-'))
const temporary = join(folder, 'tmp')
const application = join(folder, 'application')
const repository = join(import.meta.dirname, '../..')
afterAll(() => rm(folder, { recursive: true, force: true }))

await mkdir(temporary, { recursive: true })
// The embedded Postgres may run as another user.
await Promise.all([chmod(folder, 0o755), chmod(temporary, 0o1777)])
for (let n = 0; n < 30; n++) await install(`package-${n}`, { license: n % 3 === 0 ? 'ISC' : 'MIT' })
await install('silent', {})
await install('hollow', { license: 'MIT', main: 'dist/index.js' })

async function install(name: string, manifest: object, root = application): Promise<void> {
  const path = join(root, 'node_modules', name)
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'package.json'), JSON.stringify({ name, version: '1.0.0', ...manifest }))
}

function start(...words: string[]) {
  const demo = spawn(process.execPath, ['demo/main.ts', ...words], {
    cwd: repository,
    env: { ...process.env, TMPDIR: temporary, CI: 'true' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = Promise.all([text(demo.stdout), text(demo.stderr), once(demo, 'exit')])
  const ended = output.then(([stdout, stderr, [code]]) => ({ stdout, stderr, code: code as number | null }))
  return { demo, ended }
}

const run = (...words: string[]) => start(...words).ended

const sumLine = ({ packages, files, bytes }: Totals) =>
  [`${packages} packages`, `${files} files`, `${bytes} bytes`]
    .map((part) => part.replace(/^\d+/, (digits) => Number(digits).toLocaleString('en')))
    .join(', ')

test('piped, the demo prints few plain lines, the findings, and the totals of an independent count', async () => {
  const { stdout, stderr, code } = await run(application)
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stripVTControlCharacters(stdout)).toBe(stdout)
  expect(stdout).not.toContain('\r')
  expect(stdout.split('\n').length).toBeLessThan(40)
  expect(stdout).toMatch(/MIT +21 +21 /)
  expect(stdout).toMatch(/ISC +10 +10 /)
  expect(stdout).toMatch(/no-licence +1 +1 /)
  expect(stdout).toMatch(
    /^Findings: 1 package names .*, 1 package names .* \(a fact about them, not about izta\)$/m,
  )
  expect(stdout).toContain('1 package names files that it does not contain')
  expect(stdout).toContain('1 package names no licence')
  expect(stdout).toContain('✖ silent: no-licence\n')
  expect(stdout).toContain('✖ hollow: missing-files dist/index.js\n')
  expect(stdout).toMatch(/due → started +\d/)
  expect(stdout).toContain(
    `Exact: a count without izta finds the same totals,\n  ${sumLine(recount(application))},\n`,
  )
  expect(await readdir(temporary)).toEqual([])
})

test('a runner that is killed half way costs no task and no count', async () => {
  const { stdout, stderr, code } = await run('--crash')
  expect(stderr).toBe('')
  expect(code).toBe(0)
  expect(stdout).toMatch(
    /\(SIGKILL\) after \d+ of \d+ audits, with (1 task|[1-9]\d+ tasks|[2-9] tasks) running/,
  )
  expect(stdout).toMatch(/[1-9]\d* tasks? died with the killed runner, run again since/)
  expect(stdout).toContain(sumLine(recount(repository)))
  expect(await readdir(temporary)).toEqual([])
})

test('a crash that comes too late is no success', async () => {
  const lonely = join(folder, 'lonely')
  await install('package', { license: 'MIT' }, lonely)
  const { stdout, code } = await run('--crash', lonely)
  expect(stdout).toContain('before the runner could be killed: take a folder with more packages.\n')
  expect(code).toBe(1)
})

test('Ctrl-C leaves no process and no folder and exits with 130', async () => {
  const { demo, ended } = start()
  await new Promise<void>((resolve) => {
    demo.stdout.on('data', (chunk: Buffer) => {
      if (chunk.toString().includes('fires at')) resolve()
    })
  })
  demo.kill('SIGINT')
  expect(await ended).toMatchObject({ code: 130, stderr: '' })
  expect(await readdir(temporary)).toEqual([])
})

test('help is printed without starting anything', async () => {
  const { stdout, code } = await run('--help')
  expect(code).toBe(0)
  expect(stdout).toContain('npm run demo -- [options] [folder]')
})

test.for([
  [['--carsh'], 'Unknown option --carsh. Known: --crash, --help.\n'],
  [['--crash=no'], 'Option --crash takes no value.\n'],
  [['a', 'b'], 'One folder can'],
  [[tmpdir()], 'run "npm ci" there first'],
] as const)('the wrong arguments %s are refused in words', async ([words, message]) => {
  const { stdout, stderr, code } = await run(...words)
  expect({ stdout, code }).toEqual({ stdout: '', code: 2 })
  expect(stderr).toContain(message)
})
