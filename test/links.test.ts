// Links between pages lead somewhere, also for those who have only the package.
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { expect, test } from 'vitest'

const root = join(import.meta.dirname, '..')
const { files } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { files: string[] }

/** npm adds the last three by itself. */
const shipped = [...files, 'package.json', 'README.md', 'LICENSE']
const isShipped = (path: string) =>
  // A folder is there when something in it is.
  shipped.some((item) => path === item || path.startsWith(`${item}/`) || item.startsWith(`${path}/`))

/** The relative links of a page, as paths from the root and anchors. */
function linksOf(page: string): { path: string; anchor: string | undefined }[] {
  const text = readFileSync(join(root, page), 'utf8').replaceAll(/^```.*?^```/gms, '')
  return [...text.matchAll(/\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)/g)].map(([, target = '', anchor]) => ({
    path: target === '' ? page : relative(root, join(root, dirname(page), target)),
    anchor: anchor === '' ? undefined : anchor,
  }))
}

function anchorsOf(page: string): string[] {
  const headings = readFileSync(join(root, page), 'utf8').matchAll(/^#+ (.*)$/gm)
  return [...headings].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  )
}

const pages = globSync(['README.md', 'CHANGELOG.md', 'docs/*.md', 'examples/*/README.md'], { cwd: root })

test.each(pages)('what %s links to is in the package', (page) => {
  const dead = linksOf(page).filter(
    ({ path, anchor }) =>
      !existsSync(join(root, path)) ||
      !isShipped(path) ||
      (anchor !== undefined && !anchorsOf(path).includes(anchor)),
  )
  expect(dead).toEqual([])
})
