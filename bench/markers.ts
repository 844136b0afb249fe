// Text that programs write into the pages on performance, between comments that name its program's part.
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { format, resolveConfig } from 'prettier'

const docs = join(import.meta.dirname, '..', 'docs')

/** For readers: a summary of the last run. */
export const performancePage = join(docs, 'performance.md')
/** All tables of the last run. */
export const tablesPage = join(docs, 'performance-tables.md')

/**
 * Puts the text in place of what stands between `<!-- name -->` and `<!-- /name -->`.
 *
 * @throws when the page has no such comments.
 */
export async function writeSection(name: string, text: string, page = tablesPage): Promise<void> {
  const before = await readFile(page, 'utf8')
  const section = new RegExp(`(<!-- ${name}(?:: [^>]*)? -->)[\\s\\S]*?(<!-- /${name} -->)`)
  if (!section.test(before)) throw new Error(`${page} has no <!-- ${name} --> and <!-- /${name} -->`)
  const after = before.replace(section, (_, open: string, close: string) => `${open}\n\n${text}\n\n${close}`)
  await writeFile(page, await format(after, { ...(await resolveConfig(page)), filepath: page }))
}
