import { spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createIzta, defineJob } from 'izta'
import { pgDatabase } from 'izta/pg'
import { Client } from 'pg'
import { afterAll, describe, expect, onTestFinished, test } from 'vitest'
import * as z from 'zod'
import { testDatabase } from '../support/database.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const source = (path: string) => new URL(`../../src/${path}`, import.meta.url).href
const zod = import.meta.resolve('zod')

const folder = await mkdtemp(join(tmpdir(), 'izta-cli-test-'))
afterAll(() => rm(folder, { recursive: true }))

const divide = defineJob({
  id: 'divide',
  payload: z.object({ numerator: z.number(), denominator: z.number() }),
  result: z.number(),
})

const jobsText = `
  import * as z from '${zod}'
  import { defineJob, defineSchedule } from '${source('index.ts')}'
  export const divide = defineJob({
    id: 'divide',
    payload: z.object({ numerator: z.number(), denominator: z.number() }),
    result: z.number(),
    run: ({ numerator, denominator }: { numerator: number; denominator: number }) => numerator / denominator,
  })
  export const throws = defineJob({
    id: 'throws',
    maxAttempts: 1,
    run() {
      throw new Error('SMTP said 421')
    },
  })
  export const ignores = defineJob({ id: 'ignores', run: () => new Promise(() => setInterval(() => {}, 60_000)) })
  export default [defineSchedule({ name: 'nightly', job: divide, payload: { numerator: 1, denominator: 2 }, cron: '0 3 * * *' })]`

async function file(name: string, text: string): Promise<string> {
  await writeFile(join(folder, name), text)
  return join(folder, name)
}

const jobsFile = await file('jobs.ts', jobsText)

interface Ran {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function run(...words: string[]): Promise<Ran> {
  const child = spawn(process.execPath, [main, ...words], {
    env: { PATH: process.env['PATH'], ...environment },
  })
  const ended = once(child, 'close')
  const [stdout, stderr] = await Promise.all([child.stdout, child.stderr].map((stream) => stream.toArray()))
  const [code] = await ended
  return { code, stdout: (stdout ?? []).join(''), stderr: (stderr ?? []).join('') }
}

let environment: Record<string, string> = {}

describe('arguments', () => {
  test('help and version are no errors', async () => {
    const [help, version] = await Promise.all([run('--help'), run('--version')])
    expect(help).toMatchObject({ code: 0, stdout: expect.stringMatching(/migrate.*dev/s), stderr: '' })
    expect(version).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) })
  })

  test.each([
    ['an unknown command', ['deploy'], "unknown command 'deploy'"],
    ['an unknown option', ['migrate', '--force'], "unknown option '--force'"],
    ['a missing file', ['dev'], "missing required argument 'file'"],
    ['a port that is none', ['dev', jobsFile, '--port', '70000'], 'Expected a number from 0 to 65535'],
    ['no database', ['migrate'], 'set DATABASE_URL or pass --database-url'],
  ])('wrong usage is exit code 2: %s', async (_, words, message) => {
    expect(await run(...words)).toMatchObject({
      code: 2,
      stdout: '',
      stderr: expect.stringContaining(message),
    })
  })

  test.each([
    ['a file that is not there', 'absent.ts', undefined, 'There is no file'],
    ['a file that exports nothing of use', 'empty.ts', 'export const one = 1', 'exports no job'],
  ])('other errors are one line and exit code 1: %s', async (_, name, text, message) => {
    if (text !== undefined) await file(name, text)
    const { code, stderr } = await run('dev', join(folder, name))
    expect(code).toBe(1)
    expect(stderr).toMatch(/^izta: .*\n$/)
    expect(stderr).toContain(message)
  })
})

describe('izta migrate', { timeout: 60_000 }, async () => {
  const { url, pool } = await testDatabase({ migrated: false })
  const schedules = async () => (await pool.query('select name from izta.schedule')).rows

  test('applies what is missing, says so, and then has nothing to do', async () => {
    const first = await run('migrate', '--database-url', url)
    expect(first).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('applied 0001_create_tasks'),
      stderr: '',
    })
    environment = { DATABASE_URL: url }
    const second = await run('migrate')
    environment = {}
    expect(second).toMatchObject({ code: 0, stdout: 'The schema is up to date: nothing to do.\n' })
  })

  test('stores the schedules of a file, and without one leaves them alone', async () => {
    const stored = await run('migrate', '--database-url', url, '--jobs', jobsFile)
    expect(stored).toMatchObject({ code: 0, stdout: expect.stringContaining('Stored 1 schedule.') })
    expect(await schedules()).toEqual([{ name: 'nightly' }])
    expect(await run('migrate', '--database-url', url)).toMatchObject({ code: 0 })
    expect(await schedules()).toEqual([{ name: 'nightly' }])
  })

  test('counts only what it has stored, and says why the rest was not', async () => {
    await pool.query(`update izta.schedule set app = 'other'`)
    const taken = await run('migrate', '--database-url', url, '--jobs', jobsFile)
    await pool.query(`update izta.schedule set app = 'izta'`)
    expect(taken).toMatchObject({ code: 0, stdout: expect.stringContaining('Stored 0 schedules.') })
    expect(taken.stderr).toMatch(
      /^Schedule "nightly" of the app "izta" was not stored: the app "other" has one of this name\. .*\n$/,
    )
  })

  test('takes an izta instance with its own database and schema', async () => {
    const exported = await file(
      'instance.ts',
      `import { createIzta } from '${source('index.ts')}'
       import { pgDatabase } from '${source('adapters/pg.ts')}'
       export const izta = createIzta({ database: pgDatabase('${url}'), schema: 'other', jobs: [] })`,
    )
    expect(await run('migrate', '--jobs', exported)).toMatchObject({ code: 0 })
    expect((await pool.query(`select to_regclass('other.task')::text as name`)).rows).toEqual([
      { name: 'other.task' },
    ])
    const both = await run('dev', exported, '--database-url', url)
    expect(both).toMatchObject({ code: 2, stderr: expect.stringContaining('leave out --database-url') })
  })

  test('names the database that it cannot reach, and no password', async () => {
    const { code, stderr } = await run('migrate', '--database-url', 'postgres://me:secret@127.0.0.1:1/app')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^izta: The database at 127\.0\.0\.1:1\/app .*\n$/)
    expect(stderr).not.toContain('secret')
  })
})

describe('izta dev', { timeout: 60_000 }, () => {
  async function dev(...words: string[]) {
    const child = spawn(process.execPath, [main, 'dev', jobsFile, ...words], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    // Only a failed test leaves it alive.
    onTestFinished(() => void child.kill('SIGKILL'))
    const ended = once(child, 'close')
    const lines: string[] = []
    const reader = createInterface(child.stdout)
    const read = on(reader, 'line', { close: ['close'] })
    /** The first line from here on that fits. */
    const lineWith = async (pattern: RegExp) => {
      for (let next = await read.next(); next.done !== true; next = await read.next()) {
        const [line] = next.value as [string]
        lines.push(line)
        const found = pattern.exec(line)
        if (found !== null) return found[1] ?? line
      }
      return expect.fail(`no line with ${pattern} in:\n${lines.join('\n')}`)
    }
    return { child, ended, lines, lineWith }
  }

  const post = async (url: string, task: unknown) => {
    const response = await fetch(url, { method: 'POST', body: JSON.stringify({ tasks: [task] }) })
    const { tasks } = (await response.json()) as { tasks: { id: string }[] }
    return tasks[0]?.id ?? expect.fail('no task')
  }

  test('a task posted to its address is run and read back; Ctrl-C leaves nothing behind', async () => {
    const { child, ended, lines, lineWith } = await dev()
    const databaseUrl = await lineWith(/^database +(postgres:\S+)/)
    const url = await lineWith(/^enqueue +(http:\S+)/)
    expect(await lineWith(/curl/)).toContain(`curl ${url} -d '{"tasks":[{"job":"ignores"}]}'`)
    const id = await post(url, { job: 'divide', payload: { numerator: 1, denominator: 2 } })
    await lineWith(new RegExp(`finished +divide ${id}`))

    await using izta = createIzta({ database: pgDatabase(databaseUrl), jobs: [divide] })
    expect(await izta.wait(divide, id)).toMatchObject({ status: 'finished', result: 0.5 })
    expect(await izta.schedules.list()).toMatchObject([{ name: 'nightly' }])
    const client = new Client(databaseUrl)
    await client.connect()
    client.on('error', () => {})
    const { rows } = await client.query('show data_directory')

    child.kill('SIGINT')
    expect(await ended).toEqual([0, null])
    expect(existsSync(rows[0].data_directory)).toBe(false)
    await expect(izta.counts()).rejects.toMatchObject({ code: 'database-unreachable' })
    expect(lines.join('')).not.toContain('\u001B')
  })

  test('a database that is given is migrated aloud, and what others put into it starts within 2 s', async () => {
    const { url: databaseUrl } = await testDatabase({ migrated: false })
    const { lineWith } = await dev('--database-url', databaseUrl)
    await lineWith(/^applied 0001_create_tasks/)
    await lineWith(/^database +\S+izta_test_\w+$/)
    await lineWith(/^Ctrl-C stops/)
    await using izta = createIzta({ database: pgDatabase(databaseUrl), jobs: [divide] })
    const before = performance.now()
    const { id } = await izta.enqueue(divide, { numerator: 1, denominator: 2 })
    await lineWith(new RegExp(`finished +divide ${id}`))
    // Far below the minute between two ticks of a deployment, with room for a busy machine.
    expect(performance.now() - before).toBeLessThan(20_000)
  })

  test('a handler that throws is one short line, with its own frames below', async () => {
    const { url: databaseUrl } = await testDatabase()
    const { lines, lineWith } = await dev('--database-url', databaseUrl)
    const url = await lineWith(/^enqueue +(http:\S+)/)
    const id = await post(url, { job: 'throws' })
    await lineWith(new RegExp(`failed +throws ${id.slice(-8)} attempt 1: SMTP said 421$`))
    expect(await lineWith(/^ +at /)).toMatch(/^ {21}at .*jobs\.ts:14:13\)$/)
    await post(url, { job: 'divide', payload: { numerator: 1, denominator: 2 } })
    expect(await lineWith(/finished|^ +at/)).toMatch(/finished/)
    expect(lines.join('\n')).not.toMatch(/a runner leaves|task failed/)
  })

  test('a second Ctrl-C ends at once, whatever still runs', async () => {
    const { url: databaseUrl } = await testDatabase()
    const { child, ended, lineWith } = await dev('--database-url', databaseUrl)
    const url = await lineWith(/^enqueue +(http:\S+)/)
    const id = await post(url, { job: 'ignores' })
    await lineWith(new RegExp(`started +ignores ${id}`))
    child.kill('SIGINT')
    await lineWith(/^stopping/)
    child.kill('SIGINT')
    expect(await ended).toEqual([130, null])
  })
})
