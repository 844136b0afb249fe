// Faults of the processes that run tasks: they die, freeze, run out of memory, and are replaced by a deployment.
import { setTimeout as sleep } from 'node:timers/promises'
import type { ChildProcess } from 'node:child_process'
import { leaseMs } from '../pace.ts'
import type { Random } from '../random.ts'
import { message, type Kind, type Target } from './kind.ts'

const patienceMs = 5000

/** Tells a runner to do something to itself when its moment comes; true once it is about to. */
export function untilDone(child: ChildProcess | undefined, order: object): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => end(false), patienceMs)
    const end = (happened: boolean) => {
      clearTimeout(timer)
      child?.off('message', heard)
      child?.off('exit', gone)
      resolve(happened)
    }
    const heard = (word: { signal?: string }) => {
      if (word.signal !== undefined) end(true)
    }
    const gone = () => end(false)
    if (child?.connected !== true) return end(false)
    child.on('message', heard)
    child.on('exit', gone)
    child.send(order, () => undefined)
  })
}

async function freezeInTask({ runners }: Target, random: Random, ms: number): Promise<boolean> {
  const child = runners.any(random)
  if (child === undefined || !(await untilDone(child, { inTask: 'SIGSTOP' }))) return false
  runners.frozen.add(child)
  await sleep(ms)
  child.kill('SIGCONT')
  runners.frozen.delete(child)
  return true
}

export const processKinds = {
  kill: {
    weight: 4,
    what: 'SIGKILL of a process of runners, at any moment',
    inject: ({ runners }, random) => Promise.resolve(runners.any(random)?.kill('SIGKILL') ?? false),
  },
  'kill-at-statement': {
    weight: 4,
    what: 'SIGKILL just before a statement is sent, or just after its answer has come',
    inject: ({ runners }, random) =>
      untilDone(runners.any(random), { atStatement: random.chance(0.5) ? 'before' : 'after' }),
  },
  'kill-in-task': {
    weight: 3,
    what: 'SIGKILL while a handler runs',
    inject: ({ runners }, random) => untilDone(runners.any(random), { inTask: 'SIGKILL' }),
  },
  'out-of-memory': {
    weight: 1,
    what: 'a handler fills the memory until its process dies of it',
    inject: message('clients', () => ({ troublemaker: 'out-of-memory' })),
  },
  'freeze-past-lease': {
    weight: 4,
    atOnce: 2,
    what: 'SIGSTOP until every lease has ended, then SIGCONT',
    inject: (target, random) => freezeInTask(target, random, leaseMs + random.between(0, 1500)),
  },
  'freeze-briefly': {
    weight: 4,
    atOnce: 2,
    what: 'SIGSTOP for up to 2.5 s while a handler runs',
    inject: (target, random) => freezeInTask(target, random, random.between(100, 2500)),
  },
  deployment: {
    weight: 1,
    atOnce: 1,
    what: 'a process of runners ends in order, beside one of another version that takes its place',
    inject: ({ runners }, random) => Promise.resolve(runners.deploy(random)),
  },
} as const satisfies Record<string, Kind>
