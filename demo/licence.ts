// Finds out under which licence a package may be used: by its manifest, in today's or the old form, or by its text.
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Manifest } from './packages.ts'

/** An SPDX expression (https://spdx.org/licenses) and where it was found. */
export interface Licence {
  readonly licence: string
  readonly foundIn: 'license field' | 'licenses field' | 'licence file'
}

/** Undefined when the package says nothing at all. */
export async function findLicence(
  folder: string,
  { license, licenses }: Manifest,
): Promise<Licence | undefined> {
  const declared = typeof license === 'object' ? license.type : license
  // "SEE LICENSE IN …" and "UNLICENSED" are npm's words, not SPDX's; the second is a licence: none is granted.
  if (declared && !/^see licen[cs]e in/i.test(declared))
    return { licence: declared, foundIn: 'license field' }
  if (licenses !== undefined && licenses.length > 0) {
    return { licence: licenses.map(({ type }) => type).join(' OR '), foundIn: 'licenses field' }
  }
  const text = await readLicenceFile(folder)
  return text === undefined ? undefined : { licence: recognise(text), foundIn: 'licence file' }
}

async function readLicenceFile(folder: string): Promise<string | undefined> {
  const entries = await readdir(folder, { withFileTypes: true })
  const file = entries.find((entry) => entry.isFile() && /^(un)?licen[cs]e|^copying/i.test(entry.name))
  return file && readFile(join(folder, file.name), 'utf8')
}

/** Sentences by which the common licences are known, the more special ones first. */
const sentences: readonly (readonly [licence: string, sentence: RegExp])[] = [
  ['Apache-2.0', /apache license,? version 2\.0/],
  ['MPL-2.0', /mozilla public license,? (version|v\.) ?2\.0/],
  ['AGPL-3.0', /gnu affero general public license/],
  ['LGPL-3.0', /gnu lesser general public license/],
  ['GPL-3.0', /gnu general public license/],
  ['Unlicense', /released into the public domain/],
  ['BSD-3-Clause', /redistributions of source code.*neither the name/],
  ['BSD-2-Clause', /redistributions of source code/],
  ['ISC', /permission to use, copy, modify,? and\/or distribute/],
  ['MIT', /permission is hereby granted, free of charge/],
]

function recognise(text: string): string {
  const line = text.toLowerCase().replaceAll(/\s+/g, ' ')
  return sentences.find(([, sentence]) => sentence.test(line))?.[0] ?? 'a text of its own'
}
