// A disk of its own for the tasks, which can be filled: a small file system in memory, mounted by root on Linux.
import { spawnSync } from 'node:child_process'
import { mkdir, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface Disk {
  /** Where a tablespace may be. */
  readonly folder: string
  fill(): Promise<void>
  relieve(): Promise<void>
  remove(): void
}

const sizeMb = 256

/** Undefined where nothing can be mounted. */
export async function mountDisk(parent: string, owner: string): Promise<Disk | undefined> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return undefined
  const mountPoint = join(parent, 'disk')
  await mkdir(mountPoint)
  const { uid, gid } = await stat(owner)
  const options = `size=${sizeMb}m,uid=${uid},gid=${gid},mode=0700`
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', mountPoint]).status !== 0) return undefined
  const remove = () => void spawnSync('umount', ['--lazy', mountPoint])
  process.once('exit', remove)
  const folder = join(mountPoint, 'tablespace')
  await mkdir(folder)
  spawnSync('chown', [`${uid}:${gid}`, folder])
  const ballast = join(mountPoint, 'ballast')
  return {
    folder,
    async fill() {
      const { bavail, bsize } = await statfs(mountPoint)
      await writeFile(ballast, Buffer.alloc(bavail * bsize)).catch((error: unknown) => {
        if ((error as { code?: string }).code !== 'ENOSPC') throw error
      })
    },
    relieve: () => rm(ballast, { force: true }),
    remove,
  }
}
