// From the start of node to the first claim of a bundled runner.
import { spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import { openHotPath } from '../claims.ts'
import { median, type Measure } from '../measure.ts'

export const coldStart: Measure = {
  name: 'cold-start',
  title: 'from the start of node to the first claim of a bundled runner, beside bare node',
  async run(bench) {
    const outfile = join(import.meta.dirname, '..', 'dist', 'cold-start.mjs')
    await build({
      entryPoints: [join(import.meta.dirname, '..', 'cold-start.ts')],
      outfile,
      bundle: true,
      minify: true,
      platform: 'node',
      target: 'node24',
      format: 'esm',
      external: ['pg-native'],
      // pg is CommonJS and requires node's own modules.
      banner: { js: `import{createRequire}from'node:module';const require=createRequire(import.meta.url);` },
      logLevel: 'error',
    })
    await using database = await bench.server.database()
    await using _hotPath = await openHotPath(database.url)
    const bare: number[] = []
    const sent: number[] = []
    const answered: number[] = []
    // oxlint-disable no-await-in-loop -- one start after the other
    for (let start = 0; start < bench.size(31, 7); start++) {
      bare.push((await startMs(['--eval', `process.stdout.write('s')`])).get('s') ?? NaN)
      const runner = await startMs([outfile, database.url])
      sent.push(runner.get('s') ?? NaN)
      answered.push(runner.get('a') ?? NaN)
    }
    const { size } = await stat(outfile)
    return [
      { subject: 'bare node', unit: 'ms', values: bare },
      { subject: 'first claim sent', unit: 'ms', values: sent },
      {
        subject: 'first claim sent, over bare node',
        unit: 'ms',
        values: sent.map((ms) => ms - median(bare)),
        target: { of: 'value', atMost: 150 },
      },
      { subject: 'first claim answered', unit: 'ms', values: answered },
      { subject: 'bundle', unit: 'kB', values: [size / 1000] },
    ]
  },
}

/** When each character came, in milliseconds from the start of the process. */
async function startMs(words: readonly string[]): Promise<Map<string, number>> {
  const times = new Map<string, number>()
  const startedAt = performance.now()
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  child.stdout.setEncoding('utf8')
  for await (const text of child.stdout)
    for (const mark of String(text)) times.set(mark, performance.now() - startedAt)
  return times
}
