// Each literal `@default` in the documentation of options is the value that the code uses.
import { glob, readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { neonDefaults } from '../src/adapters/neon.ts'
import { pgDefaults } from '../src/adapters/pg.ts'
import { defaults } from '../src/defaults.ts'

/** Where the defaults of each public option type live. */
const values: Record<string, Readonly<Record<string, unknown>>> = {
  BackoffOptions: defaults.backoff,
  DrainOptions: defaults.runner,
  IztaOptions: defaults,
  JobOptions: defaults,
  ListOptions: defaults.list,
  NeonOptions: neonDefaults,
  PgOptions: { ...pgDefaults, port: 5432 },
  RetentionOptions: defaults.retention,
  RunnerHandlerOptions: defaults.runner,
  RunnerOptions: { ...defaults.runner, ...defaults.server },
}

const root = new URL('..', import.meta.url)
const interfacePattern = /^export interface (\w+)[^{]*\{\n(.*?)^\}/gms
const memberPattern = /\/\*\*((?:(?!\*\/).)*)\*\/\s*(?:readonly )?(\w+)\??:/gs

/** `Type.option` and its documented default, where that is a number or a text. */
async function documentedDefaults(): Promise<Map<string, unknown>> {
  const found = new Map<string, unknown>()
  for await (const file of glob('src/**/*.ts', { cwd: root })) {
    const text = await readFile(new URL(file, root), 'utf8')
    for (const [, type = '', body = ''] of text.matchAll(interfacePattern)) {
      for (const [, comment = '', option = ''] of body.matchAll(memberPattern)) {
        const literal = /@default (\d[\d_.]*|'[^']*')\s*$/m.exec(comment)?.[1]
        if (literal === undefined || values[type] === undefined) continue
        found.set(`${type}.${option}`, literal.startsWith("'") ? literal.slice(1, -1) : Number(literal))
      }
    }
  }
  return found
}

test('every literal default in the docs of an option is the one in the code', async () => {
  const documented = await documentedDefaults()
  const actual = [...documented.keys()].map((path) => {
    const [type = '', option = ''] = path.split('.')
    return [path, values[type]?.[option]] as const
  })
  expect(Object.fromEntries(documented)).toEqual(Object.fromEntries(actual))
  expect([...documented.keys()]).toEqual(
    expect.arrayContaining([
      'BackoffOptions.jitter',
      'IztaOptions.schema',
      'JobOptions.priority',
      'RunnerOptions.pollSeconds',
    ]),
  )
})
