// The demo's jobs: a schedule starts a scan, which fans out one audit per installed package, each of which is
// followed by a check of the files that the package promises.
import { join } from 'node:path'
import * as z from 'zod'
// An application imports these from 'izta'; the demo runs the sources as they are.
import { defineJob, defineSchedule, type Schedule } from '../src/index.ts'
import { findLicence } from './licence.ts'
import {
  findPackages,
  isThere,
  promisedFiles,
  readContents,
  readManifest,
  type Manifest,
} from './packages.ts'

/** A package by the folder that holds node_modules and the path under it. */
const location = z.object({ root: z.string(), path: z.string() })
const contents = { files: z.int(), bytes: z.int(), sha256: z.string() }
const shared = { maxAttempts: 3, timeoutSeconds: 5 }

/** Whether the files that a package.json names as its entry points are there. */
export const checkFiles = defineJob({
  id: 'check-files',
  ...shared,
  queue: 'check',
  payload: location,
  result: z.object({ promised: z.int() }),
  error: z.object({ code: z.literal('missing-files'), missing: z.array(z.string()) }),
  async run({ root, path }, ctx) {
    const folder = join(root, path)
    const promised = promisedFiles(await readManifest(folder))
    const found = await Promise.all(promised.map((file) => isThere(folder, file)))
    const missing = promised.filter((_, index) => !found[index])
    // The same files would be missing next time: a declared error, and no retry.
    if (missing.length > 0) return ctx.fail({ code: 'missing-files', missing }, { retry: false })
    return { promised: promised.length }
  },
})

/** Weighs a package, fingerprints it and finds its licence. */
export const auditPackage = defineJob({
  id: 'audit-package',
  ...shared,
  queue: 'audit',
  payload: location,
  result: z.object({
    ...contents,
    name: z.string(),
    version: z.string(),
    licence: z.string(),
    foundIn: z.string(),
  }),
  error: z.object({ ...contents, code: z.enum(['no-licence', 'unreadable-manifest']) }),
  async run({ root, path }, ctx) {
    const folder = join(root, path)
    const weight = await readContents(folder, ctx.signal)
    const manifest = await readManifest(folder).catch((): undefined => undefined)
    if (manifest === undefined) return ctx.fail({ code: 'unreadable-manifest', ...weight }, { retry: false })
    const found = await findLicence(folder, manifest)
    if (found === undefined) return ctx.fail({ code: 'no-licence', ...weight }, { retry: false })
    // Stored by the very call that finishes this task: a killed or failed audit leaves no check behind.
    ctx.enqueue(checkFiles, { root, path })
    return { ...weight, ...found, ...nameOf(manifest, path) }
  },
})

/** A task may enqueue 1,000 others: one of the places is for the scan of the rest. */
const packagesPerScan = 999

const scanPayload = z.object({ root: z.string(), from: z.int().default(0) })

/** Finds the installed packages and enqueues an audit of each. */
export const scan = defineJob({
  id: 'scan',
  ...shared,
  queue: 'scan',
  payload: scanPayload,
  result: z.object({ packages: z.int() }),
  async run({ root, from }, ctx) {
    const packages = await findPackages(root)
    for (const path of packages.slice(from, from + packagesPerScan)) ctx.enqueue(auditPackage, { root, path })
    if (packages.length > from + packagesPerScan) ctx.enqueue(scan, { root, from: from + packagesPerScan })
    return { packages: packages.length }
  },
})

export const jobs = [scan, auditPackage, checkFiles]

/** An audit a day, counted from the given instant (in whole seconds). */
export function dailyAudit(root: string, anchor: Date): Schedule<typeof scan> {
  return defineSchedule({ name: 'daily-audit', job: scan, payload: { root }, every: { days: 1 }, anchor })
}

function nameOf({ name, version }: Manifest, path: string): { name: string; version: string } {
  return { name: name ?? path, version: version ?? 'unknown' }
}
