// Finds the packages under a node_modules folder and reads what is in them. Links are not followed.
import { hash } from 'node:crypto'
import { lstat, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'

/** The parts of a package.json that the audit looks at. `licenses` is what packages wrote before 2014. */
const manifestSchema = z.looseObject({
  name: z.string().optional(),
  version: z.string().optional(),
  license: z.union([z.string(), z.looseObject({ type: z.string() })]).optional(),
  licenses: z.array(z.looseObject({ type: z.string() })).optional(),
})
export type Manifest = z.infer<typeof manifestSchema>

/** @throws when there is no package.json, or it is not JSON or not a manifest. */
export async function readManifest(folder: string): Promise<Manifest> {
  return manifestSchema.parse(JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')))
}

/**
 * Every package installed under a folder, scoped and nested ones too, as sorted paths such as
 * `node_modules/@types/node`. A package.json deeper inside a package marks module types and is no package.
 */
export async function findPackages(root: string): Promise<string[]> {
  const folders = await foldersUnder(root, 'node_modules')
  const candidates = folders.filter((path) => /(^|\/)node_modules\/(@[^/]+\/)?[^@./][^/]*$/.test(path))
  const hasManifest = await Promise.all(candidates.map((path) => exists(join(root, path, 'package.json'))))
  return candidates.filter((_, index) => hasManifest[index]).toSorted()
}

async function foldersUnder(root: string, folder: string): Promise<string[]> {
  const entries = await readdir(join(root, folder), { withFileTypes: true })
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name))
  const deeper = await Promise.all(folders.map((path) => foldersUnder(root, path)))
  return [...folders, ...deeper.flat()]
}

/** What a package weighs, and a fingerprint that changes with any byte or name in it. */
export interface Contents {
  readonly files: number
  readonly bytes: number
  /** SHA-256, in hex, over the lines `<SHA-256 of the file> <path>`, sorted by path. */
  readonly sha256: string
}

/** Files that one package has open at a time. */
const filesAtOnce = 8

/** Reads every file of a package, but not the packages installed inside it. */
export async function readContents(folder: string, signal: AbortSignal): Promise<Contents> {
  const paths = (await filesOf(folder)).toSorted()
  let bytes = 0
  const lines: string[] = []
  for (let first = 0; first < paths.length; first += filesAtOnce) {
    const batch = paths.slice(first, first + filesAtOnce)
    // oxlint-disable-next-line no-await-in-loop -- thousands of files at once would keep the other tasks waiting
    const contents = await Promise.all(batch.map((path) => readFile(join(folder, path), { signal })))
    for (const [index, content] of contents.entries()) {
      bytes += content.length
      lines.push(`${hash('sha256', content)} ${batch[index]}\n`)
    }
  }
  return { files: paths.length, bytes, sha256: hash('sha256', lines.join('')) }
}

async function filesOf(root: string, folder = ''): Promise<string[]> {
  const entries = await readdir(join(root, folder), { withFileTypes: true })
  const paths = entries.map((entry) => {
    const path = join(folder, entry.name)
    if (entry.isFile()) return [path]
    return entry.isDirectory() && entry.name !== 'node_modules' ? filesOf(root, path) : []
  })
  return (await Promise.all(paths)).flat()
}

/** Every file that a manifest promises: its entry points, types and commands. Patterns are left out. */
export function promisedFiles({ main, module, types, typings, bin, exports }: Manifest): string[] {
  const paths = [main, module, types, typings, bin, exports].flatMap(pathsIn)
  return [...new Set(paths)].filter((path) => !path.includes('*')).toSorted()
}

function pathsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(pathsIn) : []
}

/** Whether a promised path can be resolved, as Node resolves `main`: also without its extension, or as a folder. */
export async function isThere(folder: string, path: string): Promise<boolean> {
  const candidates = ['', '.js', '.json', '.node', '.d.ts', '/index.js', '/index.json', '/index.node']
  const found = await Promise.all(candidates.map((ending) => exists(join(folder, path + ending))))
  return found.includes(true)
}

const exists = (path: string) =>
  lstat(path).then(
    () => true,
    () => false,
  )
