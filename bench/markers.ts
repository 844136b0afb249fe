// Text that programs write into docs/performance.md, between comments that name its program's part.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { format, resolveConfig } from 'prettier'

export const performancePage = join(import.meta.dirname, '..', 'docs', 'performance.md')

/**
 * Puts the text in place of what stands between `<!-- name -->` and `<!-- /name -->`.
 *
 * @throws when the page has no such comments.
 */
export async function writeSection(name: string, text: string, page = performancePage): Promise<void> {
  const before = await readFile(page, 'utf8')
  const section = new RegExp(`(<!-- ${name}(?:: [^>]*)? -->)[\\s\\S]*?(<!-- /${name} -->)`)
  if (!section.test(before)) throw new Error(`${page} has no <!-- ${name} --> and <!-- /${name} -->`)
  const after = before.replace(section, (_, open: string, close: string) => `${open}\n\n${text}\n\n${close}`)
  await writeFile(page, await format(after, { ...(await resolveConfig(page)), filepath: page }))
}
