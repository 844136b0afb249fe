import { spawn } from 'node:child_process'
import { on, once } from 'node:events'
import { existsSync, watch } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Client } from 'pg'
import { afterAll, expect, test } from 'vitest'
import { IztaError, OptionError } from '../../src/errors.ts'
import { startPostgres } from '../../src/local/postgres.ts'

const scratch = await mkdtemp(join(tmpdir(), 'izta-postgres-test-'))
// Root's Postgres runs as another user, who has to get through.
await chmod(scratch, 0o755)
afterAll(() => rm(scratch, { recursive: true }))

async function ask(url: string, text: string) {
  const client = new Client(url)
  await client.connect()
  const { rows } = await client.query(text)
  await client.end()
  return rows
}

async function pidIn(folder: string): Promise<number> {
  const file = await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8')
  return Number(file.split('\n')[0])
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('it serves on loopback and leaves no process and no folder', async () => {
  const folder = join(scratch, 'once')
  const server = await startPostgres({ folder })
  const pid = await pidIn(folder)
  expect(new URL(server.url).hostname).toBe('127.0.0.1')
  expect(await ask(server.url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }])
  await server.stop()
  expect(isRunning(pid)).toBe(false)
  expect(existsSync(folder)).toBe(false)
})

test('stopping twice is the same as once', async () => {
  const server = await startPostgres()
  await Promise.all([server.stop(), server.stop()])
  await server.stop()
  await expect(ask(server.url, 'select 1')).rejects.toThrow('ECONNREFUSED')
})

test('two at once do not collide', async () => {
  const servers = await Promise.all([startPostgres(), startPostgres()])
  const replies = await Promise.all(servers.map(({ url }) => ask(url, 'select 1 as one')))
  await Promise.all(servers.map((server) => server.stop()))
  expect(replies).toEqual([[{ one: 1 }], [{ one: 1 }]])
})

test('a persistent one continues with its data and its password', async () => {
  const options = { folder: join(scratch, 'kept'), persistent: true }
  const first = await startPostgres(options)
  await ask(first.url, 'create table kept as select 7 as value')
  await first.stop()
  const second = await startPostgres({ ...options, port: Number(new URL(first.url).port) })
  const rows = await ask(second.url, 'select * from kept')
  await second.stop()
  expect(rows).toEqual([{ value: 7 }])
  expect(second.url).toBe(first.url)
})

test('a folder with something in it is not taken, because it would be removed', async () => {
  const folder = await mkdtemp(join(scratch, 'full-'))
  await writeFile(join(folder, 'thesis.txt'), 'two years of work')
  await expect(startPostgres({ folder })).rejects.toThrow(OptionError)
  expect(await readdir(folder)).toEqual(['thesis.txt'])
})

test('a folder with data of somebody else is not taken by a persistent one', async () => {
  const folder = await mkdtemp(join(scratch, 'foreign-'))
  await mkdir(join(folder, 'data'))
  await writeFile(join(folder, 'data', 'thesis.txt'), 'two years of work')
  await expect(startPostgres({ folder, persistent: true })).rejects.toThrow(
    `The folder ${folder} was not made by izta: pass one that is empty or does not exist yet.`,
  )
  expect(await readdir(join(folder, 'data'))).toEqual(['thesis.txt'])
})

test('a persistent one whose making was interrupted is made again', async () => {
  const folder = join(scratch, 'interrupted')
  const options = { folder, persistent: true }
  await (await startPostgres(options)).stop()
  await rm(join(folder, 'password'))
  const server = await startPostgres(options)
  expect(await ask(server.url, 'select 1 as one')).toEqual([{ one: 1 }])
  await server.stop()
})

test('a port in use is an error that quotes the server and leaves nothing', async () => {
  const occupant = createServer().listen(0, '127.0.0.1')
  await once(occupant, 'listening')
  const address = occupant.address()
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0
  const folder = join(scratch, 'unlucky')
  const error = await startPostgres({ folder, port }).catch((thrown: unknown) => thrown)
  occupant.close()
  expect(IztaError.is(error) && error.code).toBe('postgres-failed')
  expect(String(error)).toContain('Address already in use')
  expect(existsSync(folder)).toBe(false)
})

test.for(['SIGINT', 'SIGKILL', 'exit'] as const)(
  'when its process ends by %s no server and no folder stay',
  async (end) => {
    const folder = join(scratch, `ended-by-${end}`)
    const { pid, owner } = await startInChild(folder)
    const removal = removalOf(folder)
    if (end === 'exit') owner.stdin.end()
    else owner.kill(end)
    await removal
    expect(isRunning(pid)).toBe(false)
  },
)

/** A process that starts a Postgres and ends when its input does. */
async function startInChild(folder: string) {
  const script = `
    const { startPostgres } = await import(${JSON.stringify(new URL('../../src/local/postgres.ts', import.meta.url).href)})
    await startPostgres({ folder: ${JSON.stringify(folder)} })
    process.stdin.resume().on('end', () => process.exit(0))
    console.log('started')`
  const owner = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(owner.stdout, 'data')
  return { owner, pid: await pidIn(folder) }
}

async function removalOf(folder: string): Promise<void> {
  const watcher = watch(dirname(folder))
  for await (const _ of on(watcher, 'change')) if (!existsSync(folder)) break
  watcher.close()
}
