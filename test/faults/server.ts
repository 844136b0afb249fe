// The database under attack: a Postgres that can be ended and started again, PgBouncer beside it, and its ledger.
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { Client } from 'pg'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { migrate } from '../../src/db/migrate.ts'
import { startPostgres } from '../../src/local/postgres.ts'
import { mountDisk, type Disk } from './disk.ts'
import { createMigrations } from './migrations.ts'

/** The user of everything under test; the harness itself is the superuser. */
export const user = 'izta_app'
const password = 'faults'

export interface Server {
  /** Of the superuser. */
  readonly url: string
  readonly port: number
  /** Undefined where PgBouncer is not installed. */
  readonly bouncerPort: number | undefined
  /** Of this run alone; it goes with the server. */
  readonly folder: string
  /** Holds the tasks, if one was asked for and could be mounted. */
  readonly disk: Disk | undefined
  /** As the user under test, by another port. */
  urlThrough(port: number): string
  /** A connection of the superuser; gives up only when the server stays away. */
  connect(): Promise<Client>
  /** Applies the next migration of a later version. */
  migrate(): Promise<void>
  /** Ends it at once, as a power cut would, and starts it again. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface ServerOptions {
  /** Whether the tasks lie on a disk of their own, which can be filled. */
  readonly ownDisk: boolean
}

export async function startServer({ ownDisk }: ServerOptions): Promise<Server> {
  const folder = await mkdtemp(join(tmpdir(), 'izta-faults-'))
  let postgres = await startPostgres({ folder, persistent: true })
  const { url } = postgres
  const port = Number(new URL(url).port)
  const urlThrough = (other: number) => `postgres://${user}:${password}@127.0.0.1:${other}/postgres`

  async function connect(): Promise<Client> {
    for (let tries = 1; ; tries++) {
      const client = new Client({ connectionString: url, connectionTimeoutMillis: 2000 })
      client.on('error', () => undefined)
      try {
        await client.connect()
        return client
      } catch (error) {
        if (tries === 100) throw error
        await sleep(100)
      }
    }
  }

  const admin = await connect()
  await admin.query(`create role ${user} login password '${password}'`)
  await admin.query(`grant create on database postgres to ${user}`)
  const database = pgDatabase(urlThrough(port))
  await migrate(database, { schema: 'izta' })
  await database.close?.()
  await admin.query(await readFile(new URL('ledger.sql', import.meta.url), 'utf8'))
  const disk = ownDisk ? await mountDisk(folder, join(folder, 'data')) : undefined
  if (disk !== undefined) await moveTo(disk, admin)
  await admin.end()
  const bouncer = await startBouncer(port, folder)

  return {
    url,
    port,
    bouncerPort: bouncer?.port,
    folder,
    disk,
    urlThrough,
    connect,
    migrate: await createMigrations(urlThrough(port), folder),
    async restart() {
      const [pid] = (await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8')).split('\n')
      process.kill(Number(pid), 'SIGQUIT')
      await untilGone(Number(pid))
      await postgres.stop()
      postgres = await startPostgres({ folder, persistent: true, port })
    },
    async stop() {
      bouncer?.stop()
      await postgres.stop()
      disk?.remove()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

/** The tables of tasks, with all that belongs to them. */
async function moveTo({ folder }: Disk, admin: Client): Promise<void> {
  await admin.query(`create tablespace small location '${folder}'`)
  await admin.query(`grant create on tablespace small to ${user}`)
  const { rows } = await admin.query<{ kind: string; name: string }>(`
    select case c.relkind when 'r' then 'table' else 'index' end as kind, c.oid::regclass::text as name
    from pg_class c
    where c.relnamespace = 'izta'::regnamespace and c.relkind in ('r', 'i')`)
  for (const { kind, name } of rows) await admin.query(`alter ${kind} ${name} set tablespace small`)
}

async function untilGone(pid: number): Promise<void> {
  for (let n = 0; n < 500; n++) {
    try {
      process.kill(pid, 0)
    } catch {
      return
    }
    await sleep(20)
  }
}

/** In transaction mode with fewer connections than its clients open. */
async function startBouncer(serverPort: number, folder: string) {
  if (spawnSync('pgbouncer', ['--version']).status !== 0) return undefined
  const port = await freePort()
  // PgBouncer refuses to run as root and then reads its files as the other user.
  await chmod(folder, 0o755)
  await writeFile(join(folder, 'users.txt'), `"${user}" "${password}"\n`)
  const lines = [
    '[databases]',
    `* = host=127.0.0.1 port=${serverPort}`,
    '[pgbouncer]',
    'listen_addr = 127.0.0.1',
    `listen_port = ${port}`,
    'unix_socket_dir =',
    'auth_type = scram-sha-256',
    `auth_file = ${join(folder, 'users.txt')}`,
    'pool_mode = transaction',
    'default_pool_size = 4',
    'server_login_retry = 1',
    process.getuid?.() === 0 ? 'user = nobody' : '',
  ]
  const file = join(folder, 'pgbouncer.ini')
  await writeFile(file, lines.join('\n'))
  const bouncer = spawn('pgbouncer', [file], { stdio: ['ignore', 'ignore', 'pipe'] })
  await new Promise<void>((ready, reject) => {
    bouncer.once('exit', () => reject(new Error('pgbouncer did not start')))
    createInterface(bouncer.stderr).on('line', (line) => {
      if (line.includes('process up')) ready()
    })
  })
  const stop = () => void bouncer.kill('SIGKILL')
  process.once('exit', stop)
  return { port, stop }
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const address = probe.address()
  probe.close()
  await once(probe, 'close')
  if (typeof address !== 'object' || address === null) throw new Error('no port')
  return address.port
}
