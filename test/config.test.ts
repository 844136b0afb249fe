// What createIzta takes, and how it refuses the rest.
import {
  createIzta,
  defineJob,
  defineSchedule,
  implementJob,
  IztaError,
  type Database,
  type IztaOptions,
} from 'izta'
import { afterEach, expect, test, vi } from 'vitest'
import manifest from '../package.json' with { type: 'json' }
import { checkNode, configOf } from '../src/config.ts'
import { defaults } from '../src/defaults.ts'

const database: Database = { query: async () => [] }
const divide = defineJob({ id: 'divide' })
const nightly = defineSchedule({ name: 'nightly', job: divide, cron: '@daily' })
const resolve = (options: Partial<IztaOptions> = {}) =>
  configOf(createIzta({ database, jobs: [divide], ...options }))

function refusalOf(options: object): IztaError {
  try {
    createIzta({ database, jobs: [], ...options })
  } catch (error) {
    if (IztaError.is(error)) return error
    throw error
  }
  throw new Error('was accepted')
}

afterEach(() => vi.unstubAllEnvs())

test('options left out, or undefined, have the defaults', () => {
  const none = { schema: undefined, app: undefined, wake: undefined, log: undefined, schedules: undefined }
  for (const options of [{}, none]) {
    expect(resolve(options)).toMatchObject({
      schema: defaults.schema,
      app: 'izta',
      deployedAt: undefined,
      payloadLimitBytes: defaults.payloadLimitBytes,
      resultLimitBytes: defaults.resultLimitBytes,
    })
  }
})

test('app and instant of the deployment come from the environment, unless they are given', () => {
  vi.stubEnv('IZTA_APP', 'shop')
  vi.stubEnv('IZTA_DEPLOYED_AT', '2026-11-24T10:00:00Z')
  expect(resolve()).toMatchObject({ app: 'shop', deployedAt: new Date('2026-11-24T10:00:00Z') })
  expect(resolve({ app: 'own', deployedAt: new Date(0) })).toMatchObject({
    app: 'own',
    deployedAt: new Date(0),
  })
})

test('an empty variable counts as unset, a wrong one is refused', () => {
  vi.stubEnv('IZTA_APP', '')
  vi.stubEnv('IZTA_DEPLOYED_AT', 'yesterday')
  expect(refusalOf({}).message).toBe(
    'IZTA_DEPLOYED_AT is "yesterday", which is no instant: use ISO 8601, for example 2026-11-24T10:00:00Z.',
  )
  vi.stubEnv('IZTA_DEPLOYED_AT', '')
  expect(resolve()).toMatchObject({ app: 'izta', deployedAt: undefined })
})

test.for<[options: object, message: string]>([
  [
    { database: undefined },
    'createIzta: option "database": expected a database adapter, such as pgDatabase(url) of izta/pg; got undefined.',
  ],
  [
    { database: 'postgres://me:hunter2@localhost/app' },
    'createIzta: option "database": expected a database adapter, such as pgDatabase(url) of izta/pg; got "postgres://***@localhost/app".',
  ],
  [{ jobs: undefined }, 'createIzta: option "jobs": expected an array of jobs; got undefined.'],
  [
    { jobs: [{ id: 'a' }] },
    'createIzta: option "jobs.0": expected what defineJob or implementJob returns; got {"id":"a"}.',
  ],
  [
    { jobs: [undefined] },
    'createIzta: option "jobs.0": expected what defineJob or implementJob returns (two files that import each other see undefined: define the job without run, and add the handler in a file of its own with implementJob); got undefined.',
  ],
  [
    { schedules: [{ name: 'a' }] },
    'createIzta: option "schedules.0": expected what defineSchedule returns; got {"name":"a"}.',
  ],
  [
    { schema: 'my jobs' },
    'createIzta: option "schema": expected 1 to 63 of A–Z a–z 0–9 _, starting neither with a digit nor with pg_, which Postgres reserves; got "my jobs".',
  ],
  [{ app: '' }, 'createIzta: option "app": expected 1 to 100 of A–Z a–z 0–9 . _ : -; got "".'],
  [
    { deployedAt: new Date(NaN) },
    'createIzta: option "deployedAt": expected a valid Date; got an invalid Date.',
  ],
  [
    { payloadLimitBytes: 0 },
    'createIzta: option "payloadLimitBytes": expected a whole number from 1 to 67108864; got 0.',
  ],
  [{ wake: {} }, 'createIzta: option "wake": expected an object with the method wake; got {}.'],
  [
    { log: { info() {} } },
    'createIzta: option "log": expected an object with the methods debug, info, warn and error; got {}.',
  ],
  [{ redact: /card/ }, 'createIzta: option "redact": expected a function from text to text; got {}.'],
  [
    { job: [] },
    'createIzta: unknown option "job". Known: database, jobs, schedules, schema, app, deployedAt, callTimeoutSeconds, payloadLimitBytes, resultLimitBytes, wake, log, logMessages, redact, tracing, clock.',
  ],
])('%o is refused', ([options, message]) => {
  const error = refusalOf(options)
  expect(error.message).toBe(message)
  expect(error).toMatchObject({ name: 'DefinitionError', code: 'invalid-definition' })
})

test.for(['pg_jobs', 'PG_jobs', '1st', 'a"b', 'a'.repeat(64)])('the schema name %s is refused', (schema) => {
  expect(refusalOf({ schema }).message).toContain('option "schema"')
})

test('two jobs with one id are refused, naming both', () => {
  const other = defineJob({ id: 'divide', name: 'halve' })
  expect(refusalOf({ jobs: [divide, other] }).message).toBe(
    'createIzta: jobs "divide" and "halve" both have the id "divide", so one would run the other\'s tasks: give one of them another id.',
  )
})

test('a definition and its implementation are one job, in either order', () => {
  const implemented = implementJob(divide, () => 1)
  expect(resolve({ jobs: [divide, implemented, divide] }).jobs.get('divide')).toBe(implemented)
  expect(resolve({ jobs: [implemented, divide] }).jobs.get('divide')).toBe(implemented)
  expect(refusalOf({ jobs: [implemented, implementJob(divide, () => 2)] }).message).toContain(
    'two jobs have the id "divide"',
  )
})

test('two schedules with one name are refused', () => {
  const other = defineSchedule({ name: 'nightly', job: divide, cron: '@hourly' })
  expect(refusalOf({ jobs: [divide], schedules: [nightly, other] }).message).toBe(
    'createIzta: two schedules have the name "nightly": give one of them another name.',
  )
  expect(resolve({ schedules: [nightly, nightly] }).schedules?.size).toBe(1)
})

test('the job of a schedule is known without being listed', () => {
  expect(resolve({ jobs: [], schedules: [nightly] }).jobs.get('divide')).toBe(divide)
})

test('what createIzta returns is needed where it is asked for', () => {
  expect(() => configOf({} as never)).toThrow('Expected what createIzta returns')
})

test('a Node.js that is too old is named, with the oldest that is not', () => {
  const oldest = manifest.engines.node.replace('>=', '')
  for (const version of [`${oldest}.0`, '22.30.1', '24.0.0', '100.0.0']) checkNode(version)
  for (const version of ['22.11.9', '20.20.2']) {
    expect(() => checkNode(version)).toThrow(`izta needs Node.js ${oldest} or newer and this is ${version}:`)
  }
})
