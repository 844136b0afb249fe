// One Postgres for all test files: TEST_DATABASE_URL, else an embedded one; and a migrated template to copy.

import { randomUUID } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { Client } from 'pg'
import type { TestProject } from 'vitest/node'
import { pgDatabase } from '../../src/adapters/pg.ts'
import { migrate } from '../../src/db/migrate.ts'
import { startPostgres } from '../../src/local/postgres.ts'

declare module 'vitest' {
  interface ProvidedContext {
    /** Connection string of a user that may create databases. */
    serverUrl: string
    templateName: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const given = process.env['TEST_DATABASE_URL']
  const server = given === undefined ? await startPostgres() : { url: given, stop: async () => {} }
  const templateName = `izta_template_${randomUUID().slice(0, 8)}`
  const admin = new Client(server.url)
  await admin.connect()
  await admin.query(`create database ${templateName}`)
  await migrateTemplate(server.url, templateName)
  project.provide('serverUrl', server.url)
  project.provide('templateName', templateName)
  return async () => {
    await admin.query(`drop database ${templateName}`)
    await admin.end()
    await server.stop()
  }
}

async function migrateTemplate(serverUrl: string, name: string): Promise<void> {
  const migrations = await readdir(new URL('../../migrations/', import.meta.url))
  if (migrations.length === 0) return
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  const database = pgDatabase(url.href)
  await migrate(database, { schema: 'izta' })
  await database.close?.()
}
