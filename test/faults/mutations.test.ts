import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { mutate, mutations } from './mutations.ts'

const read = (file: string) => readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')

test.each(mutations)('the places to break the engine by "$name" stand in $file', (mutation) => {
  const text = read(mutation.file)
  expect(mutate(text, mutation)).not.toBe(text)
})

test.each(mutations.flatMap(({ test: named }) => named ?? []))(
  'the test "$name" is in $file',
  ({ file, name }) => {
    expect(read(file)).toContain(`test('${name}'`)
  },
)
