// How an attempt ends for everything that its handler may throw, whatever it was told before.
import { defineJob } from 'izta'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { Declared, endOf, type Interruption } from '../../src/runner/ending.ts'
import type { ClaimedTask } from '../../src/store/turn.ts'

const job = defineJob({ id: 'job', error: z.object({ code: z.literal('shortage') }), run: () => {} })
const task = { id: 'id', job: 'job', queue: 'default', attempt: 0, maxAttempts: 3, claims: 1 } as ClaimedTask
const thrown = new RangeError('out of range')
const declared = new Declared({ code: 'shortage' }, {})
const final = new Declared({ code: 'shortage' }, { retry: false })
const wrong = new Declared({ code: 'other' }, {})

test.each<[string, Partial<Interruption>, string, string | undefined]>([
  ['an error', {}, 'retry', 'thrown'],
  ['a declared error', { declared }, 'retry', 'declared'],
  ['a declared error that allows no retry', { declared: final }, 'fail', 'declared'],
  ['a declared error that its schema refuses', { declared: wrong }, 'retry', 'result-refused'],
  ['an error in the last attempt', { task: { ...task, attempt: 2 } }, 'fail', 'thrown'],
  ['anything after the timeout', { stopped: 'timeout' }, 'retry', 'timeout'],
  ['a declared error after the timeout', { stopped: 'timeout', declared }, 'retry', 'declared'],
  ['anything after a cancellation', { stopped: 'cancelled' }, 'cancel', undefined],
  ['a declared error after a cancellation', { stopped: 'cancelled', declared }, 'cancel', undefined],
  ['anything near the deadline', { stopped: 'deadline' }, 'release', undefined],
  ['a declared error near the deadline', { stopped: 'deadline', declared }, 'retry', 'declared'],
  ['anything while the runner stops', { stopped: 'stopping' }, 'release', undefined],
])('%s', async (_, interruption, kind, code) => {
  const ended = await endOf({
    task,
    job,
    thrown,
    stopped: undefined,
    declared: undefined,
    resultLimitBytes: 1000,
    ...interruption,
  })
  expect([ended.outcome.kind, ended.failure?.code]).toEqual([kind, code])
})
