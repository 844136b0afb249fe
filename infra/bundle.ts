// Bundles the Lambda functions: for each a folder with one minified ES module, and chunks for what it may load later.
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build, type Metafile } from 'esbuild'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Where bundles go: `.build/NAME/NAME.mjs` is the module of the function `functions/NAME.ts`. */
const folder = '.build'

/** The entry points, with the most that they may load at start, in bytes. */
const functions: Readonly<Record<string, number>> = { enqueue: 250_000, runner: 400_000, scheduler: 400_000 }

/** The adapters: the conditions of `#database` in functions/package.json. */
const adapters = ['pg', 'neon']

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
  if (!adapters.includes(adapter)) {
    throw new Error(`There is no database adapter "${adapter}": use one of ${adapters.join(', ')}.`)
  }
  rmSync(join(root, folder), { recursive: true, force: true })
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
      return { name, limitBytes, ...sizesOf(metafile.outputs) }
    }),
  )
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

/** One line a function; throws when one is above its limit. */
export function describeSizes(sizes: readonly BundleSize[]): string {
  const kB = (bytes: number) => `${Math.round(bytes / 1000)} kB`.padStart(7)
  const lines = sizes.map(
    ({ name, startBytes, allBytes, limitBytes }) =>
      `${name.padEnd(10)} ${kB(startBytes)} at start (limit ${kB(limitBytes).trim()}), ${kB(allBytes)} in all`,
  )
  const above = sizes.filter(({ startBytes, limitBytes }) => startBytes > limitBytes)
  if (above.length > 0) {
    throw new Error(
      `${lines.join('\n')}\nAbove the limit: ${above.map(({ name }) => name).join(', ')}. See what a function imports at start, or raise its limit in infra/bundle.ts.`,
    )
  }
  return lines.join('\n')
}

if (import.meta.main) console.log(describeSizes(await bundle(process.argv[2])))
