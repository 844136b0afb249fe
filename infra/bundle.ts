// Bundles the Lambda functions: for each a zip with one minified ES module, and chunks for what it may load later.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Metafile, type Plugin } from 'esbuild'
import { zipSync, type Zippable } from 'fflate'

const root = fileURLToPath(new URL('..', import.meta.url))

/** `functions/NAME.ts` becomes `.build/NAME.zip` with `NAME.mjs` in it. */
const folder = '.build'

/** The entry points, with the most that they may load at start, in bytes. */
const functions: Readonly<Record<string, number>> = { enqueue: 270_000, runner: 400_000, scheduler: 430_000 }

/**
 * The conditions of `#database` in functions/package.json, with what each may add to the limit of enqueue, in bytes:
 * Neon's driver is 70 kB larger than pg. The other functions have room for it.
 */
const adapters: Readonly<Record<string, number>> = {
  pg: 0,
  rds: 0,
  neon: 60_000,
  'neon-socket': 60_000,
}

export interface BundleSize {
  readonly name: string
  /** The entry and what it imports statically: what a cold start loads. */
  readonly startBytes: number
  /** With the chunks that are loaded when they are called for. */
  readonly allBytes: number
  readonly limitBytes: number
}

/**
 * Writes the bundles and returns their sizes. The code of one database adapter goes into them, that of the others
 * does not.
 */
export async function bundle(adapter = 'pg'): Promise<BundleSize[]> {
  const extraBytes = adapters[adapter]
  if (extraBytes === undefined) {
    const known = Object.keys(adapters).join(', ')
    throw new Error(`There is no database adapter "${adapter}": use one of ${known}.`)
  }
  await rm(join(root, folder), { recursive: true, force: true })
  await mkdir(join(root, folder))
  return Promise.all(
    Object.entries(functions).map(async ([name, limitBytes]) => {
      const { metafile } = await build({
        absWorkingDir: root,
        entryPoints: [join('functions', `${name}.ts`)],
        outdir: join(folder, name),
        outExtension: { '.js': '.mjs' },
        // pg is CommonJS and asks for Node's own modules.
        banner: {
          js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
        },
        bundle: true,
        conditions: [adapter],
        external: ['cloudflare:sockets', 'pg-native'],
        plugins: [withoutNative, withoutPasswordFile],
        format: 'esm',
        logLevel: 'error',
        metafile: true,
        minify: true,
        platform: 'node',
        sourcemap: true,
        sourcesContent: false,
        splitting: true,
        target: 'node24',
      })
      await zip(Object.keys(metafile.outputs), `${name}.zip`)
      const extra = name === 'enqueue' ? extraBytes : 0
      return { name, limitBytes: limitBytes + extra, ...sizesOf(metafile.outputs) }
    }),
  )
}

/** pg asks for its native client only if NODE_PG_FORCE_NATIVE is set, and copes without it. */
const withoutNative: Plugin = {
  name: 'without-native',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\/native$/ }, ({ path, importer }) =>
      /[\\/]pg[\\/]lib[\\/]/.test(importer) ? { path, external: true } : undefined,
    ),
}

/** A function has no ~/.pgpass: without a password in the connection string pg sends none, as with an empty file. */
const withoutPasswordFile: Plugin = {
  name: 'without-password-file',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^pgpass$/ }, ({ path }) => ({ path, namespace: 'without-password-file' }))
    onLoad({ filter: /.*/, namespace: 'without-password-file' }, () => ({
      contents: 'module.exports = (_connection, done) => done()',
    }))
  },
}

/** The same files make the same zip, so that a deployment without changes is seen as one. */
async function zip(paths: readonly string[], name: string): Promise<void> {
  const files: Zippable = {}
  for (const path of paths.toSorted()) files[basename(path)] = await readFile(join(root, path))
  await writeFile(join(root, folder, name), zipSync(files, { level: 9, mtime: '2000-01-01T00:00:00Z' }))
}

function sizesOf(outputs: Metafile['outputs']): { startBytes: number; allBytes: number } {
  const atStart = new Set(
    Object.keys(outputs).filter((path) => outputs[path]?.entryPoint?.startsWith('functions/')),
  )
  for (const path of atStart) {
    for (const imported of outputs[path]?.imports ?? []) {
      if (imported.kind === 'import-statement' && imported.path in outputs) atStart.add(imported.path)
    }
  }
  const modules = Object.keys(outputs).filter((path) => path.endsWith('.mjs'))
  const sum = (paths: Iterable<string>) =>
    [...paths].reduce((bytes, path) => bytes + (outputs[path]?.bytes ?? 0), 0)
  return { startBytes: sum(atStart), allBytes: sum(modules) }
}

const kB = (bytes: number) => `${Math.round(bytes / 1000)} kB`

/** One line a function. */
export function describeSizes(sizes: readonly BundleSize[]): string {
  const lines = sizes.map(
    ({ name, startBytes, allBytes, limitBytes }) =>
      `${name}: ${kB(startBytes)} at start (limit ${kB(limitBytes)}), ${kB(allBytes)} in all`,
  )
  return lines.join('\n')
}

if (import.meta.main) {
  const adapter = process.argv[2]
  const sizes = await bundle(adapter)
  console.log(`${adapter ?? 'pg'}\n${describeSizes(sizes)}`)
  const above = sizes.filter(({ startBytes, limitBytes }) => startBytes > limitBytes)
  if (above.length > 0) {
    const names = above.map(({ name }) => name).join(', ')
    console.error(
      `Above the limit: ${names}. See what they import at start, or raise the limit in infra/bundle.ts.`,
    )
    process.exitCode = 1
  }
}
