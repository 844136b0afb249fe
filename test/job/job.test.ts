// Definitions of jobs: defaults, ranges, and errors a newcomer understands.
import { defineJob, implementJob, IztaError } from 'izta'
import { expect, test } from 'vitest'
import * as z from 'zod'
import { defaults } from '../../src/defaults.ts'

function refusalOf(define: () => unknown): IztaError {
  try {
    define()
  } catch (error) {
    if (IztaError.is(error)) return error
    throw error
  }
  throw new Error('was accepted')
}

test('a job without options has the defaults', () => {
  expect(defineJob({ id: 'a' })).toEqual({
    id: 'a',
    name: 'a',
    payload: undefined,
    result: undefined,
    error: undefined,
    queue: defaults.queue,
    priority: defaults.priority,
    maxAttempts: defaults.maxAttempts,
    maxLosses: 3,
    timeoutSeconds: defaults.timeoutSeconds,
    backoff: defaults.backoff,
    retention: { finished: 'all', finishedSeconds: 7 * 86_400, failedSeconds: 30 * 86_400 },
  })
})

test('options that are undefined count as left out', () => {
  const given = {
    name: undefined,
    queue: undefined,
    priority: undefined,
    maxAttempts: undefined,
    payload: undefined,
  }
  const more = {
    timeoutSeconds: undefined,
    backoff: { factor: undefined },
    retention: { finishedDays: undefined },
  }
  expect(defineJob({ id: 'a', ...given, ...more })).toEqual(defineJob({ id: 'a' }))
})

test('the id may be a UUID or a readable name, and the name is for people', () => {
  const job = defineJob({ id: '74f642fe-d07b-4ba9-a29f-a1be75dcb3b3', name: 'divide two numbers' })
  expect(job).toMatchObject({ id: '74f642fe-d07b-4ba9-a29f-a1be75dcb3b3', name: 'divide two numbers' })
})

test("retention finishedDays: 'none' keeps the bare row of finished tasks only", () => {
  const { retention } = defineJob({ id: 'a', retention: { finishedDays: 'none', failedDays: 0.5 } })
  expect(retention).toEqual({ finished: 'none', finishedSeconds: 0, failedSeconds: 43_200 })
})

const name = '1 to 100 of A–Z a–z 0–9 . _ : -'
test.for<[options: object, message: string]>([
  [{ id: 'two words' }, `Job "two words": option "id": expected ${name}; got "two words".`],
  [{ id: '' }, `Job "": option "id": expected ${name}; got "".`],
  [{}, `Job definition: option "id": expected ${name}; got undefined.`],
  [{ id: 'a', name: '' }, 'Job "a": option "name": expected 1 to 200 characters of text; got "".'],
  [{ id: 'a', queue: 'a b' }, `Job "a": option "queue": expected ${name}; got "a b".`],
  [{ id: 'a', queue: 'ä' }, `Job "a": option "queue": expected ${name}; got "ä".`],
  [{ id: 'a', queue: 7 }, `Job "a": option "queue": expected ${name}; got 7.`],
  [{ id: 'a', priority: 10 }, 'Job "a": option "priority": expected a whole number from 0 to 9; got 10.'],
  [{ id: 'a', priority: '5' }, 'Job "a": option "priority": expected a whole number from 0 to 9; got "5".'],
  [
    { id: 'a', maxAttempts: 0 },
    'Job "a": option "maxAttempts": expected a whole number from 1 to 32767; got 0.',
  ],
  [
    { id: 'a', timeoutSeconds: 0 },
    'Job "a": option "timeoutSeconds": expected a number from 1 to 86400; got 0.',
  ],
  [
    { id: 'a', timeoutSeconds: NaN },
    'Job "a": option "timeoutSeconds": expected a number from 1 to 86400; got NaN.',
  ],
  [
    { id: 'a', backoff: { factor: 0.5 } },
    'Job "a": option "backoff.factor": expected a number from 1 to 10; got 0.5.',
  ],
  [
    { id: 'a', backoff: { jitter: 'some' } },
    'Job "a": option "backoff.jitter": expected "full" or "none"; got "some".',
  ],
  [
    { id: 'a', backoff: 5 },
    'Job "a": option "backoff": expected an object with firstSeconds, factor, maxSeconds, jitter; got 5.',
  ],
  [
    { id: 'a', backoff: { max: 5 } },
    'Job "a": unknown option "backoff.max". Known: firstSeconds, factor, maxSeconds, jitter.',
  ],
  [
    { id: 'a', retention: { finishedDays: 'all' } },
    'Job "a": option "retention.finishedDays": expected a number from 0.001 to 36500, or \'none\'; got "all".',
  ],
  [
    { id: 'a', retention: { finishedDays: 0 } },
    'Job "a": option "retention.finishedDays": expected a number from 0.001 to 36500, or \'none\'; got 0.',
  ],
  [
    { id: 'a', retention: { finished: 'none' } },
    'Job "a": unknown option "retention.finished". Known: finishedDays, failedDays.',
  ],
  [
    { id: 'a', retention: { failedDays: -1 } },
    'Job "a": option "retention.failedDays": expected a number from 0 to 36500; got -1.',
  ],
  [
    { id: 'a', retries: 3 },
    'Job "a": unknown option "retries". Known: id, name, payload, result, error, queue, priority, maxAttempts, maxLosses, timeoutSeconds, backoff, retention, run.',
  ],
  [{ id: 'a', run: 'now' }, 'Job "a": option "run": expected a function; got "now".'],
  [
    { id: 'a', payload: { url: 'string' } },
    'Job "a": option "payload": expected a schema of zod, Valibot, ArkType or another library of https://standardschema.dev; got {"url":"string"}.',
  ],
  [
    { id: 'a', result: String },
    'Job "a": option "result": expected a schema of zod, Valibot, ArkType or another library of https://standardschema.dev; got a function.',
  ],
])('%o is refused where it is defined', ([options, message]) => {
  const error = refusalOf(() => defineJob(options as never))
  expect(error.message).toBe(message)
  expect(error).toMatchObject({ name: 'DefinitionError', code: 'invalid-definition', retryable: false })
})

test('what is no object at all is refused', () => {
  expect(refusalOf(() => defineJob(undefined as never)).message).toMatch(
    /^Job definition: expected an object with id, .*; got undefined\.$/,
  )
})

test('a definition is implemented without being changed', () => {
  const definition = defineJob({ id: 'a', payload: z.string(), queue: 'q' })
  const job = implementJob(definition, (text) => text)
  expect(definition).not.toHaveProperty('run')
  expect(job).toEqual({ ...definition, run: job.run })
})

test('an implementation needs a definition and a function', () => {
  expect(refusalOf(() => implementJob({ id: 'a' } as never, () => 1)).message).toBe(
    'implementJob: expected what defineJob returns; got {"id":"a"}.',
  )
  expect(refusalOf(() => implementJob(defineJob({ id: 'a' }), 'run' as never)).message).toBe(
    'Job "a": implementJob expects a function; got "run".',
  )
})
