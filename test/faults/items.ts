// What the clients enqueue: the mixture of a run, and tasks that are a fault by themselves.
import { randomBytes } from 'node:crypto'
import { uuidv7 } from 'uuidv7'
import type { EnqueueItem } from '../../src/index.ts'
import type { Jobs } from './jobs.ts'
import type { Random } from './random.ts'

export interface Items {
  anyItem(): EnqueueItem
  /** Takes a while, so that something can happen to it. */
  slowItem(): EnqueueItem
  troublemaker(kind: string): EnqueueItem
}

export function createItems(jobs: Jobs, random: Random): Items {
  const milliseconds = () => (random.chance(0.1) ? random.between(300, 800) : random.between(0, 120))

  /** Drawn by their shares. */
  const makers: readonly (readonly [share: number, make: () => EnqueueItem])[] = [
    [0.1, () => [jobs.flaky, { failures: random.between(1, 2) }]],
    [0.1, parent],
    [0.1, () => [jobs.bare, { ms: milliseconds() }]],
    [0.06, keyed],
    [0.04, () => [jobs.recent, { ms: milliseconds() }]],
    [0.6, work],
  ]

  function parent(): EnqueueItem {
    const payload = {
      children: random.between(1, 4),
      keyed: random.chance(0.3),
      failsFirst: random.chance(0.3),
      failsAlways: random.chance(0.2),
    }
    return [jobs.parent, payload]
  }
  function keyed(): EnqueueItem {
    const keyUntil = random.chance(0.5) ? 'started' : 'finished'
    return [jobs.keyed, { ms: milliseconds() }, { key: `key ${random.between(1, 8)}`, keyUntil }]
  }
  function work(): EnqueueItem {
    const when = random.chance(0.2) ? { delaySeconds: random.next() } : {}
    const id = random.chance(0.2) ? { id: uuidv7() } : {}
    return [jobs.work, { ms: milliseconds() }, { ...when, ...id, priority: random.between(0, 9) }]
  }

  const troublemakers: Readonly<Record<string, () => EnqueueItem>> = {
    poison: () => [jobs.poison, {}],
    'out-of-memory': () => [jobs.hungry, {}],
    'blocked-loop': () => [jobs.blocker, {}],
    'ignored-signal': () => [jobs.stubborn, {}],
    'unknown-job': () => [jobs.recent, { ms: 10 }],
    'odd-text': () => [
      jobs.odd,
      { text: ['\0', '\ud800', '"\\\u2028', '\u0000'.repeat(5000)][random.between(0, 3)] ?? '' },
    ],
    'unstorable-result': () => [jobs.unstorable, { kind: random.between(0, 4) }],
    bulky: () => [jobs.bulky, { ms: 10, bulk: randomBytes(random.between(1, 60_000)).toString('base64') }],
  }

  return {
    anyItem() {
      let left = random.next()
      const [, make] = makers.find(([share]) => (left -= share) < 0) ?? [0, work]
      return make()
    },
    slowItem: () => [jobs.work, { ms: random.between(300, 700) }],
    troublemaker(kind) {
      const make = troublemakers[kind]
      if (make === undefined) throw new TypeError(`no task is the fault "${kind}"`)
      return make()
    },
  }
}
