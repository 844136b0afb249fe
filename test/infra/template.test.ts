// The packaged CloudFormation template: least privilege, no secret in it, and what each function must have.
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, expect, test } from 'vitest'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const run = promisify(execFile)

// In a folder of its own, so that no deployment from this one is disturbed.
await mkdir(join(repository, '.izta'), { recursive: true })
const service = await mkdtemp(join(repository, '.izta/template-'))
afterAll(() => rm(service, { recursive: true, force: true }))
const parts = ['functions', 'infra', 'src', 'serverless.yml']
await Promise.all(parts.map((part) => cp(join(repository, part), join(service, part), { recursive: true })))

interface Resource {
  readonly Type: string
  readonly Properties: Readonly<Record<string, unknown>>
}

/** As `npx serverless package` does it in a clean clone, without credentials. */
async function packageStage(stage: string, ...parameters: string[]): Promise<Record<string, Resource>> {
  const words = ['package', '--stage', stage, ...parameters.flatMap((parameter) => ['--param', parameter])]
  const env = { PATH: `${join(process.execPath, '..')}:/usr/bin:/bin`, HOME: service }
  await run(join(repository, 'node_modules/.bin/serverless'), words, { cwd: service, env })
  const text = await readFile(join(service, '.serverless/cloudformation-template-update-stack.json'), 'utf8')
  return (JSON.parse(text) as { Resources: Record<string, Resource> }).Resources
}

const secretArn = 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:app-AbCdEf'
const prod = await packageStage('prod')
const sleepy = await packageStage('prod', 'mode=sleepy')
const withoutSweep = await packageStage('prod', 'mode=sleepy', 'sweepRate=0')
const topics = ['arn:aws:sns:us-east-1:111122223333:ops', 'arn:aws:sns:us-east-1:111122223333:pager']
const rds = await packageStage(
  'prod',
  'databaseAdapter=rds',
  `alarmTopics=${topics.join()}`,
  'maxRunners=5',
  'alarms=all',
  'metrics=all',
  'tickRate=rate(30 minutes)',
)
const silent = await packageStage('prod', 'alarms=none', 'metrics=none', 'deployedAt=2026-11-24T10:00:00Z')
const again = await packageStage('prod')
const dev = await packageStage(
  'dev',
  'databaseStore=secret',
  `databaseSecret=${secretArn}`,
  'databaseAdapter=neon',
)

interface Statement {
  readonly Effect: string
  readonly Action: string | readonly string[]
  readonly Resource?: unknown
}

const ofType = (template: Record<string, Resource>, type: string) =>
  Object.entries(template).filter(([, resource]) => resource.Type === type)

/** Every statement of every policy that grants something. */
function grants(template: Record<string, Resource>): Statement[] {
  return Object.values(template)
    .flatMap(({ Properties }) => statementsIn(Properties))
    .filter(({ Effect }) => Effect === 'Allow')
}

function statementsIn(value: unknown): Statement[] {
  if (typeof value !== 'object' || value === null) return []
  const own = 'Effect' in value && 'Action' in value ? [value as Statement] : []
  return [...own, ...Object.values(value).flatMap(statementsIn)]
}

/** `lambda:InvokeFunction izta-prod-runner`, one line a pair; literal ARNs by their last part. */
function abilities(template: Record<string, Resource>, role: string): string[] {
  return grants({ role: template[role] as Resource })
    .filter((statement) => statement.Resource !== undefined)
    .flatMap(({ Action, Resource }) =>
      [Action]
        .flat()
        .flatMap((action) => [Resource].flat().map((resource) => `${action} ${shown(resource)}`)),
    )
}

function shown(resource: unknown): string {
  if (typeof resource === 'string') return resource
  const { 'Fn::GetAtt': attribute, 'Fn::Sub': text } = resource as Record<string, unknown>
  return Array.isArray(attribute) ? attribute.join('.') : String(text).replace(/^.*\{AWS::AccountId\}:/, '')
}

/** Alarms are named by their minutes: the one place where a resource is a pattern. */
const alarmNames = 'schedule/izta-prod/alarm-*'

for (const [name, template] of Object.entries({ prod, dev, sleepy })) {
  const stage = template === dev ? 'dev' : 'prod'

  test(`${name}: no policy grants all actions or all resources`, () => {
    const statements = grants(template)
    expect(statements.length).toBeGreaterThan(10)
    for (const statement of statements) {
      expect(JSON.stringify(statement.Action)).not.toContain('*')
      if (template === sleepy && statement.Action === 'scheduler:CreateSchedule')
        expect(shown(statement.Resource)).toBe(alarmNames)
      else expect(JSON.stringify(statement.Resource ?? '')).not.toMatch(/[*?]/)
      expect(statement).not.toHaveProperty('NotAction')
      expect(statement).not.toHaveProperty('NotResource')
    }
  })

  test(`${name}: each function has a role of its own, which only Lambda may take`, () => {
    const functions = ofType(template, 'AWS::Lambda::Function')
    const roles = functions.map(([, { Properties }]) => shown(Properties['Role']).replace(/\.Arn$/, ''))
    expect(functions).toHaveLength(4)
    expect(new Set(roles).size).toBe(4)
    for (const role of roles) {
      const [trust, ...others] = statementsIn(template[role]?.Properties['AssumeRolePolicyDocument'])
      expect([trust, others]).toMatchObject([{ Principal: { Service: 'lambda.amazonaws.com' } }, []])
      expect(template[role]?.Properties).not.toHaveProperty('ManagedPolicyArns')
    }
  })

  test(`${name}: nothing in the template is a connection string or a resolved secret`, () => {
    const text = JSON.stringify(template)
    expect(text).not.toMatch(/postgres(ql)?:\/\//)
    expect(text).not.toContain('{{resolve:')
    for (const [, { Properties }] of ofType(template, 'AWS::Lambda::Function')) {
      const { Variables } = Properties['Environment'] as { Variables: Record<string, unknown> }
      expect(Object.keys(Variables).filter((key) => /URL|PASSWORD|TOKEN|KEY/.test(key))).toEqual([])
    }
  })

  test(`${name}: functions run on Node 24 and arm64, and their logs end`, () => {
    for (const [id, { Properties }] of ofType(template, 'AWS::Lambda::Function')) {
      expect(Properties).toMatchObject({ Runtime: 'nodejs24.x', Architectures: ['arm64'] })
      const logs = template[id.replace('LambdaFunction', 'LogGroup')]
      expect(logs?.Properties['RetentionInDays']).toBe(stage === 'prod' ? 90 : 14)
    }
  })

  test(`${name}: the enqueue function is called with a signature or not at all`, () => {
    const urls = ofType(template, 'AWS::Lambda::Url').map(([, { Properties }]) => Properties['AuthType'])
    expect(urls).toEqual(['AWS_IAM'])
    expect(ofType(template, 'AWS::Lambda::Permission')).toEqual([])
  })

  test(`${name}: alarms look at the metrics that the scheduler writes`, () => {
    const alarms = ofType(template, 'AWS::CloudWatch::Alarm').map(([, { Properties }]) => Properties)
    const own = alarms.filter(({ Namespace }) => Namespace === 'izta')
    const dimensions = [
      { Name: 'service', Value: 'izta' },
      { Name: 'function', Value: `izta-${stage}-scheduler` },
    ]
    expect(new Set(own.map(({ MetricName }) => MetricName))).toEqual(
      new Set(['AllOldestDueAge', 'Ticks', ...(template === rds ? ['QueuesWithoutRunner'] : [])]),
    )
    for (const { Dimensions } of own) expect(Dimensions).toEqual(dimensions)
    const ticks = own.filter(({ MetricName }) => MetricName === 'Ticks')
    expect(ticks.every(({ TreatMissingData }) => TreatMissingData === 'breaching')).toBe(true)
  })
}

/** A variable of the scheduler's environment. */
function variable(template: Record<string, Resource>, name: string): string {
  const { Environment } = template['SchedulerLambdaFunction']?.Properties ?? {}
  return (Environment as { Variables: Record<string, string> }).Variables[name] ?? ''
}

const above = 'GreaterThanOrEqualToThreshold'

/** `izta-prod-ticks`: `Ticks LessThanThreshold 1 in 900 s`, of every alarm. */
const alarmsOf = (template: Record<string, Resource>) =>
  Object.fromEntries(
    ofType(template, 'AWS::CloudWatch::Alarm').map(([, { Properties }]) => [
      Properties['AlarmName'],
      `${String(Properties['MetricName'])} ${String(Properties['ComparisonOperator'])} ${String(Properties['Threshold'])} in ${Number(Properties['EvaluationPeriods'])} × ${String(Properties['Period'])} s`,
    ]),
  )

/** What should wake somebody. */
const few = (stack: string, ticksSeconds: number) => ({
  [`${stack}-enqueue-dead-letters`]: `ApproximateNumberOfMessagesVisible ${above} 1 in 1 × 300 s`,
  [`${stack}-dead-letters`]: `NumberOfMessagesSent ${above} 1 in 1 × 300 s`,
  [`${stack}-runner-errors`]: `Errors ${above} 1 in 1 × 300 s`,
  [`${stack}-feeds-runner-errors`]: `Errors ${above} 1 in 1 × 300 s`,
  [`${stack}-scheduler-oldest-due`]: `AllOldestDueAge ${above} 900 in 1 × 300 s`,
  [`${stack}-ticks`]: `Ticks LessThanThreshold 1 in 1 × ${ticksSeconds} s`,
})

test('few alarms: what should wake somebody, in steady mode and when sleepy mode stops', () => {
  expect(alarmsOf(prod)).toEqual(few('izta-prod', 900))
  expect(alarmsOf(dev)).toEqual(few('izta-dev', 900))
  expect(alarmsOf(sleepy)).toEqual(few('izta-prod', 15 * 3600))
  // Without a sweep nothing comes regularly.
  const { 'izta-prod-ticks': _, ...others } = few('izta-prod', 0)
  expect(alarmsOf(withoutSweep)).toEqual(others)
})

const timeouts = { enqueue: 30, runner: 300, 'feeds-runner': 120, scheduler: 60 }

test('all alarms, with periods that slow ticks keep', () => {
  const ofFunctions = Object.entries(timeouts).flatMap(([key, seconds]) => [
    [`izta-prod-${key}-errors`, `Errors ${above} 1 in 1 × 300 s`],
    [`izta-prod-${key}-throttles`, `Throttles ${above} 1 in 3 × 300 s`],
    [`izta-prod-${key}-duration`, `Duration ${above} ${(seconds - 1) * 1000} in 1 × 300 s`],
  ])
  expect(alarmsOf(rds)).toEqual({
    ...few('izta-prod', 7200),
    ...Object.fromEntries(ofFunctions),
    'izta-prod-scheduler-oldest-due': `AllOldestDueAge ${above} 2700 in 1 × 1800 s`,
    'izta-prod-scheduler-queues-without-runner': `QueuesWithoutRunner ${above} 1 in 3 × 1800 s`,
  })
  for (const [, { Properties }] of ofType(rds, 'AWS::Lambda::Function'))
    expect(Properties['Timeout']).toBe(
      timeouts[String(Properties['FunctionName']).replace('izta-prod-', '') as keyof typeof timeouts],
    )
})

test('no alarms and no metrics where none are wanted', () => {
  expect(alarmsOf(silent)).toEqual({})
  expect([variable(silent, 'IZTA_METRICS'), variable(prod, 'IZTA_METRICS')]).toEqual(['none', 'few'])
})

test('an alarm looks at periods that CloudWatch takes', () => {
  for (const template of [prod, sleepy, rds]) {
    for (const [, { Properties }] of ofType(template, 'AWS::CloudWatch::Alarm')) {
      const [period, count] = [Number(Properties['Period']), Number(Properties['EvaluationPeriods'])]
      expect(period % 60).toBe(0)
      expect(period * count).toBeLessThanOrEqual(period >= 3600 ? 604_800 : 86_400)
    }
  }
})

test('a template does not change when nothing has changed', () => {
  // Where the bundles are stored says when they were packaged.
  const text = (template: Record<string, Resource>) =>
    JSON.stringify(template).replaceAll(/"S3Key":"[^"]*"/g, '')
  expect(text(again)).toBe(text(prod))
  expect(new Date(variable(prod, 'IZTA_DEPLOYED_AT')).getTime()).toBeLessThanOrEqual(Date.now())
  expect(variable(silent, 'IZTA_DEPLOYED_AT')).toBe('2026-11-24T10:00:00Z')
})

test('a package with wrong parameters is refused with all that is wrong, and nothing is made', async () => {
  const refused = packageStage('prod', 'tickRate=rate(2 minute)', 'databaseStore=secret')
  const { stdout, stderr } = await refused.then(
    () => expect.fail('it was packaged'),
    (error: unknown) => error as { stdout: string; stderr: string },
  )
  expect(stdout + stderr).toContain('Parameter tickRate is "rate(2 minute)"')
  expect(stdout + stderr).toContain('Parameter databaseSecret is "/izta/prod/database-url"')
  expect(stdout + stderr).not.toContain('check-plugin.ts')
}, 60_000)

for (const [name, template] of Object.entries({ prod, dev, sleepy })) {
  test(`${name}: nothing is made beside functions, triggers, roles, logs, alarms and dead letters`, () => {
    const types = Map.groupBy(Object.values(template), ({ Type }) => Type)
    const counts = Object.fromEntries([...types].map(([type, found]) => [type, found.length]))
    expect(counts).toEqual({
      'AWS::Lambda::Function': 4,
      'AWS::Lambda::EventInvokeConfig': 4,
      'AWS::Lambda::Url': 1,
      'AWS::Scheduler::ScheduleGroup': 1,
      'AWS::Scheduler::Schedule': 1,
      'AWS::IAM::Role': 5,
      ...(template === sleepy ? { 'AWS::IAM::Policy': 2 } : {}),
      'AWS::Logs::LogGroup': 4,
      'AWS::CloudWatch::Alarm': 6,
      'AWS::SQS::Queue': 2,
      // Where osls puts the bundles.
      'AWS::S3::Bucket': 1,
      'AWS::S3::BucketPolicy': 1,
    })
  })
}

test('every alarm tells all topics, when it begins and when it ends', () => {
  const alarms = ofType(rds, 'AWS::CloudWatch::Alarm')
  expect(alarms).toHaveLength(17)
  for (const [, { Properties }] of alarms)
    expect(Properties).toMatchObject({ AlarmActions: topics, OKActions: topics })
  expect(prod['TickAlarm']?.Properties).toMatchObject({ AlarmActions: [], OKActions: [] })
})

/** Of asynchronous invocations: retries and seconds; what fails at last is kept in the queue. */
function retriesOf(template: Record<string, Resource>, functionId: string, queue?: string): unknown[] {
  const { Properties } = template[`${functionId}LambdaEvConf`] as Resource
  // Refused wakes of a full runner would fill a queue.
  const kept = { OnFailure: { Destination: { 'Fn::GetAtt': [queue, 'Arn'] } } }
  expect(Properties['DestinationConfig']).toEqual(queue === undefined ? {} : kept)
  return [Properties['MaximumRetryAttempts'], Properties['MaximumEventAgeInSeconds']]
}

for (const [name, template] of Object.entries({ prod, dev })) {
  test(`${name}: what was not enqueued is repeated for long, and kept in a queue of its own`, () => {
    expect(retriesOf(template, 'Enqueue', 'EnqueueDeadLetterQueue')).toEqual([2, 21_600])
  })

  test(`${name}: failed ticks and wakes are not repeated; ticks are kept, wakes are not`, () => {
    for (const id of ['Runner', 'FeedsRunner']) expect(retriesOf(template, id)).toEqual([0, 60])
    expect(retriesOf(template, 'Scheduler', 'DeadLetterQueue')).toEqual([0, 60])
    expect(template['TickSchedule']?.Properties).toMatchObject({
      ScheduleExpression: name === 'prod' ? 'rate(1 minute)' : 'rate(5 minutes)',
      Target: {
        RetryPolicy: { MaximumRetryAttempts: 0, MaximumEventAgeInSeconds: 60 },
        DeadLetterConfig: { Arn: { 'Fn::GetAtt': ['DeadLetterQueue', 'Arn'] } },
      },
    })
    expect(ofType(template, 'AWS::Events::Rule')).toEqual([])
  })
}

test('sleepy: nothing ticks but the sweep, and an invocation that dies is repeated', () => {
  const rates = (template: Record<string, Resource>) =>
    ofType(template, 'AWS::Scheduler::Schedule').map(([, { Properties }]) => Properties['ScheduleExpression'])
  expect([rates(prod), rates(sleepy), rates(withoutSweep)]).toEqual([
    ['rate(1 minute)'],
    ['rate(6 hours)'],
    [],
  ])
  expect(retriesOf(sleepy, 'Runner')).toEqual([1, 3600])
  expect(retriesOf(sleepy, 'FeedsRunner')).toEqual([1, 3600])
  expect(retriesOf(sleepy, 'Scheduler', 'DeadLetterQueue')).toEqual([2, 3600])
  expect(sleepy['SweepSchedule']?.Properties).toMatchObject({
    Target: { DeadLetterConfig: { Arn: { 'Fn::GetAtt': ['DeadLetterQueue', 'Arn'] } } },
  })
})

test('sleepy: runners and scheduler may set alarms in the own group, who enqueues may wake the scheduler', () => {
  const scheduler = 'lambda:InvokeFunction function:izta-prod-scheduler'
  expect(abilities(sleepy, 'AlarmRole')).toEqual([scheduler, 'sqs:SendMessage DeadLetterQueue.Arn'])
  expect(abilities(sleepy, 'WakeSchedulerPolicy')).toEqual([scheduler])
  expect(abilities(sleepy, 'AlarmPolicy')).toEqual([
    `scheduler:CreateSchedule ${alarmNames}`,
    'iam:PassRole AlarmRole.Arn',
  ])
  expect(JSON.stringify(sleepy['AlarmPolicy'])).toContain('"iam:PassedToService":"scheduler.amazonaws.com"')
  const rolesOf = (policy: string) => sleepy[policy]?.Properties['Roles']
  const refs = (...names: string[]) => names.map((name) => ({ Ref: name }))
  expect(rolesOf('WakeSchedulerPolicy')).toEqual(refs('EnqueueRole', 'RunnerRole', 'FeedsRunnerRole'))
  expect(rolesOf('AlarmPolicy')).toEqual(refs('RunnerRole', 'FeedsRunnerRole', 'SchedulerRole'))
  expect(ofType(sleepy, 'AWS::IAM::Policy')).toHaveLength(2)
  for (const role of ['EnqueueRole', 'RunnerRole', 'FeedsRunnerRole', 'SchedulerRole'])
    expect(abilities(sleepy, role)).toEqual(abilities(prod, role))
})

const runners = ['function:izta-prod-runner', 'function:izta-prod-feeds-runner']
const shared = (logGroup: string) => [
  `logs:CreateLogStream ${logGroup}.Arn`,
  `logs:PutLogEvents ${logGroup}.Arn`,
  'ssm:GetParameter parameter/izta/prod/database-url',
  ...runners.map((name) => `lambda:InvokeFunction ${name}`),
]

test('each role may do exactly this', () => {
  const sendDeadLetters = 'sqs:SendMessage DeadLetterQueue.Arn'
  expect(abilities(prod, 'EnqueueRole')).toEqual([
    ...shared('EnqueueLogGroup'),
    'sqs:SendMessage EnqueueDeadLetterQueue.Arn',
  ])
  expect(abilities(prod, 'RunnerRole')).toEqual(shared('RunnerLogGroup'))
  expect(abilities(prod, 'FeedsRunnerRole')).toEqual(shared('FeedsRunnerLogGroup'))
  expect(abilities(prod, 'SchedulerRole')).toEqual([...shared('SchedulerLogGroup'), sendDeadLetters])
  expect(abilities(prod, 'TickRole')).toEqual([
    'lambda:InvokeFunction SchedulerLambdaFunction.Arn',
    sendDeadLetters,
  ])
  expect(ofType(prod, 'AWS::IAM::Role')).toHaveLength(5)
})

test('a secret of Secrets Manager is read by its ARN alone', () => {
  expect(abilities(dev, 'RunnerRole')).toContain(`secretsmanager:GetSecretValue ${secretArn}`)
  expect(JSON.stringify(dev)).not.toContain('ssm:GetParameter')
})

test('databases of RDS are trusted by the authorities of the image', () => {
  const authorities = (template: Record<string, Resource>) =>
    ofType(template, 'AWS::Lambda::Function').map(
      ([, { Properties }]) =>
        (Properties['Environment'] as { Variables: Record<string, unknown> }).Variables[
          'NODE_EXTRA_CA_CERTS'
        ],
    )
  expect(new Set(authorities(rds))).toEqual(new Set(['/var/runtime/ca-cert.pem']))
  expect(new Set([...authorities(prod), ...authorities(dev)])).toEqual(new Set(['']))
})

test('no concurrency is reserved unless it is asked for', () => {
  const limitOf = (template: Record<string, Resource>) =>
    template['RunnerLambdaFunction']?.Properties['ReservedConcurrentExecutions']
  expect([limitOf(prod), limitOf(dev), limitOf(rds)]).toEqual([undefined, undefined, 5])
})

test('wakes know the runner of every queue that has one', () => {
  for (const [, { Properties }] of ofType(prod, 'AWS::Lambda::Function')) {
    expect(Properties['Environment']).toMatchObject({
      Variables: {
        IZTA_RUNNERS: 'default=izta-prod-runner,feeds=izta-prod-feeds-runner',
        IZTA_DEPLOYED_AT: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      },
    })
  }
})
