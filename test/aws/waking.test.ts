// Sleepy mode: only what is armed goes off. A simulated EventBridge and Lambda drive the real handlers.
import { createIzta, defineJob, defineSchedule, type Clock, type Database, type Logger } from 'izta'
import { AwsError, alarmWake, createRunnerHandler, createSchedulerHandler, invokeWake } from 'izta/lambda'
import { createTestClock, type TestClock } from 'izta/testing'
import { beforeEach, expect, test } from 'vitest'
import * as z from 'zod'
import type { AwsApi, AwsRequest } from '../../src/aws/api.ts'
import { defaults } from '../../src/defaults.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool } = await testDatabase()
const start = new Date('2030-01-01T12:00:20Z')
let clock: TestClock
beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.queue, izta.schedule, izta.app')
  await pool.query(`update izta.wake set armed_at = '-infinity'`)
  clock = await createTestClock({ database, at: start })
})

const quiet: Logger = { debug() {}, info() {}, warn() {}, error() {} }
const note = defineJob({ id: 'note', payload: z.string(), run: () => {} })
const sixHourly = defineSchedule({ name: 'six-hourly', job: note, payload: 'slot', cron: '0 */6 * * *' })
const fiveMinutes = { getRemainingTimeInMillis: () => 300_000 }

interface WorldOptions {
  readonly schedules?: boolean
  /** Node's clock; the process's own where handlers pause. */
  readonly clock?: Clock
  /** Runs before the call has its effect. */
  readonly before?: (request: AwsRequest) => Promise<void> | void
}

/** One deployment: its functions, its alarms, and AWS between them. Node's clock is real, the database's is not. */
function deploy({ schedules = false, clock: own, before = () => {} }: WorldOptions = {}) {
  const statements: string[] = []
  const counting: Database = {
    query(statement) {
      statements.push(statement.text)
      return database.query(statement)
    },
  }
  const alarms = new Map<string, Date>()
  const steps: string[] = []
  const invocations: string[] = []
  const api: AwsApi = async (request) => {
    await before(request)
    const name = request.path.split('/').at(-1) ?? ''
    if (request.service === 'lambda') {
      const [, invoked = ''] = /functions\/(\w+)\/invocations/.exec(request.path) ?? []
      steps.push(`invoke ${invoked}`)
      invocations.push(invoked)
      return { status: 202, body: undefined }
    }
    if (alarms.has(name)) throw new AwsError('taken', { status: 409, type: 'ConflictException' })
    const { ScheduleExpression } = request.body as { ScheduleExpression: string }
    alarms.set(name, new Date(`${/at\((.*)\)/.exec(ScheduleExpression)?.[1]}Z`))
    steps.push(`alarm ${alarms.get(name)?.toISOString().slice(11, 16)}`)
    return { status: 200, body: undefined }
  }
  const izta = createIzta({
    database: counting,
    jobs: [note],
    schedules: schedules ? [sixHourly] : [],
    log: quiet,
    clock: own,
    wake: invokeWake({ runners: { '*': 'runner' }, scheduler: 'scheduler', api }),
  })
  const alarm = alarmWake({ group: 'app', target: 'arn:scheduler', role: 'arn:role', api })
  const functions: Record<string, () => Promise<unknown>> = {
    runner: () => createRunnerHandler({ izta, alarm, lingerSeconds: 0 })({}, fiveMinutes),
    scheduler: createSchedulerHandler({ izta, alarm, lingerSeconds: 0 }),
  }
  /** Invocations that were asked for, and those they ask for. */
  async function deliver(): Promise<void> {
    for (let name = invocations.shift(); name !== undefined; name = invocations.shift())
      await functions[name]?.()
  }
  /** What EventBridge Scheduler does meanwhile: alarms go off in their minute and are gone. */
  async function pass(minutes: number): Promise<void> {
    const until = clock.date.getTime() + minutes * 60_000
    for (;;) {
      const [first] = [...alarms].toSorted(([, a], [, b]) => a.getTime() - b.getTime())
      if (first === undefined || first[1].getTime() > until) break
      const [name, at] = first
      if (at > clock.date) await clock.advanceTo(at)
      alarms.delete(name)
      invocations.push('scheduler')
      await deliver()
    }
    await clock.advanceTo(new Date(until))
  }
  return { izta, api, alarm, alarms, statements, steps, functions, deliver, pass }
}

const armedAt = async () => {
  const { rows } = await pool.query<{ at: string }>('select armed_at::text as at from izta.wake')
  return rows[0]?.at === '-infinity' ? undefined : new Date(rows[0]?.at ?? '').toISOString().slice(11, 16)
}
const at = (time: string) => new Date(`2030-01-01T${time}Z`)
const minutesOf = (alarms: ReadonlyMap<string, Date>) =>
  [...alarms.values()].map((instant) => instant.toISOString().slice(11, 16)).toSorted()

test('an idle hour in sleepy mode sends no statement, with work for later or without', async () => {
  const world = deploy({ schedules: true })
  await world.functions['scheduler']?.()
  await world.izta.enqueue(note, 'at half past two', { runAt: at('14:30:00') })
  await world.deliver()
  expect(minutesOf(world.alarms)).toEqual(['14:30', '18:00'])
  world.statements.length = 0
  await world.pass(60)
  expect(world.statements).toEqual([])

  await world.pass(120)
  expect(await world.izta.counts({ since: start })).toMatchObject({ default: { finished: 1 } })
  expect(minutesOf(world.alarms)).toEqual(['18:00'])
  world.statements.length = 0
  await world.pass(60)
  expect(world.statements).toEqual([])
  await world.pass(180)
  expect(await world.izta.counts({ since: start })).toMatchObject({ default: { finished: 2, pending: 1 } })
})

test('where nothing is due and nothing planned, no alarm is set', async () => {
  const world = deploy()
  await world.functions['scheduler']?.()
  await world.functions['runner']?.()
  expect([...world.alarms]).toEqual([])
  expect(await armedAt()).toBe(undefined)
})

test('one task costs its alarm, its run and one look after it, and then nothing', async () => {
  const world = deploy()
  await world.izta.enqueue(note, 'later', { runAt: at('13:00:00') })
  await world.deliver()
  world.steps.length = 0
  world.statements.length = 0
  await world.pass(24 * 60)
  expect(world.steps).toEqual(['invoke runner', 'alarm 13:01'])
  // Two ticks of 4, a run of 3 that prunes as well, and after each a look at what is next; one alarm is recorded.
  expect(world.statements).toHaveLength(2 * 4 + 3 + 1 + 3 + 1)
  expect([...world.alarms]).toEqual([])
})

test('an idle hour in steady mode sends 252 statements: 60 ticks of four, and every ten minutes a sync of two', async () => {
  const world = deploy({ schedules: true, clock })
  const tick = createSchedulerHandler({ izta: world.izta })
  await tick()
  world.statements.length = 0
  for (let minute = 1; minute <= 60; minute++) {
    await clock.advance({ minutes: 1 })
    await tick()
  }
  expect(world.statements).toHaveLength(60 * 4 + 6 * 2)
})

test('an enqueue for later wakes the scheduler only when no alarm goes off before', async () => {
  const world = deploy()
  await world.izta.enqueue(note, 'first', { runAt: at('13:10:30') })
  expect(world.steps).toEqual(['invoke scheduler'])
  await world.deliver()
  expect(world.steps).toEqual(['invoke scheduler', 'alarm 13:10'])
  world.statements.length = 0
  await world.izta.enqueueMany(note, ['same minute', 'later'], { runAt: at('13:10:01') })
  await world.izta.enqueue(note, 'much later', { delaySeconds: 86_400 })
  expect(world.statements).toHaveLength(2)
  expect(world.steps).toEqual(['invoke scheduler', 'alarm 13:10'])
  await world.izta.enqueue(note, 'earlier', { runAt: at('13:09:59') })
  await world.deliver()
  expect(world.steps.slice(2)).toEqual(['invoke scheduler', 'alarm 13:09'])
  expect(await armedAt()).toBe('13:09')
})

test('an alarm that is about to go off is not relied upon', async () => {
  const world = deploy()
  await world.izta.enqueue(note, 'first', { runAt: at('13:00:00') })
  await world.deliver()
  await clock.advanceTo(at('12:59:56'))
  world.steps.length = 0
  await world.izta.enqueue(note, 'second', { runAt: at('13:00:10') })
  await world.deliver()
  expect(world.steps).toEqual(['invoke scheduler', 'alarm 13:01'])
  await world.izta.enqueue(note, 'third', { runAt: at('13:00:10') })
  expect(world.steps).toHaveLength(2)
})

test('SQL and TypeScript agree on the margin of alarms, and a late call trusts no mark before the last look', async () => {
  const { rows } = await pool.query<{ margin: number; late: string }>(`
    select date_part('epoch', izta.alarm_margin()) as margin,
      (select prosrc from pg_proc where oid = 'izta.is_late_1'::regproc) as late`)
  expect(rows[0]?.margin).toBe(defaults.alarm.marginSeconds)
  const [, lateMs] = /interval '(\d+) ms'/.exec(rows[0]?.late ?? '') ?? []
  expect(Number(lateMs)).toBeGreaterThan(0)
  expect(Number(lateMs)).toBeLessThan(defaults.runner.lastLookMs)
})

test('of two that arm at once the earlier alarm is recorded, whoever comes last', async () => {
  const atGate: (() => void)[] = []
  const both = Promise.withResolvers<void>()
  const world = deploy({
    async before({ service }) {
      if (service !== 'scheduler') return
      const gate = Promise.withResolvers<void>()
      atGate.push(gate.resolve)
      if (atGate.length === 2) both.resolve()
      await gate.promise
    },
  })
  await world.izta.enqueue(note, 'late', { runAt: at('13:05:00') })
  const late = world.functions['scheduler']?.()
  while (atGate.length === 0) await new Promise((resolve) => setImmediate(resolve))
  // Committed after the first has looked, and before its alarm is recorded.
  await world.izta.enqueue(note, 'early', { runAt: at('13:02:00') })
  expect(world.steps).toEqual(['invoke scheduler', 'invoke scheduler'])
  const early = world.functions['scheduler']?.()
  await both.promise
  expect(await armedAt()).toBe(undefined)
  atGate[1]?.()
  await early
  expect(await armedAt()).toBe('13:02')
  atGate[0]?.()
  await late
  expect(await armedAt()).toBe('13:02')
  expect(minutesOf(world.alarms)).toEqual(['13:02', '13:05'])
})

test('what is recorded exists: an alarm that cannot be set is not recorded, and its scheduler fails', async () => {
  let broken = true
  const refusal = new AwsError('no', { status: 500, type: 'InternalServerException' })
  const world = deploy({
    before({ service }) {
      if (service === 'scheduler' && broken) throw refusal
    },
  })
  await world.izta.enqueue(note, 'later', { runAt: at('13:00:00') })
  await expect(world.functions['scheduler']?.()).rejects.toBe(refusal)
  expect(await armedAt()).toBe(undefined)
  world.steps.length = 0
  await world.izta.enqueue(note, 'also later', { runAt: at('14:00:00') })
  expect(world.steps).toEqual(['invoke scheduler'])
  // Lambda invokes it again.
  broken = false
  await world.deliver()
  expect([await armedAt(), minutesOf(world.alarms)]).toEqual(['13:00', ['13:00']])
})

test('a runner that cannot set the alarm wakes the scheduler to do it', async () => {
  let failures = 1
  const world = deploy({
    before({ service }) {
      if (service === 'scheduler' && failures-- > 0)
        throw new AwsError('no', { status: 503, type: 'ServiceUnavailable' })
    },
  })
  await world.izta.enqueue(note, 'now')
  await world.deliver()
  expect(world.steps).toEqual(['invoke runner', 'invoke scheduler'])
  await world.izta.enqueue(note, 'later', { runAt: at('13:00:00') })
  await world.deliver()
  expect(minutesOf(world.alarms)).toEqual(['13:00'])
})

test('a schedule that is put or resumed wakes the scheduler, which sets the alarm for its next slot', async () => {
  const world = deploy()
  await world.izta.schedules.put(sixHourly)
  expect(world.steps).toEqual(['invoke scheduler'])
  await world.deliver()
  expect(minutesOf(world.alarms)).toEqual(['18:00'])
  await world.izta.schedules.pause('six-hourly')
  await world.pass(24 * 60)
  world.steps.length = 0
  await world.izta.schedules.resume('six-hourly')
  expect(world.steps).toEqual(['invoke scheduler'])
  await world.deliver()
  expect([...world.alarms]).not.toEqual([])
})

test('a database that cannot be asked is asked again by an alarm', async () => {
  const world = deploy()
  const broken: Database = { query: () => Promise.reject(new Error('gone')) }
  const izta = createIzta({ database: broken, jobs: [note], log: quiet })
  await expect(createSchedulerHandler({ izta, alarm: world.alarm })()).rejects.toThrow('gone')
  const [instant] = world.alarms.values()
  expect(instant?.getTime()).toBeGreaterThanOrEqual(Date.now() + 299_000)
})

test('paused queues and schedules set no alarm, and resuming does', async () => {
  const world = deploy()
  await world.izta.enqueue(note, 'due')
  await world.izta.enqueue(note, 'later', { runAt: at('13:00:00') })
  await world.izta.queues.pause('default')
  await world.deliver()
  expect([...world.alarms]).toEqual([])
  await world.izta.queues.resume('default')
  await world.deliver()
  expect(minutesOf(world.alarms)).toEqual(['12:02'])
})

test('what stays due is looked at less and less often, and hides nothing else', async () => {
  const world = deploy()
  world.functions['runner'] = async () => {}
  await world.izta.enqueue(note, 'nobody works on it')
  await world.functions['scheduler']?.()
  const looks: string[] = []
  for (let count = 0; count < 8; count++) {
    looks.push(...minutesOf(world.alarms))
    const [next = clock.date] = world.alarms.values()
    await world.pass(Math.ceil((next.getTime() - clock.date.getTime()) / 60_000))
  }
  expect(looks).toEqual(['12:02', '12:04', '12:08', '12:16', '12:32', '13:04', '14:04', '15:04'])
})

test('the lease of a runner that died is seen by the one that follows it', async () => {
  const world = deploy()
  await world.izta.enqueue(note, 'taken by a runner that died')
  await pool.query(`
    update izta.task set ready = false, lease = gen_random_uuid(), claims = 1, run_at = izta.now() + interval '4 minutes'`)
  // Lambda's second try of its event.
  await world.functions['runner']?.()
  expect(minutesOf(world.alarms)).toEqual(['12:04'])
  await world.pass(10)
  expect(await world.izta.counts({ since: start })).toMatchObject({ default: { finished: 1 } })
})

test('a leaving runner sets the alarm for what others and its own tasks have put off', async () => {
  const world = deploy()
  const parent = defineJob({
    id: 'parent',
    run: (_, ctx) => ctx.enqueue(note, 'child', { runAt: at('12:40:00') }),
  })
  const izta = createIzta({ database, jobs: [parent, note], log: quiet })
  await izta.enqueue(parent)
  await createRunnerHandler({ izta, alarm: world.alarm, lingerSeconds: 0 })({}, fiveMinutes)
  expect(await armedAt()).toBe('12:02')
  await world.pass(10)
  expect(minutesOf(world.alarms)).toEqual(['12:40'])
})

test('each alarm is a schedule that fires once, in the group, at the minute that its name says', async () => {
  const requests: AwsRequest[] = []
  const world = deploy({ before: (request) => void requests.push(request) })
  await world.alarm.set(at('13:05:00'))
  await world.alarm.set(at('13:05:00'))
  expect(requests).toHaveLength(2)
  expect(requests[0]).toMatchObject({
    service: 'scheduler',
    method: 'POST',
    path: '/schedules/alarm-20300101T1305',
    body: {
      GroupName: 'app',
      ScheduleExpression: 'at(2030-01-01T13:05:00)',
      ScheduleExpressionTimezone: 'UTC',
      FlexibleTimeWindow: { Mode: 'OFF' },
      ActionAfterCompletion: 'DELETE',
      Target: { Arn: 'arn:scheduler', RoleArn: 'arn:role' },
    },
  })
})

test('options of the handlers are checked', () => {
  const { izta } = deploy()
  expect(() => createSchedulerHandler({ izta, alarm: {} as never })).toThrow('option "alarm"')
  expect(() => createSchedulerHandler({ izta, lingerSeconds: 901 })).toThrow('option "lingerSeconds"')
  expect(() => createRunnerHandler({ izta, lingerSeconds: -1 })).toThrow('option "lingerSeconds"')
})
