// What the packaging checks before anything is made: parameters, names, and what a stack leaves out.
import { expect, test } from 'vitest'
import { problemsOf, warningsOf } from '../../infra/check-plugin.ts'

const secretArn = 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:app-AbCdEf'

const right = {
  service: 'izta',
  custom: {
    alarmTopics: ['arn:aws:sns:us-east-1:111122223333:ops'],
    parameters: {
      alarms: 'few',
      databaseSecret: '/izta/prod/database-url',
      databaseStore: 'parameter',
      lingerSeconds: 60,
      metrics: 'few',
      mode: 'steady',
      stage: 'prod',
      sweepRate: 'rate(6 hours)',
      tickRate: 'rate(1 minute)',
    },
  },
  functions: { runner: { name: 'izta-prod-runner' } },
}
type Changes = Partial<typeof right.custom.parameters>
const withParameters = (changes: Record<string, unknown>) => ({
  ...right,
  custom: { ...right.custom, parameters: { ...right.custom.parameters, ...(changes as Changes) } },
})

test('right parameters and names are no problem', () => {
  expect(problemsOf(right)).toEqual([])
  for (const changes of [
    { tickRate: 'rate(2 days)', sweepRate: '0' },
    { databaseStore: 'secret', databaseSecret: secretArn },
    { lingerSeconds: '0', mode: 'sleepy', alarms: 'none', metrics: 'all', sweepRate: 0 },
  ])
    expect(problemsOf(withParameters(changes))).toEqual([])
})

test.each([
  [{ tickRate: 'rate(1 minutes)' }, 'Parameter tickRate is "rate(1 minutes)": expected rate(1 minute)'],
  [{ tickRate: 'rate(5 minute)' }, 'tickRate'],
  [{ tickRate: 'rate(0 minutes)' }, 'tickRate'],
  [{ tickRate: 'rate(30 seconds)' }, 'tickRate'],
  [{ tickRate: '5m' }, 'tickRate'],
  [{ tickRate: 0 }, 'tickRate'],
  [{ sweepRate: 'never' }, 'Parameter sweepRate is "never": expected rate(1 minute)'],
  [{ mode: 'lazy' }, 'Parameter mode is "lazy": expected steady or sleepy.'],
  [{ alarms: 'some' }, 'Parameter alarms is "some": expected few or all or none.'],
  [{ metrics: true }, 'Parameter metrics is true'],
  [{ lingerSeconds: '1 m' }, 'Parameter lingerSeconds is "1 m": expected a number from 0 to 900.'],
  [{ lingerSeconds: 901 }, 'lingerSeconds'],
  [{ databaseStore: 'vault' }, 'databaseStore'],
  [{ databaseStore: 'secret', databaseSecret: 'app/database' }, 'it is the ARN of a secret'],
  [{ databaseSecret: secretArn }, 'it is the name of a parameter'],
  [{ databaseSecret: 'izta/url' }, 'from its first / on'],
  [{ stage: 'x'.repeat(60) }, 'has 71 letters, and AWS takes 64'],
])('a wrong parameter is told before anything is packaged: %j', (changes, message) => {
  const problems = problemsOf(withParameters(changes))
  expect(problems).toHaveLength(1)
  expect(problems[0]).toContain(message)
})

test('names of functions and topics that AWS refuses are told', () => {
  const functions = { long: { name: 'n'.repeat(65) }, strange: { name: 'a b' } }
  const custom = { ...right.custom, alarmTopics: ['ops'] }
  expect(problemsOf({ ...right, functions, custom })).toEqual([
    expect.stringContaining('alarmTopics has "ops": expected ARNs'),
    expect.stringContaining('has 65 letters'),
    expect.stringContaining('"a b" has letters that AWS refuses'),
  ])
})

test('alarms that tell nobody, or cannot be, are told when packaging', () => {
  expect(warningsOf(right)).toEqual([])
  const warnings = (changes: object) => warningsOf(withParameters({ ...changes }))
  expect(warningsOf({ ...right, custom: { ...right.custom, alarmTopics: [] } })).toEqual([
    expect.stringContaining('No alarm tells anybody: alarmTopics is empty'),
  ])
  expect(warnings({ mode: 'sleepy', sweepRate: 0 })).toEqual([
    expect.stringContaining('Nothing tells that sleepy mode has stopped'),
  ])
  expect(warnings({ metrics: 'none' })).toEqual([expect.stringContaining('those alarms read metrics')])
  expect(warnings({ tickRate: 'rate(7 days)' })).toEqual([expect.stringContaining('more than 3 days apart')])
  expect(warnings({ alarms: 'none', metrics: 'none' })).toEqual([])
})
