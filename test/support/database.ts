// A fresh database for a test file, copied from the migrated template; dropped on pass, kept and named on failure.

import { randomUUID } from 'node:crypto'
import { Client, Pool } from 'pg'
import { afterAll, afterEach, inject } from 'vitest'
import { pgDatabase } from '../../src/adapters/pg.ts'
import type { Database } from '../../src/db/database.ts'

export interface TestDatabase {
  readonly url: string
  readonly name: string
  /** The port over TCP. */
  readonly database: Database
  /** For raw SQL in tests. */
  readonly pool: Pool
  /** A connection of its own, for transactions that stay open; ended after the file. */
  readonly connect: () => Promise<Client>
}

export interface TestDatabaseOptions {
  /** @default true */
  readonly migrated?: boolean
  /** What transactions of this database start with unless they say otherwise. @default 'read committed' */
  readonly isolation?: 'read committed' | 'repeatable read' | 'serializable'
}

/** Call it at the top of a test file: `const { database, pool } = await testDatabase()`. */
export async function testDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const { migrated = true, isolation } = options
  const name = `izta_test_${randomUUID().replaceAll('-', '')}`
  const url = urlOf(name)
  await administer(async (admin) => {
    await admin.query(`create database ${name} template ${migrated ? inject('templateName') : 'template0'}`)
    if (isolation !== undefined) {
      await admin.query(`alter database ${name} set default_transaction_isolation = '${isolation}'`)
    }
  })
  const database = pgDatabase(url)
  const pool = new Pool({ connectionString: url })
  // The forced drop may reach a connection that is on its way out.
  pool.on('connect', (client) => client.on('error', () => undefined))
  const clients: Client[] = []
  let hasFailed = false

  afterEach(({ task }) => {
    hasFailed ||= task.result?.state === 'fail'
  })
  afterAll(async () => {
    await Promise.all([database.close?.(), pool.end(), ...clients.map((client) => client.end())])
    if (hasFailed) console.error(`Kept the database of the failed test: ${url}`)
    else await administer((admin) => drop(admin, name))
  })
  return {
    url,
    name,
    database,
    pool,
    async connect() {
      const client = new Client(url)
      client.on('error', () => undefined)
      clients.push(client)
      await client.connect()
      return client
    },
  }
}

/** Waits for connections that are on their way out; ends those that a test has left. */
async function drop(admin: Client, name: string): Promise<void> {
  try {
    await admin.query(`drop database ${name}`)
  } catch {
    await admin.query(`drop database ${name} with (force)`)
  }
}

function urlOf(name: string): string {
  const url = new URL(inject('serverUrl'))
  url.pathname = `/${name}`
  return url.href
}

async function administer(work: (admin: Client) => Promise<unknown>): Promise<void> {
  const admin = new Client(inject('serverUrl'))
  await admin.connect()
  try {
    await work(admin)
  } finally {
    await admin.end()
  }
}
