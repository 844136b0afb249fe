import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, expect, test } from 'vitest'
import { notifyWake, pgDatabase } from '../../src/adapters/pg.ts'
import { databaseContract } from '../support/database-contract.ts'
import { testDatabase } from '../support/database.ts'

const hasPgBouncer = spawnSync('pgbouncer', ['--version']).status === 0

// oxlint-disable-next-line vitest/no-conditional-tests -- the suite needs a binary that a machine may not have
if (hasPgBouncer) {
  const { url, connect } = await testDatabase({ migrated: false })
  const through = await startPgBouncer(url)

  test('a wake that is sent through it reaches who listens at the server itself', async () => {
    const listener = await connect()
    const heard = once(listener, 'notification')
    await listener.query('listen izta_wake')
    const database = pgDatabase(through)
    await notifyWake({ database }).wake('default', 0)
    expect(await heard).toMatchObject([{ payload: 'default' }])
    await database.close?.()
  })

  databaseContract({ url: through, open: pgDatabase })
} else {
  // oxlint-disable-next-line vitest/no-disabled-tests -- tells why nothing ran
  test.skip('pgbouncer is not installed: apt-get install pgbouncer', () => undefined)
}

/** In transaction mode with fewer connections than the adapter opens. Returns the URL through it. */
async function startPgBouncer(databaseUrl: string): Promise<string> {
  const real = new URL(databaseUrl)
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'izta-pgbouncer-'))
  // PgBouncer refuses to run as root and then reads its files as the other user.
  await chmod(folder, 0o755)
  const user = process.getuid?.() === 0 ? 'user = nobody' : ''
  await writeFile(join(folder, 'users.txt'), `"${real.username}" "${decodeURIComponent(real.password)}"\n`)
  const settings = `
[databases]
* = host=${real.hostname} port=${real.port || '5432'}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = ${join(folder, 'users.txt')}
pool_mode = transaction
default_pool_size = 2
${user}
`
  await writeFile(join(folder, 'pgbouncer.ini'), settings)
  const bouncer = spawn('pgbouncer', [join(folder, 'pgbouncer.ini')], { stdio: ['ignore', 'ignore', 'pipe'] })
  const ended = once(bouncer, 'exit')
  const log: string[] = []
  await new Promise<void>((ready, reject) => {
    bouncer.once('exit', () => reject(new Error(`pgbouncer ended: ${log.join('\n')}`)))
    createInterface(bouncer.stderr).on('line', (line) => {
      log.push(line)
      if (line.includes('process up')) ready()
    })
  })
  afterAll(async () => {
    bouncer.kill('SIGINT')
    await ended
    await rm(folder, { recursive: true })
  })
  return Object.assign(new URL(databaseUrl), { host: `127.0.0.1:${port}` }).href
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
