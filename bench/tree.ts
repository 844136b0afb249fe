// The two source trees of izta that the bench compares, and their public entries. What uses a tree does not know which
// one it has: both are reached by the names that package.json exports.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type * as neon from '../src/adapters/neon.ts'
import type * as pg from '../src/adapters/pg.ts'
import type * as lambda from '../src/aws/lambda.ts'
import type * as core from '../src/index.ts'
import type * as local from '../src/local/index.ts'

/** The commit that "before" means in the results. */
export const beforeCommit = 'd443de9'

export type TreeName = 'now' | 'before'

/** `before` is there once `before.ts` has unpacked it. */
export const treeFolders: Readonly<Record<TreeName, string>> = {
  now: join(import.meta.dirname, '..'),
  before: join(import.meta.dirname, '.before', beforeCommit),
}

/** What users import, by the names of package.json's `exports`. */
interface Entries {
  '.': typeof core
  './lambda': typeof lambda
  './local': typeof local
  './neon': typeof neon
  './pg': typeof pg
}
export type Entry = keyof Entries

export interface Tree {
  readonly core: Entries['.']
  readonly lambda: Entries['./lambda']
  readonly local: Entries['./local']
  readonly neon: Entries['./neon']
  readonly pg: Entries['./pg']
  /** The retention that keeps nothing of finished tasks: the trees spell it in two ways. */
  readonly keepNothing: KeepNothing
}

interface KeepNothing {
  readonly finishedDays: 'none'
}
const keepNothing: Readonly<Record<TreeName, KeepNothing>> = {
  now: { finishedDays: 'none' },
  // The types are those of now.
  before: { finished: 'none' } as unknown as KeepNothing,
}

/** @throws when the tree is not there. */
export async function openTree(name: TreeName): Promise<Tree> {
  return {
    core: await load(name, '.'),
    lambda: await load(name, './lambda'),
    local: await load(name, './local'),
    neon: await load(name, './neon'),
    pg: await load(name, './pg'),
    keepNothing: keepNothing[name],
  }
}

async function load<Name extends Entry>(tree: TreeName, entry: Name): Promise<Entries[Name]> {
  return (await import(pathToFileURL(await sourceOf(tree, entry)).href)) as Entries[Name]
}

/** The source file behind an entry: the package exports what it is built to. */
export async function sourceOf(tree: TreeName, entry: Entry): Promise<string> {
  const folder = treeFolders[tree]
  const { exports } = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
    exports: Record<Entry, { default: string }>
  }
  const built = exports[entry].default
  return join(folder, built.replace(/^\.\/dist\//, 'src/').replace(/\.js$/, '.ts'))
}
