// What the demo's jobs say of packages of every kind.
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { runJob } from 'izta/testing'
import { afterAll, expect, test } from 'vitest'
import { auditPackage, checkFiles } from '../../demo/jobs.ts'
import { findPackages } from '../../demo/packages.ts'
import { recount } from '../../demo/recount.ts'

const root = await mkdtemp(join(tmpdir(), 'izta-demo-test-'))
afterAll(() => rm(root, { recursive: true, force: true }))

async function write(path: string, content: string | object): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), typeof content === 'string' ? content : JSON.stringify(content))
}

const mit = 'Permission is hereby granted, free of\n charge, to any person obtaining a copy of this software'

await write('node_modules/plain/package.json', {
  name: 'plain',
  version: '1.0.0',
  license: 'ISC',
  main: './lib',
})
await write('node_modules/plain/lib/index.js', 'export {}')
await write('node_modules/plain/lib/package.json', { type: 'module' })
await write('node_modules/plain/node_modules/nested/package.json', {
  name: 'nested',
  licenses: [{ type: 'MIT' }],
})
await write('node_modules/plain/node_modules/.cache/junk', 'junk')
await write('node_modules/@scope/texted/package.json', {
  name: '@scope/texted',
  license: 'SEE LICENSE IN LICENSE.md',
})
await write('node_modules/@scope/texted/LICENSE.md', mit)
await write('node_modules/silent/package.json', {
  name: 'silent',
  bin: { silent: 'silent.js' },
  exports: { './*': './*.js' },
})
await write('node_modules/broken/package.json', '{ "name": "bro')
await write('node_modules/no-package/readme.md', 'left behind')
await write('node_modules/.bin/tool', '#!/bin/sh')
await symlink('plain', join(root, 'node_modules/linked'))

const packages = [
  'node_modules/@scope/texted',
  'node_modules/broken',
  'node_modules/plain',
  'node_modules/plain/node_modules/nested',
  'node_modules/silent',
]
const audit = (path: string) => runJob(auditPackage, { root, path: `node_modules/${path}` })

test('packages are found wherever they are nested, and nothing else counts as one', async () => {
  expect(await findPackages(root)).toEqual(packages)
})

test.for([
  ['plain', 'ISC', 'license field'],
  ['plain/node_modules/nested', 'MIT', 'licenses field'],
  ['@scope/texted', 'MIT', 'licence file'],
] as const)('the licence of %s is %s, by its %s', async ([path, licence, foundIn]) => {
  expect(await audit(path)).toMatchObject({
    status: 'finished',
    result: { licence, foundIn },
    children: [{ job: 'check-files', payload: { root, path: `node_modules/${path}` } }],
  })
})

test.for([
  ['silent', 'no-licence'],
  ['broken', 'unreadable-manifest'],
] as const)('%s fails with the declared error %s, is weighed and not retried', async ([path, code]) => {
  expect(await audit(path)).toMatchObject({
    status: 'failed',
    code: 'declared',
    error: { code, files: 1, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) },
    willRetry: false,
  })
})

test('a folder as an entry point is resolved, a command that is missing is named', async () => {
  const check = (path: string) => runJob(checkFiles, { root, path: `node_modules/${path}` })
  expect(await check('plain')).toMatchObject({ status: 'finished', result: { promised: 1 } })
  expect(await check('silent')).toMatchObject({ error: { code: 'missing-files', missing: ['silent.js'] } })
})

test('the independent count agrees with the sum of the audits', async () => {
  const runs = await Promise.all(packages.map((path) => runJob(auditPackage, { root, path })))
  const weights = runs.map((run) =>
    run.status === 'finished' ? run.result : run.status === 'failed' ? run.error : undefined,
  )
  const { packages: count, files, bytes } = recount(root)
  expect(count).toBe(packages.length)
  expect(files).toBe(weights.reduce((sum, weight) => sum + (weight?.files ?? 0), 0))
  expect(bytes).toBe(weights.reduce((sum, weight) => sum + (weight?.bytes ?? 0), 0))
})
