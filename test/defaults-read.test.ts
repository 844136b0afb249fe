// Every default is read where it acts: by the code, or by a number in the SQL of a migration that equals it.
import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { defaults } from '../src/defaults.ts'

const root = new URL('..', import.meta.url)

function read(folder: string, extension: string): string {
  const names = readdirSync(new URL(folder, root), { recursive: true, encoding: 'utf8' })
  const files = names.filter((name) => name.endsWith(extension) && name !== 'defaults.ts')
  return files.map((name) => readFileSync(new URL(`${folder}/${name}`, root), 'utf8')).join('\n')
}

/** Without comments: a name that only a comment has is not read. */
const code = read('src', '.ts')
  .replaceAll(/\/\*.*?\*\//gs, '')
  .replaceAll(/^\s*\/\/.*$/gm, '')
const sql = read('migrations', '.sql')

function leavesOf(value: object, prefix = ''): string[] {
  return Object.entries(value).flatMap(([name, item]: [string, unknown]) =>
    typeof item === 'object' && item !== null ? leavesOf(item, `${prefix}${name}.`) : [prefix + name],
  )
}

/** Paths below `defaults` that the code names, with what it takes out of them by name: `const { a } = defaults.b`. */
const named = new Set(
  [...code.matchAll(/(?:\{([^{}]*)\} = )?\bdefaults((?:\.\w+)*)/g)].flatMap(([, taken, path = '']) =>
    taken === undefined
      ? [path.slice(1)]
      : taken.split(',').map((part) => `${path.slice(1)}.${/\w+/.exec(part)?.[0]}`.replace(/^\./, '')),
  ),
)

/** A leaf that is named, or the property of a part that is handed on as a whole and taken apart elsewhere. */
function isRead(leaf: string): boolean {
  if (named.has(leaf)) return true
  const parts = leaf.split('.')
  const name = parts.at(-1) as string
  const isHandedOn = parts.slice(0, -1).some((_, index) => named.has(parts.slice(0, index + 1).join('.')))
  return isHandedOn && new RegExp(`\\.${name}\\b|[{,]\\s*${name}\\b(?!:)`).test(code)
}

/** Numbers that SQL cannot read from the code: where they are in the migrations, and the value there. */
const inSql: Record<string, { readonly places: RegExp; readonly value: number }> = {
  // The slice that keeps the latest before one is added.
  errorsKept: { places: /cardinality\([\w.]*errors\)[^\n]* - (\d+)/g, value: defaults.errorsKept - 2 },
  ledgerDays: { places: /interval '(\d+) days?'/g, value: defaults.ledgerDays },
}

const leaves = leavesOf(defaults)

test('every default is read by the code, or stands in the SQL', () => {
  expect(leaves.filter((leaf) => !(leaf in inSql) && !isRead(leaf))).toEqual([])
})

test.for(Object.entries(inSql))(
  'the SQL has the number of %s wherever it acts',
  ([leaf, { places, value }]) => {
    const found = [...sql.matchAll(places)].map(([, number]) => Number(number))
    expect(leaves).toContain(leaf)
    expect(found.length).toBeGreaterThan(0)
    expect(new Set(found)).toEqual(new Set([value]))
  },
)

test('the enqueue takes a mark for fresh no longer than a runner waits before its last look', () => {
  const places = sql.matchAll(/clock_timestamp\(\) > statement_timestamp\(\) \+ interval '(\d+) ms'/g)
  const found = [...places].map(([, number]) => Number(number))
  expect(found.length).toBeGreaterThan(0)
  expect(Math.max(...found)).toBeLessThan(defaults.runner.lastLookMs)
})

test('a default that only its own file names is not read', () => {
  expect(isRead('nobodyReadsThis')).toBe(false)
  expect(isRead('runner.nobodyReadsThis')).toBe(false)
})
