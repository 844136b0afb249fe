// Breaks the engine on purpose, in a copy of the sources, and sees that a run catches each break.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { mutate, mutations, type Mutation } from './mutations.ts'
import type { RunReport } from './run.ts'

const root = fileURLToPath(new URL('../../', import.meta.url))

export interface MutationOptions {
  readonly seed: number
  /** @default all of them */
  readonly names?: readonly string[] | undefined
  readonly log: (line: string) => void
}

export interface MutationResult {
  readonly name: string
  /** The first rule that was violated, or the test that failed; undefined: neither. */
  readonly caughtBy: string | undefined
  readonly afterSeconds: number
}

/** False when a break was not caught. */
export async function runMutations({ seed, names, log }: MutationOptions): Promise<MutationResult[]> {
  const results: MutationResult[] = []
  for (const mutation of mutations) {
    if (names !== undefined && !names.includes(mutation.name)) continue
    const result = await runOne(mutation, seed)
    log(
      `${result.caughtBy === undefined ? 'NOT CAUGHT' : 'caught'}: ${result.name}: ${result.caughtBy ?? ''} (${result.afterSeconds.toFixed(1)} s)`,
    )
    results.push(result)
  }
  return results
}

async function runOne(mutation: Mutation, seed: number): Promise<MutationResult> {
  const { name, file, kinds, test } = mutation
  const folder = await mkdtemp(join(tmpdir(), 'izta-mutation-'))
  try {
    for (const part of ['src', 'migrations', 'test', 'package.json', 'vitest.config.ts']) {
      await cp(join(root, part), join(folder, part), { recursive: true })
    }
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    const path = join(folder, file)
    await writeFile(path, mutate(await readFile(path, 'utf8'), mutation))
    if (test !== undefined) {
      const startedAtMs = performance.now()
      const caughtBy = (await fails(folder, test)) ? `${test.file}: ${test.name}` : undefined
      return { name, caughtBy, afterSeconds: (performance.now() - startedAtMs) / 1000 }
    }
    const words = ['--faults', '150', '--rate', '8', '--seed', `${seed}`, '--until-violation', '--json']
    if (kinds !== undefined) words.push('--kinds', kinds.join(','))
    const { violations, seconds } = await reportOf(join(folder, 'test/faults/main.ts'), words)
    return { name, caughtBy: violations[0]?.rule, afterSeconds: violations[0]?.afterSeconds ?? seconds }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** Whether the test runs in the folder and fails. */
async function fails(folder: string, { file, name }: NonNullable<Mutation['test']>): Promise<boolean> {
  const report = join(folder, 'tests.json')
  const words = ['run', file, '--testNamePattern', name, '--reporter=json', `--outputFile=${report}`]
  const vitest = join(folder, 'node_modules/vitest/vitest.mjs')
  const child = spawn(process.execPath, [vitest, ...words], { cwd: folder, stdio: 'ignore' })
  await once(child, 'exit')
  const { numFailedTests } = JSON.parse(await readFile(report, 'utf8')) as { numFailedTests: number }
  return numFailedTests > 0
}

async function reportOf(main: string, words: readonly string[]): Promise<RunReport> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of child.stdout) output += String(chunk)
  return JSON.parse(output.trim().split('\n').at(-1) ?? '{}') as RunReport
}
