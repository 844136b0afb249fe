// The osls plugin that checks parameters and names before anything is packaged, and says what the stack leaves out.
import rates from './rates.cjs'

type Values = Readonly<Record<string, unknown>>

interface Serverless {
  readonly service: {
    readonly service: string
    readonly custom: { readonly parameters: Values; readonly alarmTopics: readonly string[] }
    readonly functions: Readonly<Record<string, { readonly name: string }>>
  }
  readonly classes: { readonly Error: new (message: string, code: string) => Error }
}

interface Utils {
  readonly log: { warning(text: string): void }
}

const secretArn = /^arn:aws[\w-]*:secretsmanager:[\w-]+:\d{12}:secret:[\w/+=.@-]+$/
const topicArn = /^arn:aws[\w-]*:sns:[\w-]+:\d{12}:[\w-]+(\.fifo)?$/
const rate = 'rate(1 minute), rate(5 minutes), rate(1 hour) and the like, with a plural for more than one'

/** As in infra/alarms.cjs. */
const slowestSeconds = 3 * 86_400

const isRate = (value: unknown) => rates.rateSeconds(value) !== undefined
const oneOf = (...values: string[]) =>
  [(value: unknown) => values.includes(String(value)), values.join(' or ')] as const

/** Of each parameter: whether a value is right, and the right ones in words. */
const parameters: Readonly<
  Record<string, readonly [isRight: (value: unknown) => boolean, expected: string]>
> = {
  alarms: oneOf('few', 'all', 'none'),
  metrics: oneOf('few', 'all', 'none'),
  mode: oneOf('steady', 'sleepy'),
  databaseStore: oneOf('parameter', 'secret'),
  tickRate: [isRate, rate],
  sweepRate: [(value) => String(value) === '0' || isRate(value), `${rate}; or 0 for none`],
  lingerSeconds: [
    (value) => String(value).trim() !== '' && Number(value) >= 0 && Number(value) <= 900,
    'a number from 0 to 900',
  ],
}

/** Everything that is wrong, one line each. */
export function problemsOf({ service, custom, functions }: Serverless['service']): string[] {
  const given = custom.parameters
  const wrong = Object.entries(parameters).flatMap(([name, [isRight, expected]]) =>
    isRight(given[name])
      ? []
      : [`Parameter ${name} is ${JSON.stringify(given[name])}: expected ${expected}.`],
  )
  const secret = String(given['databaseSecret'])
  if (given['databaseStore'] === 'secret' && !secretArn.test(secret)) {
    wrong.push(
      `Parameter databaseSecret is "${secret}": with databaseStore: secret it is the ARN of a secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME.`,
    )
  }
  if (given['databaseStore'] === 'parameter' && !/^\/[\w./-]+$/.test(secret)) {
    wrong.push(
      `Parameter databaseSecret is "${secret}": with databaseStore: parameter it is the name of a parameter, from its first / on.`,
    )
  }
  for (const topic of custom.alarmTopics) {
    if (!topicArn.test(topic)) {
      wrong.push(`Parameter alarmTopics has "${topic}": expected ARNs, arn:aws:sns:REGION:ACCOUNT:NAME.`)
    }
  }
  const names = [
    ...Object.values(functions).map(({ name }) => name),
    `${service}-${String(given['stage'])}-sweep`,
  ]
  for (const name of names) {
    if (name.length > 64) {
      wrong.push(
        `The name "${name}" has ${name.length} letters, and AWS takes 64: shorten the service, the stage or the end.`,
      )
    } else if (!/^[\w-]+$/.test(name)) {
      wrong.push(`The name "${name}" has letters that AWS refuses: use A–Z a–z 0–9 _ and -.`)
    }
  }
  return wrong
}

/** What is left out on purpose, and may surprise. */
export function warningsOf({ custom }: Serverless['service']): string[] {
  const { alarms, metrics, mode, sweepRate, tickRate } = custom.parameters
  if (alarms === 'none') return []
  const warnings = []
  if (custom.alarmTopics.length === 0) {
    warnings.push(
      'No alarm tells anybody: alarmTopics is empty, so alarms only show in CloudWatch. Give the ARN of an SNS topic.',
    )
  }
  if (metrics === 'none') {
    warnings.push(
      'Nothing tells that ticks stop or tasks wait: those alarms read metrics, and metrics is none.',
    )
  } else if (mode === 'sleepy' && String(sweepRate) === '0') {
    warnings.push('Nothing tells that sleepy mode has stopped: without a sweep nothing comes regularly.')
  } else if ((rates.rateSeconds(mode === 'sleepy' ? sweepRate : tickRate) ?? 0) > slowestSeconds) {
    warnings.push(
      'Nothing tells that ticks stop: CloudWatch cannot wait for ones that are more than 3 days apart.',
    )
  }
  return warnings
}

// oxlint-disable-next-line import/no-default-export -- what osls looks for
export default class CheckPlugin {
  readonly hooks: Readonly<Record<string, () => void>>

  constructor({ service, classes }: Serverless, _options: unknown, { log }: Utils) {
    this.hooks = {
      'before:package:initialize': () => {
        const problems = problemsOf(service)
        if (problems.length > 0) throw new classes.Error(problems.join('\n'), 'IZTA_PARAMETERS')
        for (const warning of warningsOf(service)) log.warning(warning)
      },
    }
  }
}
