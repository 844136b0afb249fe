// Runs a program that uses izta in a process of its own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const source = (path: string) => fileURLToPath(new URL(`../../src/${path}`, import.meta.url))

/** `body` has createIzta, defineJob, startRunner, a database and a log. Resolves to its exit code and its output. */
export async function program(url: string, body: string): Promise<{ code: number | null; output: string }> {
  const script = `
    import { createIzta, defineJob, startRunner } from '${source('index.ts')}'
    import { pgDatabase } from '${source('adapters/pg.ts')}'
    const silent = () => {}
    const log = { debug: silent, info: silent, warn: silent, error: silent }
    const database = pgDatabase('${url}')
    ${body}`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [code] = (await once(child, 'exit')) as [number | null]
  return { code, output }
}
