// Code in README.md, docs/*.md and @example: every block marked `ts` compiles, every block marked `ts run` runs.
import { execFile } from 'node:child_process'
import { glob, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, expect, test, vi } from 'vitest'
import { testDatabase } from './support/database.ts'

const root = fileURLToPath(new URL('..', import.meta.url))

/** What blocks may use without declaring it; what they import or declare themselves comes first. */
const prelude = `
import type { PgPool } from 'izta/pg'
import type { StandardSchemaV1 } from '@standard-schema/spec'
import type * as izta_ from 'izta'
import type * as lambda from 'izta/lambda'
import type * as testing from 'izta/testing'
import type * as vitest from 'vitest'
declare global {
  const izta: izta_.Izta
  const database: izta_.Database
  const databaseUrl: string
  const jobs: izta_.AnyJob[]
  const nightly: izta_.Schedule
  const divide: izta_.Job<
    StandardSchemaV1<{ numerator: number; denominator: number }>,
    StandardSchemaV1<number>,
    StandardSchemaV1<{ code: 'divide-by-zero' }>,
    'all'
  >
  const greet: izta_.Job<StandardSchemaV1<{ name: string }>, StandardSchemaV1<string>, undefined>
  const sweep: izta_.Job<undefined, undefined, undefined>
  const remind: izta_.Job<StandardSchemaV1<{ userId: string }>, undefined, undefined>
  const sendInvoice: izta_.Job<StandardSchemaV1<{ orderId: string }>, undefined, undefined>
  const syncFeed: izta_.JobDefinition<
    StandardSchemaV1<{ url: string }>, StandardSchemaV1<{ status: number }>, undefined>
  const id: string
  const userId: string
  const orderId: string
  const client: { query(text: string, values?: (string | null)[]): Promise<{ rows: unknown[] }> }
  const pool: PgPool
  const runner: izta_.Runner
  type Respond = (request: unknown, response: { status(code: number): { end(): void } }) => void
  const app: { get(path: string, respond: Respond): void }
  const { implementJob, defineJob, defineSchedule, createIzta, startRunner, IztaError }: typeof izta_
  const { createTestClock, drain, runJob }: typeof testing
  const { createEnqueueHandler, createRemoteIzta, createRunnerHandler, createSchedulerHandler }: typeof lambda
  const { alarmWake, invokeWake, rdsToken, secretDatabase }: typeof lambda
  const { startLocalStack }: typeof import('izta/local')
  const { notifyWake, pgDatabase }: typeof import('izta/pg')
  const { neonDatabase }: typeof import('izta/neon')
  const { neonSocketDatabase }: typeof import('izta/neon-socket')
  const { expect, test, vi }: typeof vitest
}`

interface Block {
  /** File and line, such as `README.md-12`. */
  readonly name: string
  readonly code: string
  readonly isRun: boolean
}

/** The fenced blocks of a file; in sources those of its comments. A word after `ts` other than `run` leaves one out. */
function blocksOf(file: string, text: string): Block[] {
  const plain = file.endsWith('.ts') ? text.replaceAll(/^ *\* ?/gm, '') : text
  return [...plain.matchAll(/^```ts( run)?\n(.*?)^```$/gms)].map(({ index, 1: run, 2: code = '' }) => ({
    name: `${file.replaceAll('/', '-')}-${plain.slice(0, index).split('\n').length}`,
    code,
    isRun: run !== undefined,
  }))
}

await mkdir(join(root, '.build'), { recursive: true })
const folder = await mkdtemp(join(root, '.build/examples-'))
afterAll(() => rm(folder, { recursive: true }))
const files = await Array.fromAsync(glob(['README.md', 'docs/*.md', 'src/**/*.ts'], { cwd: root }))
const blocks = (
  await Promise.all(
    files.toSorted().map(async (file) => blocksOf(file, await readFile(join(root, file), 'utf8'))),
  )
).flat()

test('every block compiles', async () => {
  expect(blocks.some(({ isRun }) => isRun)).toBe(true)
  const config = {
    extends: '../../tsconfig.json',
    compilerOptions: { noUnusedLocals: false, noUnusedParameters: false },
    include: ['.'],
  }
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(config))
  await writeFile(join(folder, 'prelude.d.ts'), prelude)
  await Promise.all(
    blocks.map(({ name, code }) => {
      // Files beside the example exist in the reader's mind only; the prelude has what they export.
      const text = code.replaceAll(/^import .* from '\.\.?\/.*$/gm, '')
      return writeFile(join(folder, `${name}.ts`), `${text}\nexport {}\n`)
    }),
  )
  const output = await new Promise<string>((resolve) => {
    execFile(join(root, 'node_modules/.bin/tsc'), ['--pretty', 'false', '-p', folder], (_, stdout, stderr) =>
      resolve(stdout + stderr),
    )
  })
  expect(output.replaceAll(`${folder}/`, '')).toBe('')
}, 120_000)

test.for(blocks.filter(({ isRun }) => isRun))('$name runs', async ({ name, code }) => {
  // One each: a clock that stands still takes only a database without tasks.
  const { url } = await testDatabase()
  vi.stubGlobal('databaseUrl', url)
  vi.stubEnv('DATABASE_URL', url)
  vi.spyOn(console, 'log').mockReturnValue()
  const path = join(folder, `${name}.run.ts`)
  await writeFile(path, code)
  await import(/* @vite-ignore */ path)
})
