// What `izta dev` says of a file that it cannot load: file, line, column and what to do.
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test } from 'vitest'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const source = new URL('../../src/index.ts', import.meta.url).href
const folder = await mkdtemp(join(tmpdir(), 'izta-load-test-'))
afterAll(() => rm(folder, { recursive: true }))

/** What the command says of the file, in whose package it stands. */
async function refusalOf(type: string, text: string, others: Record<string, string> = {}): Promise<string> {
  const home = await mkdtemp(join(folder, `${type}-`))
  await mkdir(join(home, 'src'))
  await writeFile(join(home, 'package.json'), JSON.stringify({ type }))
  for (const [name, other] of Object.entries({ 'jobs.ts': text, ...others }))
    await writeFile(join(home, 'src', name), other)
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['--no-warnings', main, 'dev', 'src/jobs.ts'],
      { cwd: home },
      (_, __, stderr) => resolve(stderr.replaceAll(home, 'HOME')),
    )
  })
}

test.each([
  ['import', "import 'node:fs'\n"],
  ['export', 'export const one = 1\n'],
])('a module in a package of type commonjs is told how to become one: %s', async (keyword, text) => {
  expect(await refusalOf('commonjs', text)).toContain(
    `izta: HOME/src/jobs.ts could not be loaded: it uses ${keyword}, but the nearest package.json (HOME/package.json) says "type": "commonjs": set it to "module" (npm pkg set type=module) or name the file jobs.mts.\n  src/jobs.ts:1:1\n`,
  )
})

test('an error on load is shown with its place and its line', async () => {
  expect(await refusalOf('module', 'interface A {}\n\tthrow new Error("broken on load")\n')).toBe(
    'izta: HOME/src/jobs.ts could not be loaded: broken on load.\n  src/jobs.ts:2:8\n    \tthrow new Error("broken on load")\n    \t      ^\n',
  )
})

test('two files that import each other are told how not to', async () => {
  const instance = `import { charge } from './jobs.ts'\nexport const izta = { jobs: [charge] }\n`
  const text = `import { izta } from './izta.ts'\nexport const charge = { run: () => izta }\n`
  expect(await refusalOf('module', text, { 'izta.ts': instance })).toBe(
    "izta: HOME/src/jobs.ts could not be loaded: Cannot access 'charge' before initialization. Two files import each other, and the one that defines it has not run yet: define the job without run, and add the handler in a file of its own with implementJob.\n  src/izta.ts:2:30\n    export const izta = { jobs: [charge] }\n                                 ^\n",
  )
})

test('a wrong definition is shown where it stands, not where izta refuses it', async () => {
  const text = `import { defineJob } from '${source}'\nexport const job = defineJob({ id: '' })\n`
  expect(await refusalOf('module', text)).toContain('\n  src/jobs.ts:2:20\n    export const job = defineJob')
})

test.each([
  ['export const a = 1\nfoo bar\n', 'Expected', 'src/jobs.ts:2:5\n    foo bar\n        ^\n'],
  ['\n  enum A { b }\n', 'Node.js only takes types away', 'src/jobs.ts:2:3\n      enum A { b }\n      ^\n'],
  ["import { nope } from 'node:fs'\n", "named 'nope'", 'src/jobs.ts:1:10\n'],
])('what the parser refuses is shown with its place: %j', async (text, why, place) => {
  const said = await refusalOf('module', text)
  expect(said).toContain(why)
  expect(said).toContain(place)
})
