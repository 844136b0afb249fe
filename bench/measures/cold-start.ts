// From the start of node to the first claim of a bundled runner.
import { spawn } from 'node:child_process'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { build } from 'esbuild'
import { unpackBefore } from '../before.ts'
import type { Bench } from '../bench.ts'
import { before } from '../contenders.ts'
import { iztaQueue } from '../izta-queue.ts'
import { median, type Measure } from '../measure.ts'
import { openTree, sourceOf, type TreeName } from '../tree.ts'

export const coldStart: Measure = {
  name: 'cold-start',
  title: 'from the start of node to the first claim of a bundled runner, beside bare node',
  async run(bench) {
    await unpackBefore()
    const bundles = { before: await bundle('before'), now: await bundle('now') }
    await using then = await migrated(bench, 'before')
    await using now = await migrated(bench, 'now')
    const times = { bare: [] as number[], before: emptyTimes(), now: emptyTimes() }
    // oxlint-disable no-await-in-loop -- one start after the other
    for (let start = 0; start < bench.size(31, 7); start++) {
      times.bare.push((await startMs(['--eval', `process.stdout.write('s')`])).get('s') ?? NaN)
      for (const [name, { url }] of [['before', then] as const, ['now', now] as const]) {
        const runner = await startMs([bundles[name], url])
        times[name].sent.push(runner.get('s') ?? NaN)
        times[name].answered.push(runner.get('a') ?? NaN)
      }
    }
    const ratios = (values: readonly number[], others: readonly number[]) => ({
      ratio: { to: before.label, values: [median(values) / median(others)] },
      target: { of: 'ratio', atMost: 1.05 } as const,
    })
    const sizes = { before: await stat(bundles.before), now: await stat(bundles.now) }
    return [
      { subject: 'bare node', unit: 'ms', values: times.bare },
      { subject: 'before, first claim sent', unit: 'ms', values: times.before.sent },
      {
        subject: 'izta, first claim sent',
        unit: 'ms',
        values: times.now.sent,
        ...ratios(times.now.sent, times.before.sent),
      },
      {
        subject: 'izta, first claim sent, over bare node',
        unit: 'ms',
        values: times.now.sent.map((ms) => ms - median(times.bare)),
        target: { of: 'value', atMost: 150 },
      },
      { subject: 'before, first claim answered', unit: 'ms', values: times.before.answered },
      {
        subject: 'izta, first claim answered',
        unit: 'ms',
        values: times.now.answered,
        ...ratios(times.now.answered, times.before.answered),
      },
      { subject: 'before, bundle', unit: 'kB', values: [sizes.before.size / 1000] },
      { subject: 'izta, bundle', unit: 'kB', values: [sizes.now.size / 1000] },
    ]
  },
}

const emptyTimes = () => ({ sent: [] as number[], answered: [] as number[] })

async function bundle(tree: TreeName): Promise<string> {
  const outfile = join(import.meta.dirname, '..', 'dist', `cold-start-${tree}.mjs`)
  await build({
    entryPoints: [join(import.meta.dirname, '..', 'cold-start.ts')],
    outfile,
    bundle: true,
    minify: true,
    platform: 'node',
    target: 'node24',
    format: 'esm',
    alias: { izta: await sourceOf(tree, '.'), 'izta/pg': await sourceOf(tree, './pg') },
    external: ['pg-native'],
    // pg is CommonJS and requires node's own modules.
    banner: { js: `import{createRequire}from'node:module';const require=createRequire(import.meta.url);` },
    logLevel: 'error',
  })
  return outfile
}

async function migrated(bench: Bench, name: TreeName) {
  const database = await bench.server.database()
  const queue = iztaQueue(await openTree(name))({ url: database.url })
  await queue.install()
  await queue.close()
  return database
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
