// What becomes of a claimed task, for each state of the task and of the run.
import { createIzta, defineJob } from 'izta'
import { expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { decide, type Circumstances, type Decision } from '../../src/runner/decide.ts'
import type { ClaimedTask } from '../../src/store/turn.ts'
import { silentLog as log } from '../support/silent-log.ts'

const jobs = [
  defineJob({ id: 'here', timeoutSeconds: 100, run: () => {} }),
  defineJob({ id: 'fragile', maxLosses: 2, run: () => {} }),
  defineJob({ id: 'elsewhere' }),
  defineJob({ id: 'other', queue: 'other', timeoutSeconds: 100, run: () => {} }),
]
const config = configOf(createIzta({ database: { query: async () => [] }, jobs, log }))
const task = { id: 'id', job: 'here', queue: 'default', claims: 1, losses: 0, cancel: false } as ClaimedTask
const circumstances: Circumstances = { config, queues: ['default'], running: new Set(), leftMs: 50_000 }

const said = (decision: Decision) =>
  decision.kind === 'settle'
    ? [decision.ended.outcome.kind, decision.ended.failure?.code ?? decision.ended.reason]
    : [decision.kind]

test.each<[string, Partial<ClaimedTask>, Partial<Circumstances>, unknown[]]>([
  ['a task runs', {}, {}, ['run']],
  ['one that is to be cancelled is, whatever else', { cancel: true, losses: 3 }, {}, ['cancel', undefined]],
  ['one that was lost once runs with others that were', { losses: 1 }, {}, ['run-with-lost']],
  ['one that was lost twice runs alone', { losses: 2 }, {}, ['run-alone']],
  ['one that was lost three times has failed', { losses: 3 }, {}, ['drop', 'lost']],
  ['one that the next loss would fail runs alone', { job: 'fragile', losses: 1 }, {}, ['run-alone']],
  ['maxLosses of the job decides', { job: 'fragile', losses: 2 }, {}, ['drop', 'lost']],
  [
    'an unknown job is deferred',
    { job: 'unknown' },
    {},
    ['defer', expect.stringContaining('no handler for this job')],
  ],
  [
    'a job without a handler is deferred',
    { job: 'elsewhere' },
    {},
    ['defer', expect.stringContaining('no handler for this job')],
  ],
  [
    'one whose handler still runs here is deferred',
    {},
    { running: new Set(['id']) },
    ['defer', expect.stringContaining('still runs here')],
  ],
  ['of a job of another queue one that fits runs', { job: 'other' }, { leftMs: 100_000 }, ['run']],
  [
    'of a job of another queue one that does not fit is deferred',
    { job: 'other' },
    { leftMs: 99_999 },
    ['defer', expect.stringContaining('of another queue')],
  ],
  ['a runner of all queues knows no other queue', { job: 'other' }, { queues: [] }, ['run']],
  ['of its own queues every job fits, however late the answer came', {}, { leftMs: 1 }, ['run']],
])('%s', (_, taskPart, circumstancesPart, expected) => {
  const decision = decide({ ...task, ...taskPart }, { ...circumstances, ...circumstancesPart })
  expect(said(decision)).toEqual(expected)
})
