// Faults of triggers, and tasks that are a fault by themselves.
import { message, type Inject, type Kind } from './kind.ts'

const troublemaker = (kind: string): Inject => message('clients', () => ({ troublemaker: kind }))

export const workKinds = {
  'trigger-twice': {
    weight: 5,
    what: 'a second invocation beside the first',
    inject: message('runners', () => ({ storm: 1 })),
  },
  'trigger-storm': {
    weight: 4,
    what: 'up to ten invocations at once in one process',
    inject: message('runners', (random) => ({ storm: random.between(4, 10) })),
  },
  'trigger-late': {
    weight: 3,
    what: 'no invocation for up to 3 s',
    inject: message('runners', (random) => ({ idle: random.between(500, 3000) })),
  },
  'schedulers-at-once': {
    weight: 4,
    what: 'four to eight ticks at once',
    inject: ({ clients }, random) => {
      clients.send({ ticks: random.between(2, 4) })
      return Promise.resolve(true)
    },
  },
  'unknown-job': {
    weight: 4,
    what: 'a task of a job that half of the runners, the older ones, do not know',
    inject: troublemaker('unknown-job'),
  },
  poison: {
    weight: 2,
    what: 'a task that kills its process each time',
    inject: troublemaker('poison'),
  },
  'unstorable-result': {
    weight: 4,
    what: 'cycles, bigints, symbols, results that are too large',
    inject: troublemaker('unstorable-result'),
  },
  'odd-text': {
    weight: 4,
    what: 'errors and results full of NULs and lone surrogates',
    inject: troublemaker('odd-text'),
  },
  'blocked-loop': {
    weight: 1,
    what: 'a handler blocks the event loop until its lease has ended',
    inject: troublemaker('blocked-loop'),
  },
  'ignored-signal': {
    weight: 2,
    what: 'a handler ignores its signal for longer than the grace time',
    inject: troublemaker('ignored-signal'),
  },
} as const satisfies Record<string, Kind>
