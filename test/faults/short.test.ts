import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import type { RunReport } from './run.ts'

/** A program of its own, since it changes the margins of the runner for its whole process. */
async function run(words: readonly string[]): Promise<RunReport> {
  const main = fileURLToPath(new URL('main.ts', import.meta.url))
  const child = spawn(process.execPath, [main, '--json', ...words], { stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  for await (const chunk of child.stdout) output += String(chunk)
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as RunReport
}

// Filling a disk takes a file system of its own, and root.
const words = ['--faults', '40', '--rate', '10', '--runners', '4', '--except', 'disk-full']

// What does not drain is only reported after two waits of a minute.
test('every invariant holds through a few dozen faults', { timeout: 240_000 }, async () => {
  const report = await run(words)
  expect(
    report.violations,
    `replay: npm run test:faults -- ${words.join(' ')} --seed ${report.seed}`,
  ).toEqual([])
  expect(report.figures['finished']).toBeGreaterThan(0)
})
