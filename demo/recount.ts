// Counts the installed packages once more in the plainest way, with neither izta nor the code of the jobs.
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** What an audit and a recount must agree on. */
export interface Totals {
  readonly packages: number
  readonly files: number
  readonly bytes: number
  /** SHA-256, in hex, over the lines `<SHA-256 of the package> <its path>`, sorted by path. */
  readonly sha256: string
}

/** A file belongs to the innermost `node_modules/name` or `node_modules/@scope/name` of its path. */
const owner =
  /^(?<path>(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^@./][^/]*)\/(?<file>(?!(?:.*\/)?node_modules\/).+)$/

export function recount(root: string): Totals {
  const packages = Map.groupBy(filesUnder(root, 'node_modules'), (path) => owner.exec(path)?.groups?.['path'])
  const lines: string[] = []
  let files = 0
  let bytes = 0
  for (const path of [...packages.keys()].filter((key) => key !== undefined).toSorted()) {
    const paths = packages.get(path) ?? []
    if (!paths.includes(`${path}/package.json`)) continue
    const fingerprint = createHash('sha256')
    for (const file of paths.toSorted()) {
      const content = readFileSync(join(root, file))
      bytes += content.length
      fingerprint.update(`${sha256(content)} ${file.slice(path.length + 1)}\n`)
    }
    files += paths.length
    lines.push(`${fingerprint.digest('hex')} ${path}\n`)
  }
  return { packages: lines.length, files, bytes, sha256: sha256(lines.join('')) }
}

function* filesUnder(root: string, folder: string): Generator<string> {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = `${folder}/${entry.name}`
    if (entry.isDirectory()) yield* filesUnder(root, path)
    if (entry.isFile()) yield path
  }
}

const sha256 = (content: string | Buffer) => createHash('sha256').update(content).digest('hex')
