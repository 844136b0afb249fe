// The pages in docs/ say what the code does: numbers, codes and events are compared with the sources.
import { readdirSync, readFileSync } from 'node:fs'
import { defineJob, defineSchedule } from 'izta'
import { expect, test } from 'vitest'
import { resolveConfig } from '../src/config.ts'
import { neonDefaults } from '../src/adapters/neon.ts'
import { pgDefaults } from '../src/adapters/pg.ts'
import { defaults } from '../src/defaults.ts'

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), 'utf8')
const text = read('docs/configuration.md')

/** The table's rows below a heading: first cell → the code in the last or given cell. */
function table(heading: string, column: number): Record<string, string | undefined> {
  const section = text.split(/^## /m).find((part) => part.startsWith(heading)) ?? ''
  const rows = section.matchAll(/^\| `([^`]+)` +\|(.*)\|$/gm)
  return Object.fromEntries(
    [...rows].map(([, name = '', cells = '']) => [
      name,
      /`([^`]+)`/.exec(cells.split('|')[column] ?? '')?.[1],
    ]),
  )
}

function flatten(value: object, prefix = ''): Record<string, string> {
  return Object.assign(
    {},
    ...Object.entries(value).map(([name, item]: [string, unknown]) =>
      typeof item === 'object' && item !== null
        ? flatten(item, `${prefix}${name}.`)
        : { [prefix + name]: typeof item === 'string' ? `'${item}'` : String(item) },
    ),
  )
}

test('the table of all numbers is what src/defaults.ts says', () => {
  expect(table('All numbers', 0)).toEqual(flatten(defaults))
})

test('the defaults of defineJob are what a job gets', () => {
  const { queue, priority, maxAttempts, maxLosses, timeoutSeconds, backoff, retention } = defineJob({
    id: 'plain',
  })
  const got = flatten({
    queue,
    priority,
    maxAttempts,
    maxLosses,
    timeoutSeconds,
    backoff,
    retention: {
      finishedDays: retention.finishedSeconds / 86_400,
      failedDays: retention.failedSeconds / 86_400,
    },
  })
  expect(table('`defineJob', 1)).toMatchObject(got)
})

test('the defaults of createIzta are what an instance gets', () => {
  const { schema, payloadLimitBytes, resultLimitBytes } = resolveConfig({
    database: { query: async () => [] },
    jobs: [],
  })
  expect(table('`createIzta', 1)).toMatchObject(flatten({ schema, payloadLimitBytes, resultLimitBytes }))
})

test('the defaults of startRunner are what a runner takes', () => {
  const { concurrency } = defaults.runner
  const { pollSeconds, termSeconds } = defaults.server
  expect(table('Runners', 1)).toMatchObject(flatten({ concurrency, pollSeconds, termSeconds }))
})

test('the defaults of the adapters are theirs', () => {
  const { fetchTimeoutSeconds } = neonDefaults
  expect(table('Databases', 1)).toMatchObject(flatten({ ...pgDefaults, fetchTimeoutSeconds }))
})

test('the policies of a schedule that names none are those in docs/schedules.md', () => {
  const job = defineJob({ id: 'plain' })
  const { missed, overlap, rule } = defineSchedule({ name: 'daily', job, cron: '@daily' })
  const schedules = read('docs/schedules.md')
  expect(schedules).toContain(`\`'${missed}'\` (default)`)
  expect(schedules).toContain(`\`'${overlap}'\` (default)`)
  expect(rule).toMatchObject({ timeZone: 'UTC' })
})

test('docs/errors.md has every error class and every code', () => {
  const page = read('docs/errors.md')
  const sources = readdirSync(new URL('../src/', import.meta.url), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !path.startsWith('cli/'))
    .map((path) => [path, read(`src/${path}`)] as const)
  const names = sources.flatMap(([path, source]) => [
    ...source.matchAll(/export class (\w+Error) /g),
    ...source.matchAll(/(?:new (?:Izta|State)Error\(|super\()\s*'([a-z-]+)'/g),
    ...(path === 'db/transient.ts' ? source.matchAll(/\bcode: '([a-z-]+)'/g) : []),
    ...source.matchAll(/\brefuse\(\s*\d+,\s*'([a-z-]+)'/g),
    ...(path === 'errors.ts' ? source.matchAll(/'(payload-[a-z-]+)'/g) : []),
    ...(path === 'job/task.ts'
      ? (/type FailureCode =([^/]*)/.exec(source)?.[1] ?? '').matchAll(/'([a-z-]+)'/g)
      : []),
  ])
  const missing = names.map(([, name = '']) => name).filter((name) => !page.includes(`\`${name}\``))
  expect(missing).toEqual([])
  expect(names.length).toBeGreaterThan(50)
})

test('docs/telemetry.md has exactly the events of src/observe/events.ts', () => {
  const events = [...read('src/observe/events.ts').matchAll(/^ {2}'([a-z]+\.[a-z]+)':/gm)].map(
    ([, name]) => name,
  )
  const documented = [...read('docs/telemetry.md').matchAll(/^\| `([a-z]+\.[a-z]+)`/gm)].map(
    ([, name]) => name,
  )
  expect(documented).toEqual(events)
})

test('docs/telemetry.md names every field of every event', () => {
  const source = read('src/observe/events.ts')
  const [, ofQueue = ''] = /interface DueQueue \{(.*?)\n\}/s.exec(source) ?? []
  const events = [...source.matchAll(/^ {2}'([a-z]+\.[a-z]+)':(.*?)(?=\n {2}['/]|\n\})/gms)]
  expect(events.length).toBeGreaterThan(15)
  const page = read('docs/telemetry.md')
  const missing = events.flatMap(([, name = '', type = '']) => {
    const row = page.split('\n').find((line) => line.startsWith(`| \`${name}\``)) ?? ''
    const fields = (type.includes('DueQueue') ? type + ofQueue : type).matchAll(/readonly (\w+)\??:/g)
    return [...fields].map(([, field = '']) => field).filter((field) => !row.includes(`\`${field}\``))
  })
  expect(missing).toEqual([])
})

test('docs/telemetry.md has exactly the metrics that are written', () => {
  const source = read('src/aws/metrics.ts')
  const written = [...source.matchAll(/'([A-Z][a-z]\w+)'(?=[,)])/g)].map(([, name]) => name)
  const [, section = ''] = /^## Metrics$(.*?)^## /ms.exec(read('docs/telemetry.md')) ?? []
  const documented = [...section.matchAll(/^\| `([A-Z]\w+)`/gm)].map(([, name]) => name)
  expect(written.length).toBeGreaterThan(15)
  expect(new Set(documented)).toEqual(new Set(written))
})

test('docs/telemetry.md names every attribute of a span', () => {
  const attributes = [
    ...read('src/observe/opentelemetry.ts').matchAll(/'((?:messaging|izta|error)\.[a-z._]+)'/g),
  ]
  expect(attributes.length).toBeGreaterThan(10)
  const page = read('docs/telemetry.md')
  expect(attributes.map(([, name]) => name).filter((name) => !page.includes(`\`${name}\``))).toEqual([])
})
