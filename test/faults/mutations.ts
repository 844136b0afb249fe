// Ways to break the engine on purpose, each as one change of a text in the sources.
import type { KindName } from './kinds.ts'

export interface Mutation {
  readonly name: string
  readonly file: string
  /** However it is broken into lines. */
  readonly from: string
  /** How often it stands there. @default 1 */
  readonly times?: number
  readonly to: string
  /** What brings it to light soonest. @default every kind */
  readonly kinds?: readonly KindName[]
  /** The test that fails, for a break that no rule of the harness sees: the engine stays right but slow. */
  readonly test?: { readonly file: string; readonly name: string }
}

const enqueue = 'migrations/0003_create_enqueue.sql'
const turn = 'migrations/0004_create_turn.sql'
const lostAnswers = ['cut-after', 'cut-during', 'late-copy'] as const

export const mutations: readonly Mutation[] = [
  {
    name: 'settles-without-any-fence',
    file: turn,
    from: 't.lease = p_lease and t.claims = x.claims',
    times: 2,
    to: 'true',
    kinds: ['freeze-past-lease'],
  },
  {
    name: 'fence-without-lease',
    file: turn,
    from: 't.lease = p_lease and t.claims = x.claims',
    times: 2,
    to: 't.claims = x.claims',
    kinds: ['late-copy'],
  },
  {
    name: 'claims-what-is-leased',
    file: turn,
    from: 'v_now constant timestamptz not null := izta.now(); begin if exists (select from izta.task t where not t.ready',
    to: `v_now constant timestamptz not null := izta.now() + interval '3 seconds';
begin
  if exists (select from izta.task t where not t.ready`,
  },
  {
    name: 'leases-too-short',
    file: 'src/runner/deadline.ts',
    from: 'return Math.max(0, deadline.endsAtMs - clock.now()) + leaseMarginSeconds * 1000',
    to: 'return Math.max(0, deadline.endsAtMs - clock.now()) / 8',
  },
  {
    name: 'lock-of-claims-left-out',
    file: turn,
    from: 'perform izta.wait_in_line_1();',
    to: '',
    test: {
      file: 'test/store/claim.test.ts',
      name: 'a claim holds one of the eight locks for claims until it commits',
    },
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
    from: "attempt = t.attempt + (x.kind in ('retry', 'retry-after-lease'))::integer",
    to: 'attempt = t.attempt',
  },
  {
    name: 'no-cap-of-losses',
    file: 'src/runner/decide.ts',
    from: 'if (losses >= maxLosses)',
    to: 'if (losses >= 99)',
    kinds: ['poison', 'trigger-twice'],
  },
  {
    name: 'lost-tasks-run-beside-others',
    file: 'src/runner/decide.ts',
    from: "if (losses === 0) return { kind: 'run', job }",
    to: "if (losses < 3) return { kind: 'run', job }",
    kinds: ['kill-in-task', 'kill', 'poison'],
  },
  {
    name: 'settles-before-the-handler-ends',
    file: 'src/runner/attempt.ts',
    from: 'const returned: unknown = await job.run(checked.value, createContext(this))',
    to: 'const returned: unknown = job.run(checked.value, createContext(this)) && undefined',
  },
  {
    name: 'results-not-stored',
    file: turn,
    from: "case when kind = 'finish' and not is_tombstone then body::json end",
    to: 'null::json',
  },
  {
    name: 'children-of-unsettled-parents',
    file: turn,
    from: "array(select p_ids[s.n] from unnest(v_settled) s(n) where p_kinds[s.n] = 'finish')",
    to: 'p_ids',
    kinds: ['late-copy', 'cut-after'],
  },
  {
    name: 'children-before-the-settle',
    file: 'src/runner/attempt.ts',
    from: 'children.push(prepared)',
    to: `children.push(prepared)
      void import('../client/insert.ts').then(async ({ insertTraced }) => insertTraced(this.#options.config as never, [await prepared]))
`,
    kinds: ['kill-in-task', 'trigger-twice'],
  },
  {
    name: 'slots-without-compare-and-set',
    file: 'src/store/slots.ts',
    from: 'and g.was_made_until = s.made_until',
    to: '',
    kinds: ['schedulers-at-once', 'trigger-twice'],
  },
  {
    name: 'schedules-forgotten',
    file: 'src/store/slots.ts',
    from: 'or (plan_at <= izta.now() and',
    to: "or (plan_at <= izta.now() - interval '1 hour' and",
    kinds: ['schedulers-at-once', 'trigger-twice'],
  },
  {
    name: 'ended-tasks-not-looked-up',
    file: enqueue,
    from: 'select from izta.history o where o.id = i.id offset 0',
    to: 'select from izta.history o where false offset 0',
    kinds: ['cut-after', 'late-copy'],
  },
  {
    name: 'running-tasks-handed-back',
    file: 'src/runner/runner.ts',
    from: 'heldIds: () => [...this.#active.heldIds(), ...this.#keyedLane.ids(), ...this.#outbox.ids()],',
    to: 'heldIds: () => [],',
    kinds: lostAnswers,
  },
  {
    name: 'stuck-tasks-retried-at-once',
    file: 'src/runner/active.ts',
    from: "failed(task, job, timeoutFailure, 'retry-after-lease')",
    to: "failed(task, job, timeoutFailure, 'retry')",
    kinds: ['ignored-signal', 'trigger-twice'],
  },
  {
    name: 'failed-tasks-vanish',
    file: turn,
    from: "from gone) select coalesce(array_agg(n), '{}') into v_ended",
    to: "from gone where kind <> 'fail') select coalesce(array_agg(n), '{}') into v_ended",
    kinds: ['unstorable-result', 'trigger-twice'],
  },
  {
    name: 'expired-leases-count-as-running',
    file: enqueue,
    from: "when p_task.lease is not null and not p_task.ready and p_task.run_at > izta.now() then 'running'",
    to: "when p_task.lease is not null then 'running'",
    kinds: ['kill-in-task', 'freeze-past-lease'],
  },
]

/** The broken text. Throws when the places to break it are not there, or others too. */
export function mutate(text: string, { name, file, from, times = 1, to }: Mutation): string {
  const words = from.trim().split(/\s+/)
  const pattern = new RegExp(
    words.map((word) => word.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('\\s+'),
    'g',
  )
  const places = [...text.matchAll(pattern)].length
  if (places !== times) {
    throw new Error(`mutation ${name}: ${file} holds ${places} times, not ${times}: ${from}`)
  }
  return text.replace(pattern, () => to)
}
