// node bench/before.ts: unpacks the sources of the commit that the bench calls "before" into bench/.before/. The bench
// does so by itself when a measure needs them.
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeCommit, treeFolders } from './tree.ts'

const run = promisify(execFile)

/**
 * Takes the sources from the history, and the dependencies of this tree, so that only izta's own code differs.
 *
 * @throws when git or the commit is missing, as in a shallow clone.
 */
export async function unpackBefore(): Promise<void> {
  const folder = treeFolders.before
  if (!(await isThere(folder))) await unpack(folder)
  // Each time: this tree may have other dependencies by now.
  await linkDependencies(folder)
}

async function unpack(folder: string): Promise<void> {
  const parent = dirname(folder)
  await mkdir(parent, { recursive: true })
  // Made under another name: an interrupted run leaves no half of a tree.
  const unpacked = await mkdtemp(join(parent, 'unpacking-'))
  try {
    const archive = join(unpacked, 'before.tar')
    await run('git', ['archive', '--output', archive, beforeCommit], { cwd: treeFolders.now })
    await run('tar', ['-xf', archive, '-C', unpacked])
    await rm(archive)
    await rename(unpacked, folder)
  } catch (error) {
    await rm(unpacked, { recursive: true, force: true })
    const reason = error instanceof Error ? error.message : String(error)
    throw new Error(
      `commit ${beforeCommit} cannot be unpacked; in a shallow clone run git fetch --unshallow. ${reason}`,
      { cause: error },
    )
  }
}

/** Those of this tree; what izta has dropped since is a dependency of the bench. */
async function linkDependencies(folder: string): Promise<void> {
  const { dependencies } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>
  }
  await rm(join(folder, 'node_modules'), { recursive: true, force: true })
  for (const name of Object.keys(dependencies)) {
    const places = [treeFolders.now, import.meta.dirname].map((root) => join(root, 'node_modules', name))
    const link = join(folder, 'node_modules', name)
    // oxlint-disable no-await-in-loop -- a dozen links
    const found = (await isThere(places[0] ?? '')) ? places[0] : places[1]
    await mkdir(dirname(link), { recursive: true })
    await symlink(found ?? '', link, 'dir')
  }
}

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

if (import.meta.main) {
  await unpackBefore()
  process.stdout.write(`${treeFolders.before}\n`)
}
