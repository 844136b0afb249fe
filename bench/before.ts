// node bench/before.ts: unpacks the sources of the commit that the bench calls "before" into bench/.before/. The bench
// does so by itself when a measure needs them.
import { execFile } from 'node:child_process'
import { access, mkdir, mkdtemp, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { beforeCommit, treeFolders } from './tree.ts'

const run = promisify(execFile)

/**
 * Takes the sources from the history, and the dependencies of this tree: only izta's own code differs.
 *
 * @throws when git or the commit is missing, as in a shallow clone.
 */
export async function unpackBefore(): Promise<void> {
  const folder = treeFolders.before
  if (await isThere(folder)) return
  const parent = dirname(folder)
  await mkdir(parent, { recursive: true })
  // Made under another name: an interrupted run leaves no half of a tree.
  const unpacked = await mkdtemp(join(parent, 'unpacking-'))
  try {
    const archive = join(unpacked, 'before.tar')
    await run('git', ['archive', '--output', archive, beforeCommit], { cwd: treeFolders.now })
    await run('tar', ['-xf', archive, '-C', unpacked])
    await rm(archive)
    await symlink(join(treeFolders.now, 'node_modules'), join(unpacked, 'node_modules'), 'dir')
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

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

if (import.meta.main) {
  await unpackBefore()
  process.stdout.write(`${treeFolders.before}\n`)
}
