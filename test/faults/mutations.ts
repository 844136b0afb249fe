// Breaks the engine on purpose, in a copy of the sources, and sees that a run catches each break.
import { spawn } from 'node:child_process'
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { KindName } from './injector.ts'
import type { RunReport } from './run.ts'

interface Mutation {
  readonly name: string
  readonly file: string
  readonly from: string
  readonly to: string
  /** What brings it to light soonest. @default every kind */
  readonly kinds?: readonly KindName[]
}

const turn = 'migrations/0003_create_turn.sql'
const lostAnswers = ['cut-after', 'cut-during', 'late-copy'] as const

export const mutations: readonly Mutation[] = [
  {
    name: 'settles-without-any-fence',
    file: turn,
    from: 'where t.lease = p_lease and t.claims = i.claims',
    to: 'where true',
    kinds: ['freeze-past-lease', 'trigger-twice'],
  },
  {
    name: 'fence-without-claims',
    file: turn,
    from: 'where t.lease = p_lease and t.claims = i.claims',
    to: 'where t.lease = p_lease',
    kinds: ['late-copy'],
  },
  {
    name: 'fence-without-lease',
    file: turn,
    from: 'where t.lease = p_lease and t.claims = i.claims',
    to: 'where t.claims = i.claims',
    kinds: ['late-copy'],
  },
  {
    name: 'claims-without-row-locks',
    file: turn,
    from: 'for no key update of t skip locked) x',
    to: ') x',
  },
  {
    name: 'leases-too-short',
    file: 'src/runner/deadline.ts',
    from: 'return Math.max(0, deadline.endsAtMs - clock.now()) + leaseMarginSeconds * 1000',
    to: 'return Math.max(0, deadline.endsAtMs - clock.now()) / 8',
  },
  {
    name: 'losses-not-counted',
    file: turn,
    from: 'losses = least(t.losses + (t.lease is not null)::integer, 32767)',
    to: 'losses = t.losses',
    kinds: ['kill-in-task', 'kill'],
  },
  {
    name: 'attempts-not-counted',
    file: turn,
    from: "attempt = t.attempt + (i.kind in ('retry', 'retry-after-lease'))::integer",
    to: 'attempt = t.attempt',
  },
  {
    name: 'no-cap-of-losses',
    file: 'src/runner/admit.ts',
    from: 'task.losses >= (job?.maxLosses ?? defaults.maxLosses)',
    to: 'task.losses >= 99',
    kinds: ['poison', 'trigger-twice'],
  },
  {
    name: 'lost-tasks-run-beside-others',
    file: 'src/runner/admit.ts',
    from: "task.losses > 0 ? 'run-alone' : 'run'",
    to: "'run'",
    kinds: ['kill-in-task', 'kill', 'poison'],
  },
  {
    name: 'results-not-stored',
    file: turn,
    from: "case when kind = 'finish' and not bare then body::json end",
    to: 'null::json',
  },
  {
    name: 'children-of-unsettled-parents',
    file: turn,
    from: '        where v_finished[c.parent]\n        -- One order',
    to: '        where true\n        -- One order',
    kinds: ['late-copy', 'cut-after'],
  },
  {
    name: 'children-before-the-settle',
    file: 'src/runner/execute.ts',
    from: '      children.push(prepared)\n',
    to: `      children.push(prepared)
      void import('../client/enqueue.ts').then(async ({ insertTasks }) => insertTasks(options as never, [await prepared]))
`,
    kinds: ['kill-in-task', 'trigger-twice'],
  },
  {
    name: 'slots-without-compare-and-set',
    file: 'src/store/slots.ts',
    from: ' and g.was_made_until = s.made_until',
    to: '',
    kinds: ['schedulers-at-once', 'trigger-twice'],
  },
  {
    name: 'repeats-do-not-look-in-history',
    file: 'src/client/enqueue.ts',
    from: 'enqueueStatement(sent, true)',
    to: 'enqueueStatement(sent, false)',
    kinds: ['cut-after'],
  },
  {
    name: 'running-tasks-handed-back',
    file: 'src/runner/runner.ts',
    from: 'known: () => [...hand.known(), ...apart, ...outbox.ids()],',
    to: 'known: () => [],',
    kinds: lostAnswers,
  },
  {
    name: 'stuck-tasks-retried-at-once',
    file: 'src/runner/hand.ts',
    from: 'failed(task, job, timeoutFailure, leaseMs(clock, deadline))',
    to: 'failed(task, job, timeoutFailure, leaseMs(clock, deadline) && 0)',
    kinds: ['ignored-signal', 'trigger-twice'],
  },
  {
    name: 'failed-tasks-vanish',
    file: turn,
    from: '    from gone\n    on conflict',
    to: "    from gone where kind <> 'fail'\n    on conflict",
    kinds: ['unstorable-result', 'trigger-twice'],
  },
]

const root = fileURLToPath(new URL('../../', import.meta.url))

export interface MutationOptions {
  readonly seed: number
  /** @default all of them */
  readonly names?: readonly string[] | undefined
  readonly log: (line: string) => void
}

export interface MutationResult {
  readonly name: string
  /** The first rule that was violated; undefined: nobody noticed. */
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

async function runOne({ name, file, from, to, kinds }: Mutation, seed: number): Promise<MutationResult> {
  const folder = await mkdtemp(join(tmpdir(), 'izta-mutation-'))
  try {
    for (const part of ['src', 'migrations', 'test/faults', 'package.json']) {
      await cp(join(root, part), join(folder, part), { recursive: true })
    }
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
    const path = join(folder, file)
    const text = await readFile(path, 'utf8')
    if (text.split(from).length !== 2)
      throw new Error(`mutation ${name}: ${file} does not hold this once: ${from}`)
    await writeFile(
      path,
      text.replace(from, () => to),
    )
    const words = ['--faults', '150', '--rate', '8', '--seed', `${seed}`, '--until-violation', '--json']
    if (kinds !== undefined) words.push('--kinds', kinds.join(','))
    const { violations, seconds } = await reportOf(join(folder, 'test/faults/main.ts'), words)
    return { name, caughtBy: violations[0]?.rule, afterSeconds: violations[0]?.afterSeconds ?? seconds }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function reportOf(main: string, words: readonly string[]): Promise<RunReport> {
  const child = spawn(process.execPath, [main, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  for await (const chunk of child.stdout) output += String(chunk)
  return JSON.parse(output.trim().split('\n').at(-1) ?? '{}') as RunReport
}
