// How often and from where the tests of this folder draw, as CONTRIBUTING.md says.
import * as fc from 'fast-check'

const effort = Number(process.env['TEST_EFFORT'] ?? 1)
const seed = process.env['TEST_SEED']
const path = process.env['TEST_PATH']

/** Of a test that calls `follow` often. */
export const timeoutMs = 120_000 * effort

/** Draws sequences of up to so many commands, `runs` of them at an effort of 1, and lets each be followed. */
export async function followAll<Command>(
  command: fc.Arbitrary<Command>,
  { maxLength, runs }: { readonly maxLength: number; readonly runs: number },
  follow: (commands: readonly Command[]) => Promise<void>,
): Promise<void> {
  const sequence = fc.array(command, { minLength: 1, maxLength, size: 'max' })
  await fc.assert(fc.asyncProperty(sequence, follow), {
    numRuns: Math.ceil(runs * effort),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    ...(path === undefined ? {} : { path }),
  })
}
