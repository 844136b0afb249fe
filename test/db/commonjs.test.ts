// A CommonJS bundle has no place of its own: what needs one says so, and the rest works.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'esbuild'
import { afterAll, expect, test } from 'vitest'

const folder = await mkdtemp(join(tmpdir(), 'izta-commonjs-test-'))
afterAll(() => rm(folder, { recursive: true }))
const source = (path: string) => JSON.stringify(fileURLToPath(new URL(`../../src/${path}`, import.meta.url)))

test('migrate in a CommonJS bundle names what is missing, and the local stack loads', async () => {
  const outfile = join(folder, 'bundle.cjs')
  await build({
    stdin: {
      contents: `
        import { createIzta } from ${source('index.ts')}
        import { startLocalStack } from ${source('local/index.ts')}
        const izta = createIzta({ database: { query: async () => [] }, jobs: [] })
        izta.migrate().catch((error) => console.log(typeof startLocalStack, error.code, error.message))`,
      resolveDir: folder,
    },
    bundle: true,
    external: ['cloudflare:sockets', 'pg-native'],
    format: 'cjs',
    logLevel: 'error',
    outfile,
    platform: 'node',
  })
  const { stdout } = await promisify(execFile)(process.execPath, [outfile])
  expect(stdout).toBe(
    'function migrations-missing The migrations next to this code cannot be read: run izta from its installed package, not from a bundle.\n',
  )
})
