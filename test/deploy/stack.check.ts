// Deploys this repository with osls to the emulator, uses it as an application would, changes it and removes it.
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { AwsClient } from 'aws4fetch'
import { createIzta, type Logger } from 'izta'
import { pgDatabase } from 'izta/pg'
import { createRemoteIzta } from 'izta/remote'
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { startPostgres } from '../../src/local/postgres.ts'
import { credentials, pythonProgram, region, run, startEmulator } from './emulator.ts'
import { block, greet, jobs, minutely, probe } from './jobs.ts'
import { triggers, type Call } from './triggers.ts'

const repository = fileURLToPath(new URL('../..', import.meta.url))
const service = join(repository, '.izta/deploy-test')
const stage = 'dev'
const name = (key: string) => `izta-${stage}-${key}`
const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }

const postgres = await startPostgres()
const emulator = await startEmulator()
const { endpoint } = emulator
const aws = { endpoint, region, credentials }
const izta = createIzta({ database: pgDatabase(postgres.url), jobs, log: quiet })
const remote = createRemoteIzta({ ...aws, functionName: name('enqueue'), jobs })

let hasFailed = false
afterEach(({ task }) => {
  hasFailed ||= task.result?.state === 'fail'
})
beforeAll(async () => {
  await izta.migrate()
  await copyRepository()
  // The parameter that the operator makes before the first deployment.
  const parameter = { Name: `/izta/${stage}/database-url`, Type: 'SecureString', Value: postgres.url }
  await call('ssm', '/', { target: 'AmazonSSM.PutParameter', body: parameter })
  await serverless('deploy')
})
afterAll(async () => {
  if (hasFailed) console.error(emulator.log().slice(-20_000))
  await izta.close()
  await emulator.stop()
  await postgres.stop()
})

/** What a user has, with the jobs of this test and a runner whose timeout is short enough to be waited for. */
async function copyRepository(): Promise<void> {
  await rm(service, { recursive: true, force: true })
  await mkdir(service, { recursive: true })
  const parts = ['functions', 'infra', 'src', 'serverless.yml']
  await Promise.all(parts.map((part) => cp(join(repository, part), join(service, part), { recursive: true })))
  await rm(join(service, 'functions/jobs'), { recursive: true })
  await mkdir(join(service, 'functions/jobs'))
  await cp(join(repository, 'test/deploy/jobs.ts'), join(service, 'functions/jobs/index.ts'))
  await writeFile(join(service, 'functions/jobs/schedules.ts'), "export { schedules } from './index.ts'\n")
  await change('serverless.yml', 'timeout: 120', 'timeout: 12')
}

async function change(file: string, from: string, to: string): Promise<void> {
  const path = join(service, file)
  const text = await readFile(path, 'utf8')
  expect(text).toContain(from)
  await writeFile(path, text.replace(from, to))
}

async function serverless(...words: string[]): Promise<string> {
  const program = join(repository, 'node_modules/.bin/serverless')
  const parameters = ['--stage', stage, '--region', region, '--param', 'tickRate=rate(1 minute)']
  const env = {
    PATH: `${join(process.execPath, '..')}:/usr/bin:/bin`,
    HOME: service,
    ...emulator.environment,
  }
  const { stdout, stderr } = await run(program, [...words, ...parameters], { cwd: service, env })
  return stdout + stderr
}

const call: Call = async (aService, path, { method, target, headers, body, form } = {}) => {
  const client = new AwsClient({ ...credentials(), region, service: aService, retries: 0 })
  const sent = form === undefined ? body && JSON.stringify(body) : new URLSearchParams(form).toString()
  const type = form === undefined ? 'application/x-amz-json-1.1' : 'application/x-www-form-urlencoded'
  const response = await client.fetch(`${endpoint}${path}`, {
    method: method ?? (sent === undefined ? 'GET' : 'POST'),
    headers: {
      'content-type': type,
      ...(target === undefined ? {} : { 'x-amz-target': target }),
      ...headers,
    },
    ...(sent === undefined ? {} : { body: String(sent) }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`${aService} ${path} answered ${response.status}: ${text}`)
  return text
}

const finished = { status: 'finished' }

/** What cfn-lint says of a template; nothing is good. */
async function lint(template: string, ...ignored: string[]): Promise<string> {
  const words = [
    '--regions',
    region,
    ...ignored.flatMap((check) => ['--ignore-checks', check]),
    '--',
    template,
  ]
  const { stdout } = await run(await pythonProgram('cfn-lint'), words).catch(
    (error: unknown) => error as { stdout: string },
  )
  return stdout
}

test('the template passes cfn-lint', async () => {
  // W3005: osls lets a function depend on its role, which the reference to it does already.
  const template = join(service, '.serverless/cloudformation-template-update-stack.json')
  expect(await lint(template, 'W3005')).toBe('')
})

test('the SAM template of docs/deploying.md passes cfn-lint', async () => {
  const page = await readFile(join(repository, 'docs/deploying.md'), 'utf8')
  const [, text = ''] = /```yaml\n(Transform: .*?)```/s.exec(page) ?? []
  expect(text).toContain('AWS::Serverless::Function')
  const template = join(service, 'sam.yml')
  await writeFile(template, text)
  expect(await lint(template)).toBe('')
})

test('a task enqueued by a direct invocation is run by the deployed runner and read back typed', async () => {
  const { id, created } = await remote.enqueue(greet, { name: 'Ada' })
  expect(created).toBe(true)
  const task = await izta.wait(greet, id, { timeoutSeconds: 20 })
  expect(task).toMatchObject({ ...finished, result: { greeting: 'Hello Ada' }, attempt: 1 })
})

test('tasks enqueued through the signed function URL are run, and an unsigned request is refused', async () => {
  const configuration = JSON.parse(await call('lambda', `/2021-10-31/functions/${name('enqueue')}/url`)) as {
    FunctionUrl: string
    AuthType: string
  }
  expect(configuration.AuthType).toBe('AWS_IAM')
  // The host name leads out of the emulator, which takes the id in the path as well.
  const [id] = new URL(configuration.FunctionUrl).hostname.split('.')
  const url = `${endpoint}/_aws/lambda-url/${id}/`
  const unsigned = await fetch(url, { method: 'POST', body: '{"tasks":[]}' })
  expect(unsigned.status).toBe(403)
  const byUrl = createRemoteIzta({ ...aws, url, jobs })
  const tasks = await byUrl.enqueueMany(greet, [{ name: 'Grace' }, { name: 'Edsger' }])
  const ended = await Promise.all(tasks.map((task) => izta.wait(greet, task.id, { timeoutSeconds: 20 })))
  expect(ended).toMatchObject([
    { result: { greeting: 'Hello Grace' } },
    { result: { greeting: 'Hello Edsger' } },
  ])
})

test('a refusal of the deployed function has its class', async () => {
  const stranger = createRemoteIzta({
    ...aws,
    functionName: name('enqueue'),
    jobs: [{ ...greet, id: 'stranger' }],
  })
  await expect(stranger.enqueue({ ...greet, id: 'stranger' }, { name: '' })).rejects.toMatchObject({
    name: 'UnknownJobError',
    jobId: 'stranger',
  })
})

for (const { name: by, send } of triggers({ call, endpoint, functionName: name('enqueue') })) {
  test(`a request by ${by} is stored and run`, async () => {
    const id = crypto.randomUUID()
    const tasks = [{ job: greet.id, payload: { name: by }, options: { id } }]
    const answer = await send({ tasks })
    if (answer !== undefined) {
      expect(answer).toEqual({ status: 202, body: JSON.stringify({ tasks: [{ id, created: true }] }) })
    }
    await expect.poll(() => izta.get(greet, id), { timeout: 30_000 }).toBeDefined()
    const task = await izta.wait(greet, id, { timeoutSeconds: 20 })
    expect(task).toMatchObject({ ...finished, result: { greeting: `Hello ${by}` } })
  })
}

test('an asynchronous request that is wrong ends in the queue of dead letters, with the reason, and is stored when it is sent again after it was mended', async () => {
  const sqs = (fields: Record<string, string>) =>
    call('sqs', '/', { form: { Version: '2012-11-05', ...fields } })
  const found = await sqs({ Action: 'GetQueueUrl', QueueName: name('enqueue-dead-letters') })
  const [, QueueUrl = ''] = /<QueueUrl>(.*?)<\/QueueUrl>/.exec(found) ?? []
  const headers = { 'x-amz-invocation-type': 'Event' }
  const path = `/2015-03-31/functions/${name('enqueue')}/invocations`
  await call('lambda', path, { headers, body: { tasks: [{ job: 'grete', payload: { name: 'Hedy' } }] } })
  let body = ''
  const receive = async () => {
    const received = await sqs({ Action: 'ReceiveMessage', QueueUrl })
    body = /<Body>(.*?)<\/Body>/s.exec(received)?.[1]?.replaceAll('&quot;', '"') ?? ''
    return body
  }
  await expect.poll(receive, { timeout: 20_000 }).toContain('there is no job with the id')
  const letter = JSON.parse(body.replaceAll('grete', 'greet')) as object
  const answer = JSON.parse(await call('lambda', path, { body: letter })) as { tasks: { id: string }[] }
  const task = await izta.wait(greet, answer.tasks[0]?.id ?? '', { timeoutSeconds: 20 })
  expect(task).toMatchObject({ ...finished, result: { greeting: 'Hello Hedy' } })
})

let blocked: string
test('a task that blocks its process is started by the runner of its own queue', async () => {
  blocked = (await remote.enqueue(block)).id
  await expect.poll(async () => (await izta.get(block, blocked))?.status, { timeout: 20_000 }).toBe('running')
})

test('the roles allow what the functions do, and nothing else', async () => {
  const invoke = (key: string) =>
    ({ service: 'lambda', path: `/2015-03-31/functions/${name(key)}/invocations` }) as const
  const calls = [
    invoke('runner'),
    invoke('enqueue'),
    invoke('scheduler'),
    { service: 'scheduler', path: '/schedules' },
    { service: 'ssm', path: '/', target: 'AmazonSSM.GetParameter' },
  ] as const
  const { id } = await remote.enqueue(probe, { calls: [...calls] })
  const task = await izta.wait(probe, id, { timeoutSeconds: 20 })
  expect(task.status === 'finished' && task.result).toEqual([
    'allowed',
    ...Array.from({ length: 4 }, () => expect.stringMatching(/AccessDenied/)),
  ])
})

test('a runner killed by its timeout loses the task, which is run again and finishes', async () => {
  const task = await izta.wait(block, blocked, { timeoutSeconds: 110 })
  expect(task).toMatchObject({ ...finished, result: { losses: 1, attempt: 1 } })
})

test('a schedule fires through the deployed scheduler', async () => {
  const ended = async () => (await izta.list({ job: minutely, status: 'finished' }).next()).done
  await expect.poll(ended, { timeout: 119_000, interval: 500 }).toBe(false)
})

test('the doctor finds nothing wrong with the deployed installation', async () => {
  // What the template says of it the emulator does not apply.
  const limit = { method: 'PUT', body: { ReservedConcurrentExecutions: 10 } }
  for (const key of ['runner', 'feeds-runner'])
    await call('lambda', `/2017-10-31/functions/${name(key)}/concurrency`, limit)
  const words = ['doctor', '--json', '--stack', `izta-${stage}`, '--jobs', 'functions/jobs/index.ts']
  const { stdout } = await run(process.execPath, [join(repository, 'src/cli/main.ts'), ...words], {
    cwd: service,
    env: { ...emulator.environment, DATABASE_URL: postgres.url },
  })
  const findings = JSON.parse(stdout) as { name: string; level: string; message: string }[]
  expect(findings.filter(({ level }) => level === 'failure')).toEqual([])
  const told = (about: string) => findings.find((finding) => finding.name === about)
  expect(told('functions')).toMatchObject({
    level: 'ok',
    message: expect.stringContaining('2 runners, 20 of'),
  })
  expect(told('timeouts')).toMatchObject({ level: 'ok', message: expect.stringContaining('4 jobs') })
  expect(told('runtime')).toMatchObject({ level: 'ok', message: 'nodejs24.x' })
  expect(told('connections')).toMatchObject({ message: expect.stringContaining('24 invocations at once') })
})

test('a function whose role lacks an action is refused, and says so', async () => {
  const role = {
    RoleName: (await rolesOfStack()).find((roleName) => roleName.includes('EnqueueRole')) ?? '',
    PolicyName: 'enqueue',
  }
  const version = { Version: '2010-05-08' }
  const before = await call('iam', '/', { form: { Action: 'GetRolePolicy', ...version, ...role } })
  const document = decodeURIComponent(
    /<PolicyDocument>(.*?)<\/PolicyDocument>/s.exec(before)?.[1] ?? '',
  ).replaceAll('&quot;', '"')
  const lacking = document.replace('ssm:GetParameter', 'ssm:GetParameterHistory')
  expect(lacking).not.toBe(document)
  const put = (text: string) =>
    call('iam', '/', { form: { Action: 'PutRolePolicy', ...version, ...role, PolicyDocument: text } })
  await put(lacking)
  await restart('enqueue')
  await expect(remote.enqueue(greet, { name: 'Nobody' })).rejects.toMatchObject({
    name: 'DatabaseAccessError',
    code: 'database-secret',
  })
  await put(document)
  await restart('enqueue')
  expect(await remote.enqueue(greet, { name: 'Barbara' })).toMatchObject({ created: true })
})

/** Environments that are warm have the secret already: another variable makes new ones. */
async function restart(key: string): Promise<void> {
  const path = `/2015-03-31/functions/${name(key)}/configuration`
  const { Environment } = JSON.parse(await call('lambda', path)) as { Environment: { Variables: object } }
  const Variables = { ...Environment.Variables, RESTARTED_AT: `${Date.now()}` }
  await call('lambda', path, { method: 'PUT', body: { Environment: { Variables } } })
}

async function rolesOfStack(): Promise<string[]> {
  const text = await call('iam', '/', { form: { Action: 'ListRoles', Version: '2010-05-08' } })
  return [...text.matchAll(/<RoleName>(.*?)<\/RoleName>/g)]
    .map(([, role]) => role ?? '')
    .filter((role) => role.includes('izta'))
}

test('a deployment of what is deployed already changes nothing', async () => {
  expect(await serverless('deploy')).toContain('No changes to deploy')
})

test('a second deployment with a changed job takes effect and loses nothing', async () => {
  const early = await remote.enqueueMany(
    greet,
    Array.from({ length: 20 }, (_, index) => ({ name: `${index}` })),
    { delaySeconds: 3 },
  )
  await change('functions/jobs/index.ts', 'Hello ${name}', 'Good day ${name}')
  await serverless('deploy')
  const { id } = await remote.enqueue(greet, { name: 'Alan' })
  expect(await izta.wait(greet, id, { timeoutSeconds: 20 })).toMatchObject({
    result: { greeting: 'Good day Alan' },
  })
  const ended = await Promise.all(early.map((task) => izta.wait(greet, task.id, { timeoutSeconds: 100 })))
  expect(ended.every((task) => task.status === 'finished' && task.attempt === 1)).toBe(true)
})

async function alarms(): Promise<string[]> {
  const { Schedules } = JSON.parse(await call('scheduler', '/schedules')) as {
    Schedules: { Name: string }[]
  }
  return Schedules.map((schedule) => schedule.Name)
}

const alarmAt = (instant: Date) => `alarm-${instant.toISOString().slice(0, 16).replaceAll(/[-:]/g, '')}`

test('in sleepy mode a task of the future is started by its alarm, which is gone then', async () => {
  await izta.schedules.pause('every-minute')
  // The emulator takes every schedule for one of the group `default`.
  await change('infra/sleepy.yml', 'schedule/${self:service}-${sls:stage}/alarm-', 'schedule/default/alarm-')
  await serverless('deploy', '--param', 'mode=sleepy', '--param', 'sweepRate=0')
  // Far enough that its minute has not begun when the alarm is set.
  const runAt = new Date(Date.now() + 75_000)
  const { id } = await remote.enqueue(greet, { name: 'Margaret' }, { runAt })
  const alarm = alarmAt(runAt)
  await expect.poll(alarms, { timeout: 20_000 }).toEqual([alarm])
  const task = await izta.wait(greet, id, { timeoutSeconds: 119 })
  expect(task).toMatchObject({ ...finished, result: { greeting: expect.stringContaining('Margaret') } })
  // The emulator looks for alarms every ten seconds; a runner that is there earlier waits.
  const lateMs = 'finishedAt' in task ? task.finishedAt.getTime() - runAt.getTime() : -1
  expect(lateMs).toBeGreaterThanOrEqual(0)
  expect(lateMs).toBeLessThan(20_000)
  // What is left is the look after the run, which is removed with its group.
  expect(await alarms()).not.toContain(alarm)
})

test('serverless remove leaves nothing, not even the alarm of a task that is still to come', async () => {
  const runAt = new Date(Date.now() + 86_400_000)
  const { id } = await remote.enqueue(greet, { name: 'Radia' }, { runAt })
  // Its own, or that of the look after the last run, which sees to it then.
  await expect.poll(alarms, { timeout: 20_000 }).not.toEqual([])
  await serverless('remove')
  expect(await alarms()).toEqual([])
  // The database is not of the stack: what waits there starts when izta is deployed again.
  expect(await izta.get(greet, id)).toMatchObject({ status: 'pending' })
  const left = {
    functions: await call('lambda', '/2015-03-31/functions/'),
    schedules: await call('scheduler', '/schedules'),
    groups: await call('scheduler', '/schedule-groups'),
    roles: (await rolesOfStack()).join(),
    queues: await call('sqs', '/', { form: { Action: 'ListQueues', Version: '2012-11-05' } }),
    alarms: await call('monitoring', '/', { form: { Action: 'DescribeAlarms', Version: '2010-08-01' } }),
    logs: await call('logs', '/', { target: 'Logs_20140328.DescribeLogGroups', body: {} }),
    buckets: await call('s3', '/'),
  }
  const withRemains = Object.entries(left).filter(([, text]) => text.includes(`izta-${stage}`))
  expect(withRemains).toEqual([])
})
