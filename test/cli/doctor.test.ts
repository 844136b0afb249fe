// `izta doctor`: each state of an installation that it has to notice, made in a real database.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { createIzta, defineJob, defineSchedule } from 'izta'
import { pgDatabase } from 'izta/pg'
import { createTestClock, drain } from 'izta/testing'
import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { examine, runDoctor } from '../../src/cli/doctor/doctor.ts'
import { gatherDatabaseFacts } from '../../src/cli/doctor/facts.ts'
import type { Finding } from '../../src/cli/doctor/finding.ts'
import { functionChecks } from '../../src/cli/doctor/functions.ts'
import { serverChecks } from '../../src/cli/doctor/server.ts'
import { workChecks } from '../../src/cli/doctor/work.ts'
import { configOf } from '../../src/config.ts'
import { inSchema } from '../../src/db/database.ts'
import { migrate } from '../../src/db/migrate.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { enqueueOnlyStatement } from '../../src/store/enqueue.ts'
import { newTask } from '../store/statements.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, url, connect } = await testDatabase()
const empty = await testDatabase({ migrated: false })
const quiet = { debug() {}, info() {}, warn() {}, error() {} }
const job = defineJob({ id: 'job', run: () => {} })
const throws = defineJob({
  id: 'throws',
  maxAttempts: 1,
  run: () => {
    throw new Error('no such customer')
  },
})
const izta = createIzta({ database, jobs: [job, throws], log: quiet })

// A session reports what it did to a table when it has been idle for a while, unless it is told to.
const reportNow = 'select pg_stat_force_next_flush()'

beforeEach(async () => {
  await pool.query(`truncate izta.task, izta.history, izta.queue, izta.schedule; ${reportNow}`)
})

/** What the doctor finds, by the names of its checks, and its exit code. */
async function doctor(options: { databaseUrl?: string; schema?: string; stack?: string } = {}) {
  let printed = ''
  const code = await runDoctor(
    { databaseUrl: url, ...options, json: true },
    { write: (part) => (printed += part) },
  )
  const findings = JSON.parse(printed) as Finding[]
  return {
    code,
    findings,
    of: (name: string) => findings.filter((finding) => finding.name === name).map(told),
  }
}

const told = ({ level, message }: Finding) => `${level}: ${message}`
const ago = (seconds: number) => new Date(Date.now() - seconds * 1000)

function withParts(
  parts: Partial<Pick<URL, 'username' | 'password' | 'host' | 'search'>>,
  base = url,
): string {
  return Object.assign(new URL(base), parts).href
}

/** A user with a password, and nothing else, who is gone after the test. */
async function newUser({ pool: owner, url: base } = { pool, url }) {
  const name = `izta_user_${randomUUID().slice(0, 8)}`
  await owner.query(`create role ${name} login password 'secret'`)
  // The server of the tests has it off.
  await owner.query(`alter role ${name} set synchronous_commit = on`)
  onTestFinished(async () => {
    await owner.query(`drop owned by ${name} cascade; drop role ${name}`)
  })
  return { name, url: withParts({ username: name, password: 'secret' }, base) }
}

/** A user who may do what izta does. */
async function newRunnerUser() {
  const user = await newUser()
  await pool.query(`
    grant usage on schema izta to ${user.name};
    grant select, insert, update, delete on all tables in schema izta to ${user.name};
    grant execute on all functions in schema izta to ${user.name}`)
  return user
}

describe('a healthy installation', () => {
  test('passes every check', async () => {
    const schema = `healthy_${randomUUID().slice(0, 8)}`
    const owner = await newUser(empty)
    await empty.pool.query(
      `alter role ${owner.name} createrole; grant create on database ${empty.name} to ${owner.name}`,
    )
    const asOwner = pgDatabase(owner.url)
    await migrate(asOwner, { schema, roles: true })
    await asOwner.close?.()
    const roles = ['enqueue', 'run', 'read'].map((role) => `${schema}_${role}`).join()
    onTestFinished(async () => {
      await empty.pool.query(`drop schema ${schema} cascade; drop owned by ${roles}; drop role ${roles}`)
    })
    const user = await newUser(empty)
    await empty.pool.query(`grant ${schema}_run to ${user.name}`)
    const { code, findings, of } = await doctor({ databaseUrl: user.url, schema })
    expect(findings.filter(({ level }) => level !== 'ok')).toEqual([])
    expect(code).toBe(0)
    expect(findings.map(({ name }) => name).join(', ')).toBe(
      'connection, database, version, durability, user, privileges, clock, schema, xmin horizon, dead rows, queues, losses, failures, ticks, schedules, history, connections',
    )
    expect(of('xmin horizon')).toEqual([expect.stringContaining('grant pg_read_all_stats')])
  })

  test('a user whose commits a crash of the server forgets is warned of', async () => {
    const { name, url: databaseUrl } = await newRunnerUser()
    await pool.query(`alter role ${name} set synchronous_commit = off`)
    const { code, of } = await doctor({ databaseUrl })
    expect(of('durability')).toEqual([
      expect.stringMatching(
        /^warning: synchronous_commit is off for .*alter role .* set synchronous_commit = on\.$/,
      ),
    ])
    expect(code).toBe(0)
  })

  test('a warning alone is no failure', async () => {
    const { code, of } = await doctor()
    expect(of('user')).toEqual([
      expect.stringMatching(/^warning: \w+ is a superuser/),
      expect.stringMatching(/^warning: \w+ owns izta's tables and is a superuser/),
    ])
    expect(code).toBe(0)
  })
})

describe('a database that cannot be used', () => {
  test.each([
    ['the line that Neon copies', `psql 'postgres://me:secret@host/app'`, 'begins with the command psql'],
    ['quotation marks', '"postgres://me:secret@host/app"', 'begins with a quotation mark'],
    ['a line break', 'postgres://me:secret@host/app\n', 'ends with a space or a line break'],
    ['JDBC', 'jdbc:postgresql://host/app?password=secret', 'is a JDBC URL'],
    ['the JSON of RDS', '{"username":"me","password":"secret"}', 'is JSON'],
    ['keywords', 'host=db user=me password=secret', 'is a list of keywords'],
    ['the name of a parameter', '/izta/prod/database-url', 'names a secret or a parameter'],
    ['anything else', 'secret', 'is no URL of a Postgres database'],
    ['a password with a slash', 'postgres://me:sec/ret@host/app', 'write characters such as'],
  ])('a connection string that is none is named without its value: %s', async (_, databaseUrl, message) => {
    const { code, findings } = await doctor({ databaseUrl })
    expect(findings).toEqual([
      { name: 'connection', level: 'failure', message: expect.stringContaining(message) },
    ])
    expect(findings[0]?.message).not.toMatch(/secret@|sec\/ret|=secret|"secret"/)
    expect(code).toBe(1)
  })

  test('an address where nothing listens', async () => {
    const { code, of } = await doctor({ databaseUrl: withParts({ host: '127.0.0.1:1' }) })
    expect(of('database')).toEqual([
      expect.stringMatching(/^failure: The database at 127\.0\.0\.1:1\/.* host and port/),
    ])
    expect(code).toBe(1)
  })

  test('a wrong password', async () => {
    const { name } = await newUser()
    const { of } = await doctor({ databaseUrl: withParts({ username: name, password: 'wrong' }) })
    expect(of('database')).toEqual([expect.stringMatching(/^failure: .*password authentication failed/)])
  })

  test('a database that was never migrated, with what to run and who may', async () => {
    const asOwner = await doctor({ databaseUrl: empty.url })
    expect(asOwner.of('schema')).toEqual(['failure: Schema izta is not migrated: run `izta migrate`.'])
    expect(asOwner.code).toBe(1)
    const user = await newUser(empty)
    const { of } = await doctor({ databaseUrl: user.url, schema: 'other' })
    expect(of('schema')).toEqual([
      `failure: Schema other is not migrated: run \`izta migrate --schema other\`. ${user.name} may not create schemas here: do it as the database's owner.`,
    ])
  })

  test('a database that takes no writes', async () => {
    const { of } = await doctor({
      databaseUrl: withParts({ search: '?options=-c%20default_transaction_read_only=on' }),
    })
    expect(of('database')).toContainEqual(expect.stringContaining('failure: The database takes no writes'))
  })
})

describe('connection strings', () => {
  test.each([
    [
      'a remote host without TLS',
      'postgres://me:x@db.example.com/app',
      'warning',
      /no sslmode is given.*verify-full/,
    ],
    [
      'TLS if it pleases',
      'postgres://me:x@db.example.com/app?sslmode=prefer',
      'warning',
      /sslmode=prefer, so/,
    ],
    [
      'Neon, pooled, with channel binding',
      'postgres://me:x@ep-a-pooler.eu.aws.neon.tech/app?channel_binding=require',
      'warning',
      /channel_binding=require/,
    ],
    ['Neon, direct', 'postgres://me:x@ep-a.eu.aws.neon.tech/app', 'ok', /-pooler in its name/],
    ['Neon, pooled', 'postgres://me:x@ep-a-pooler.eu.aws.neon.tech/app', 'ok', /through a pooler/],
    [
      'PgBouncer',
      'postgres://me:x@db.example.com:6432/app?sslmode=verify-full',
      'ok',
      /transaction mode is right/,
    ],
    [
      'Supabase in session mode',
      'postgres://me:x@eu.pooler.supabase.com:5432/app?sslmode=require',
      'warning',
      /take port 6543/,
    ],
  ])('%s', (_, connectionString, level, message) => {
    const findings = examine({ connectionString, schemaName: 'izta', troubles: [] })
    expect(findings).toEqual([{ name: 'connection', level, message: expect.stringMatching(message) }])
  })
})

describe('schema', () => {
  test('a migration that the database lacks', async () => {
    await pool.query(`update izta.migration set name = '0000_moved', id = 90 where id = 3`)
    onTestFinished(async () => {
      await pool.query(`update izta.migration set name = '0003_create_enqueue', id = 3 where id = 90`)
    })
    const { of } = await doctor()
    expect(of('schema')).toEqual(['failure: Schema izta lacks 0003_create_enqueue: run `izta migrate`.'])
  })

  test('a migration that broke off leaves tables out, which is said once', async () => {
    const partly = inSchema(empty.database, 'partly')
    await createIzta({ database: empty.database, jobs: [], schema: 'partly' }).migrate()
    await partly.query({ text: 'drop table izta.schedule', values: [] })
    await partly.query({ text: 'delete from izta.migration where id = 2', values: [] })
    const { findings } = await doctor({ databaseUrl: empty.url, schema: 'partly' })
    expect(findings.filter(({ level }) => level === 'failure').map(told)).toEqual([
      'failure: Schema partly lacks 0002_create_schedules: run `izta migrate --schema partly`.',
    ])
  })

  test.each([
    [false, /^warning: A newer izta has applied 0099_add_more: this version still runs/],
    [true, /^failure: A newer izta has applied 0099_add_more: this version must not run/],
  ])('a newer migration; breaking: %s', async (breaking, message) => {
    await pool.query(
      `insert into izta.migration (id, name, checksum, breaking) values (99, '0099_add_more', '', $1)`,
      [breaking],
    )
    onTestFinished(async () => {
      await pool.query('delete from izta.migration where id = 99')
    })
    const { of } = await doctor()
    expect(of('schema')).toEqual([expect.stringMatching(message)])
  })

  test('a test clock in the database', async () => {
    const other = createIzta({ database: empty.database, jobs: [], schema: 'clocked' })
    await other.migrate()
    await createTestClock({ database: empty.database, schema: 'clocked' })
    const { findings, of } = await doctor({ databaseUrl: empty.url, schema: 'clocked' })
    expect(findings.filter(({ level }) => level === 'failure')).toHaveLength(1)
    expect(of('clock')).toContainEqual(
      expect.stringMatching(/^failure: .* a test clock was made in this database/),
    )
  })
})

describe('user and privileges', () => {
  test('a user with tables of its own elsewhere', async () => {
    const { name, url: databaseUrl } = await newRunnerUser()
    await pool.query(`create schema shop authorization ${name}`)
    const { of } = await doctor({ databaseUrl })
    expect(of('user')).toContainEqual(
      expect.stringContaining(`warning: ${name} also owns shop, besides izta`),
    )
  })

  test('tables of a superuser, with whose rights the functions run', async () => {
    const { url: databaseUrl } = await newRunnerUser()
    const { rows } = await pool.query<{ user: string }>('select current_user as user')
    const { code, of } = await doctor({ databaseUrl })
    expect(of('user')).toEqual([
      expect.stringContaining(`warning: ${rows[0]?.user} owns izta's tables and is a superuser`),
    ])
    expect(code).toBe(0)
  })

  test('missing privileges are named as a grant, once', async () => {
    const { name, url: databaseUrl } = await newRunnerUser()
    await pool.query(`
      revoke update, delete on izta.schedule from ${name};
      revoke select on izta.app from ${name};
      revoke execute on function izta.prune_1(integer), izta.now(), izta.make_ready_1() from ${name}`)
    const { code, findings, of } = await doctor({ databaseUrl })
    expect(of('privileges')).toEqual([
      expect.stringContaining(
        `run: grant execute on function izta.now to "${name}"; grant execute on function izta.prune_1 to "${name}"; grant select on izta.app to "${name}"; grant update, delete on izta.schedule to "${name}"`,
      ),
    ])
    expect(findings.filter(({ level }) => level === 'failure')).toHaveLength(1)
    expect(code).toBe(1)
  })

  describe('members of the roles that izta migrate makes', async () => {
    const schema = `doctor_${randomUUID().slice(0, 8)}`
    const roles = ['enqueue', 'run', 'read'].map((role) => `${schema}_${role}`)
    await migrate(empty.database, { schema, roles: true })
    afterAll(() =>
      empty.pool.query(
        `drop schema ${schema} cascade; drop owned by ${roles.join()}; drop role ${roles.join()}`,
      ),
    )

    test.each([
      [['run'], 'ok: all that izta needs'],
      [['run', 'enqueue'], 'ok: all that izta needs'],
      [['read'], 'ok: USER may only read (SCHEMA_read); what runners need is not examined'],
      [['enqueue'], 'warning: USER may only enqueue (SCHEMA_enqueue) and sees no tasks'],
      [['enqueue', 'read'], 'ok: USER may only enqueue, read (SCHEMA_enqueue, SCHEMA_read)'],
    ])('%j has all that it is for', async (of, expected) => {
      const user = await newUser(empty)
      await empty.pool.query(`grant ${of.map((role) => `${schema}_${role}`).join()} to ${user.name}`)
      const { code, findings, of: about } = await doctor({ databaseUrl: user.url, schema })
      const message = expected.replace('USER', user.name).replaceAll('SCHEMA', schema)
      expect(about('privileges')).toEqual([expect.stringContaining(message)])
      expect(findings.filter(({ level }) => level === 'failure')).toEqual([])
      expect(code).toBe(0)
    })
  })

  test('a schema that may not be used', async () => {
    const { name, url: databaseUrl } = await newUser()
    const { of } = await doctor({ databaseUrl })
    expect(of('privileges')).toEqual([expect.stringContaining(`grant usage on schema izta to "${name}"`)])
  })
})

describe('clocks', () => {
  const clockThat = async (aheadMs: number) => {
    const facts = await gatherDatabaseFacts({ database, schemaName: 'izta', now: () => Date.now() + aheadMs })
    return examine({ ...facts, schemaName: 'izta' })
      .filter(({ name }) => name === 'clock')
      .map(told)
  }

  test('a machine whose clock is off', async () => {
    expect(await clockThat(-60_000)).toEqual([
      expect.stringMatching(/^warning: .* 60\.\d s behind the database's/),
    ])
    expect(await clockThat(600_000)).toEqual([expect.stringMatching(/ahead of .* AWS refuses signed calls/)])
    expect(await clockThat(1000)).toEqual([expect.stringMatching(/^ok: /)])
  })
})

test('a server that is slow, old or never vacuums', async () => {
  const facts = await gatherDatabaseFacts({ database, schemaName: 'izta', now: Date.now })
  const server = { ...facts.server!, version: '13.20', versionNumber: 130_020, vacuums: false }
  const findings = examine({ ...facts, schemaName: 'izta', statementMs: 300, server }).map(told)
  expect(findings).toContainEqual(expect.stringMatching(/^warning: Reached, but a statement takes 300 ms/))
  expect(findings).toContainEqual('failure: PostgreSQL 13.20 is too old: izta needs 14 or newer.')
  expect(findings).toContainEqual(expect.stringMatching(/^failure: autovacuum or track_counts is off/))
})

describe('dead rows and what holds them', () => {
  test('an old transaction is named with its session', async () => {
    const client = await connect()
    await client.query(`set application_name = 'report'; begin isolation level repeatable read; select 1`)
    const facts = await gatherDatabaseFacts({ database, schemaName: 'izta', now: Date.now })
    await client.query('rollback')
    const holders = facts.holders?.map((holder) => ({ ...holder, seconds: 301 })) ?? []
    const found = examine({ ...facts, holders, schemaName: 'izta' }).filter(
      ({ name }) => name === 'xmin horizon',
    )
    expect(found.map(told)).toEqual([
      expect.stringMatching(
        /^warning: The transaction of pid \d+ user \w+ report idle in transaction is 5 min old/,
      ),
    ])
  })

  test.each([
    [
      { kind: 'standby', name: 'pid 7 user replica', seconds: undefined, transactions: 2e6 },
      /hot_standby_feedback/,
    ],
    [{ kind: 'slot', name: 'standby (inactive)', seconds: undefined, transactions: 2e6 }, /drop the slot/],
    [
      { kind: 'prepared', name: `'two'`, seconds: 9000, transactions: 5 },
      /'two' is 3 h old.*rollback prepared/,
    ],
  ] as const)('what else holds the horizon: %o', (holder, message) => {
    const found = examine({ holders: [holder], schemaName: 'izta', troubles: [] })
    expect(found.map(told)).toEqual([expect.stringMatching(message)])
  })

  test('dead rows that an open snapshot keeps', async () => {
    const [writer, reader] = await Promise.all([connect(), connect()])
    await writer.query(`
      insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, created_at)
      select gen_random_uuid(), 'default', 'job', '{}', 5, 3, now(), now(), now() from generate_series(1, 51000)`)
    await reader.query('begin isolation level repeatable read; select 1')
    await writer.query(`delete from izta.task; ${reportNow}`)
    await writer.query('analyze izta.task')
    const { of } = await doctor()
    await reader.query('rollback')
    expect(of('dead rows')).toEqual([
      expect.stringMatching(
        /^warning: izta\.task has 51,\d+ dead rows beside \d live ones?.* vacuum izta\.task$/,
      ),
    ])
  })

  test('a table that takes far more than its rows need', async () => {
    const writer = await connect()
    await writer.query('alter table izta.task alter payload set storage plain')
    onTestFinished(async () => {
      await pool.query('alter table izta.task alter payload set storage extended')
    })
    await writer.query(`
      insert into izta.task (id, queue, job, payload, priority, max_attempts, run_at, due_at, created_at)
      select gen_random_uuid(), 'default', 'job', to_json(repeat('x', 7900)), 5, 3, now(), now(), now()
      from generate_series(1, 9000)`)
    // The row in the last page keeps vacuum from giving the others back.
    await writer.query(`delete from izta.task where ctid <> (select max(ctid) from izta.task); ${reportNow}`)
    await writer.query('vacuum analyze izta.task')
    const { of } = await doctor()
    expect(of('dead rows')).toEqual([
      expect.stringMatching(/^warning: izta\.task takes \d+ MiB for \d rows?: .* vacuum full/),
    ])
  })
})

describe('queues', () => {
  test.each([
    [60, 'ok', /1 task due/],
    [120, 'warning', /"default" has 1 task due, the oldest since 2 min, and nobody claims/],
    [700, 'failure', /"default" has 1 task due, the oldest since 12 min, and nobody claims/],
  ])('a task that is due for %i s and that nobody claims: %s', async (seconds, level, message) => {
    await izta.enqueue(job, undefined, { runAt: ago(seconds) })
    const { code, of } = await doctor()
    expect(of('queues')).toEqual([expect.stringMatching(message)])
    expect(of('queues')[0]).toMatch(new RegExp(`^${level}`))
    expect(code).toBe(level === 'failure' ? 1 : 0)
  })

  test('a queue that runners are too slow for', async () => {
    for (let n = 0; n < 3; n++) await izta.enqueue(job, undefined, { runAt: ago(700) })
    await pool.query(`
      update izta.task set lease = gen_random_uuid(), ready = false, run_at = now() + interval '1 minute'
      where id = (select id from izta.task limit 1)`)
    const { of } = await doctor()
    expect(of('queues')).toEqual([expect.stringMatching(/^warning: .* 2 tasks due, .* allow more of them/)])
  })

  test('a paused queue, with what waits in it', async () => {
    await izta.enqueue(job, undefined, { runAt: ago(5) })
    await izta.queues.pause('default')
    const { of } = await doctor()
    expect(of('queues')).toEqual([expect.stringMatching(/^warning: Queue "default" is paused, 1 task due/)])
  })

  test('a queue that only statements inside transactions have used', async () => {
    await database.query(enqueueOnlyStatement([newTask({ queue: 'mail', runAt: ago(700) })]))
    const { of } = await doctor()
    expect(of('queues')).toEqual([expect.stringContaining('failure: Queue "mail" has 1 task due')])
  })
})

describe('tasks', () => {
  test('a job under which the process dies often', async () => {
    for (let n = 0; n < 3; n++) await izta.enqueue(job)
    await pool.query('update izta.task set losses = 1')
    const { of } = await doctor()
    expect(of('losses')).toEqual([
      expect.stringMatching(/^warning: Job "job": the process died under 3 tasks:/),
    ])
  })

  test('a task that fails with its next loss', async () => {
    await izta.enqueue(job)
    await pool.query('update izta.task set losses = 2')
    const { of } = await doctor()
    expect(of('losses')).toEqual([expect.stringContaining('one of them 2 times, and fails with the next')])
  })

  test('a job whose tasks fail, with the newest reason', async () => {
    await izta.enqueue(throws)
    await izta.enqueue(job)
    await drain(izta)
    const { of } = await doctor()
    expect(of('failures')).toEqual([
      `warning: Job "throws": 1 of 1 task failed within a day, 0 tasks will be tried again: see izta.list({ status: 'failed' }). The last: no such customer`,
    ])
  })

  test('a rare failure is none to talk about', async () => {
    await izta.enqueue(throws)
    await drain(izta)
    await pool.query(`
      insert into izta.history (id, queue, job, status, priority, attempt, max_attempts, losses, claims, created_at,
        due_at, finished_at, expires_at)
      select gen_random_uuid(), queue, job, 'finished', priority, attempt, max_attempts, 0, 1, created_at, due_at,
        finished_at, expires_at
      from izta.history, generate_series(1, 30)`)
    const { of } = await doctor()
    expect(of('failures')).toEqual(['ok: few of the 31 tasks that ended within a day'])
  })

  test('tasks that fail and are tried again', async () => {
    for (let n = 0; n < 10; n++) await izta.enqueue(job)
    await pool.query('update izta.task set attempt = 1')
    const { of } = await doctor()
    expect(of('failures')).toEqual([expect.stringContaining('10 tasks will be tried again')])
  })
})

describe('schedules', () => {
  const schedules = [
    defineSchedule({ name: 'hourly', job, cron: '0 * * * *' }),
    defineSchedule({ name: 'daily', job, cron: '0 3 * * *' }),
  ]
  const overdue = (seconds: number, name = '%') =>
    pool.query(`update izta.schedule set plan_at = now() - $1 * interval '1 second' where name like $2`, [
      seconds,
      name,
    ])
  beforeEach(async () => {
    await createIzta({ database, jobs: [], schedules, log: quiet }).migrate()
    await overdue(-60)
  })

  const ticked = (seconds: number | undefined) =>
    pool.query(`update izta.wake set ticked_at = coalesce(now() - $1 * interval '1 second', '-infinity')`, [
      seconds,
    ])
  afterEach(() => ticked(undefined))

  test.each([
    [300, 'ok', /2 schedules planned/, /^ok: none has come yet/],
    [
      900,
      'warning',
      /without ticks \(see ticks\): "\w+" has waited for at least 15 min/,
      /^warning: No tick has/,
    ],
    [7300, 'failure', /has waited for at least 2 h/, /^failure: No tick has ever come.*scheduler function/],
  ])('no tick for %i s: %s', async (seconds, level, message, ticks) => {
    await overdue(seconds)
    const { of } = await doctor()
    expect(of('schedules')).toEqual([expect.stringMatching(message)])
    expect(of('schedules')[0]).toMatch(new RegExp(`^${level}`))
    expect(of('ticks')).toEqual([expect.stringMatching(ticks)])
  })

  test.each([
    [100, 'ok: the last one came 100 s ago'],
    [
      900,
      expect.stringMatching(/^warning: The last tick came 15 min ago: .* startRunner has scheduler: true/),
    ],
    [7300, expect.stringMatching(/^failure: The last tick came 2 h ago/)],
  ])('the last tick came %i s ago', async (seconds, message) => {
    await ticked(seconds)
    expect((await doctor()).of('ticks')).toEqual([message])
  })

  test('where there is no schedule the last tick is known, and its age is no failure', async () => {
    await pool.query('delete from izta.schedule')
    await tick(configOf(izta))
    expect((await doctor()).of('ticks')).toEqual(['ok: the last one came 0 s ago'])
    await ticked(7300)
    expect((await doctor()).of('ticks')).toEqual([
      expect.stringMatching(/^warning: The last tick came 2 h ago/),
    ])
  })

  test('ticks that come and plan nothing', async () => {
    await overdue(900)
    await ticked(30)
    const { of } = await doctor()
    expect(of('schedules')).toEqual([expect.stringMatching(/^failure: Ticks come, but plan nothing/)])
    expect(of('ticks')).toEqual(['ok: the last one came 30 s ago'])
  })

  test('one schedule that ticks pass over', async () => {
    await overdue(900, 'daily')
    const { of } = await doctor()
    expect(of('schedules')).toEqual([
      expect.stringMatching(/^failure: Schedule "daily" .* while 1 of 2 are planned/),
    ])
  })

  test('those that the last sync of the code could not store or remove, and why', async () => {
    const deployed = (day: number, name: string) =>
      createIzta({
        database,
        jobs: [],
        schedules: [defineSchedule({ name, job, cron: '0 * * * *' })],
        deployedAt: new Date(Date.UTC(2026, 0, day)),
        log: quiet,
      }).migrate()
    await deployed(2, 'hourly')
    await deployed(1, 'former')
    expect((await doctor()).of('schedules')).toEqual([
      expect.stringMatching(
        /^warning: Schedule "former" of the app "izta" was not stored: a newer deployment/,
      ),
      expect.stringMatching(/^warning: Schedule "hourly" .* was not removed: .*deployed 2026-01-02T00:00:00/),
    ])
    await deployed(2, 'hourly')
    expect((await doctor()).of('schedules')).toEqual(['ok: 1 schedule planned'])
    await pool.query(`update izta.schedule set app = null; delete from izta.app`)
    await deployed(2, 'hourly')
    expect((await doctor()).of('schedules')).toEqual([
      expect.stringMatching(/^warning: .* was not stored: schedules.put has made one of this name/),
    ])
    await pool.query('delete from izta.app')
  })

  test('a paused schedule waits for no tick', async () => {
    await overdue(9000, 'daily')
    await izta.schedules.pause('daily')
    const { of } = await doctor()
    expect(of('schedules')).toEqual(['ok: 1 schedule planned, 1 paused'])
  })
})

describe('sleepy mode', () => {
  const now = new Date('2026-11-24T10:00:00Z')
  const at = (minutes: number) => new Date(now.getTime() + minutes * 60_000)
  const stack = {
    name: 'shop-prod',
    runners: [],
    others: [],
    setsAlarms: true,
    accountConcurrency: 1000,
    unreservedConcurrency: 1000,
  }
  const nothing = { now, armedAt: undefined, laterAt: undefined, overdueSince: undefined }
  function alarmOf(
    alarm: { armedAt?: Date; laterAt?: Date; overdueSince?: Date },
    more: Partial<Parameters<typeof examine>[0]> = {},
  ) {
    const facts = { alarm: { ...nothing, ...alarm }, schemaName: 'izta', stack, troubles: [], ...more }
    return examine(facts)
      .filter(({ name }) => name === 'alarm')
      .map(told)
  }
  const running = [{ name: 'default', paused: false, due: 0, oldestSeconds: 0, running: true }]

  test.each([
    ['for what is due next', { armedAt: at(30), laterAt: at(30) }, 'set for 2026-11-24 10:30 UTC'],
    ['that is going off', { armedAt: at(-1), laterAt: at(30) }, 'set for 2026-11-24 09:59 UTC'],
    [
      'for tasks that nobody takes',
      { armedAt: at(20), overdueSince: at(-40) },
      'set for 2026-11-24 10:20 UTC',
    ],
    ['that nothing needs', {}, 'nothing is planned, so none is needed'],
    ['that a runner is there for', { laterAt: at(1) }, 'nothing is planned, so none is needed'],
  ])('an alarm %s', (_, alarm, message) => {
    expect(alarmOf(alarm)).toEqual([`ok: ${message}`])
  })

  test.each([
    ['never set', { laterAt: at(30) }, /is due 2026-11-24 10:30 UTC, but no alarm was ever set/],
    [
      'gone off without a successor',
      { armedAt: at(-60), laterAt: at(30) },
      /the last alarm was for 2026-11-24 09:00 UTC/,
    ],
    [
      'later than a slot',
      { armedAt: at(60), laterAt: at(30) },
      /is due 2026-11-24 10:30 UTC, but the alarm is set for 2026-11-24 11:00 UTC: only the sweep/,
    ],
    [
      'missing for what is due already',
      { armedAt: at(-60), overdueSince: at(-50) },
      /has been due since 2026-11-24 09:10 UTC, but .* Invoke the scheduler once/,
    ],
  ])('an alarm that is %s', (_, alarm, message) => {
    expect(alarmOf(alarm)).toEqual([expect.stringMatching(message)])
    expect(alarmOf(alarm)[0]).toMatch(/^warning/)
    expect(alarmOf(alarm, { queues: running })).toEqual([
      'ok: runners are at work, and set it when they leave',
    ])
  })

  test('in steady mode there is no alarm to speak of', () => {
    expect(alarmOf({ laterAt: at(30) }, { stack: { ...stack, setsAlarms: false } })).toEqual([])
    expect(alarmOf({ armedAt: at(-60), laterAt: at(30) }, { stack: undefined })).toEqual([])
  })

  test('no tick is missed where none comes', async () => {
    const daily = defineSchedule({ name: 'daily', job, cron: '0 3 * * *' })
    await createIzta({ database, jobs: [], schedules: [daily], log: quiet }).migrate()
    await pool.query(`update izta.schedule set plan_at = now() - interval '15 minutes'`)
    await pool.query(`update izta.wake set armed_at = now() + interval '1 hour'`)
    onTestFinished(async () => {
      await pool.query(`update izta.wake set armed_at = '-infinity'`)
    })
    await izta.enqueue(job, undefined, { runAt: ago(700) })
    const { of } = await doctor()
    expect(of('schedules')).toEqual([
      expect.stringMatching(
        /^warning: No alarm has invoked the scheduler: "daily" has waited for at least 15 min/,
      ),
    ])
    expect(of('queues')).toEqual([expect.stringContaining('that the alarm is set (see alarm)')])
    expect(of('alarm')).toEqual([expect.stringMatching(/^ok: set for \d{4}-\d\d-\d\d \d\d:\d\d UTC$/)])
  })
})

describe('functions and their connections', () => {
  const runner = {
    name: 'shop-prod-runner',
    timeoutSeconds: 300,
    runtime: 'nodejs24.x',
    queues: [],
    reservedConcurrency: 10,
  }
  const scheduler = { ...runner, name: 'shop-prod-scheduler', reservedConcurrency: undefined }
  const stackOf = (
    ...runners: (
      typeof runner | (Omit<typeof runner, 'reservedConcurrency'> & { reservedConcurrency: undefined })
    )[]
  ) => ({
    name: 'shop-prod',
    runners,
    others: [scheduler],
    setsAlarms: false,
    accountConcurrency: 1000,
    unreservedConcurrency: 900,
  })
  async function connectionsOf(
    stack: ReturnType<typeof stackOf> | undefined,
    server: object,
    connectionString?: string,
  ) {
    const facts = await gatherDatabaseFacts({ database, schemaName: 'izta', now: Date.now })
    const known = {
      ...facts.server!,
      connections: 97,
      ownConnections: undefined,
      usedConnections: 12,
      ...server,
    }
    return examine({ ...facts, server: known, stack, connectionString, schemaName: 'izta' })
      .filter(({ name }) => name === 'connections')
      .map(told)
  }

  test('all functions at full load fit into the server', async () => {
    expect(await connectionsOf(stackOf(runner), {})).toEqual([
      'ok: 12 invocations at once × 5 of each pool = 60 at full load, of 97 connections that the server has',
    ])
    expect(await connectionsOf(undefined, {})).toEqual(['ok: 12 of 97 in use'])
  })

  test('the quota of the account, with what is reserved of it and who shares the rest', () => {
    const findings = examine({ stack: stackOf(runner, scheduler), schemaName: 'izta', troubles: [] })
    expect(findings.filter(({ name }) => name === 'functions').map(told)).toEqual([
      "ok: 2 runners, 10 of the account's 1,000 invocations reserved for them; shop-prod-scheduler may use all of 900",
    ])
  })

  test('more runners than the server has connections for', async () => {
    expect(await connectionsOf(stackOf(runner, runner), {})).toEqual([
      expect.stringMatching(
        /^warning: .* more than the 97 connections .*22 invocations at once × 5 of each pool = 110\): lower maxRunners/,
      ),
    ])
  })

  test('runners without a limit, which may use up the account', async () => {
    expect(await connectionsOf(stackOf({ ...runner, reservedConcurrency: undefined }), {})).toEqual([
      expect.stringMatching(/^warning: .*902 invocations.* = 4510\): set maxRunners of shop-prod-runner,/),
    ])
  })

  test('a limit of the user counts, connections in use are told', async () => {
    expect(await connectionsOf(stackOf(runner), { ownConnections: 20 })).toEqual([
      expect.stringMatching(/more than the 20 connections that \w+ may have in this database/),
    ])
    expect(await connectionsOf(undefined, { usedConnections: 90 })).toEqual([
      expect.stringMatching(/^warning: 90 of 97 connections are in use/),
    ])
  })

  test('behind a pooler the functions share', async () => {
    const pooled = 'postgres://me:x@db.example.com:6432/app?sslmode=verify-full'
    expect(await connectionsOf(stackOf(runner, runner), {}, pooled)).toEqual([
      expect.stringMatching(/^ok: a pooler/),
    ])
  })

  test('the limits are read from the server and the user', async () => {
    const { name, url: databaseUrl } = await newRunnerUser()
    await pool.query(`alter role ${name} connection limit 3`)
    const patient = pgDatabase(databaseUrl)
    onTestFinished(() => patient.close?.())
    const { server } = await gatherDatabaseFacts({ database: patient, schemaName: 'izta', now: Date.now })
    const { rows } = await pool.query<{ most: string }>(`select current_setting('max_connections') as most`)
    expect(server?.ownConnections).toBe(3)
    expect(server?.connections).toBe(Number(rows[0]?.most) - 3)
    expect(server?.usedConnections).toBeGreaterThan(0)
  })
})

test('a history that nobody prunes', async () => {
  await izta.enqueue(job)
  await drain(izta)
  await pool.query(`update izta.history set expires_at = now() - interval '3 days'`)
  const { of } = await doctor()
  expect(of('history')).toEqual([expect.stringMatching(/^warning: Pruning is behind: 1 row .* since 3 days/)])
})

test('docs/doctor.md has exactly the checks, in their order', () => {
  const page = readFileSync(new URL('../../docs/doctor.md', import.meta.url), 'utf8')
  const documented = [...page.matchAll(/^\| `([a-z ]+)` /gm)].map(([, name]) => name)
  expect(documented).toEqual([
    'connection',
    ...Object.keys(serverChecks),
    ...Object.keys(workChecks),
    ...Object.keys(functionChecks),
  ])
})

test('lines are coloured on a terminal only', async () => {
  let printed = ''
  await runDoctor({ databaseUrl: 'nonsense' }, { write: (part) => (printed += part) })
  expect(printed).toMatch(/^✖ connection {2}The connection string is no URL .*\n$/)
})

describe('the command', { timeout: 60_000 }, async () => {
  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
  const entry = new URL('../../src/index.ts', import.meta.url).href

  async function run(words: string[], environment: Record<string, string> = {}) {
    const child = spawn(process.execPath, [main, 'doctor', ...words], {
      env: { PATH: process.env['PATH'], ...environment },
    })
    const code = new Promise((resolve) => child.once('close', resolve))
    const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
    return { code: await code, stdout, stderr }
  }

  test('no database is wrong usage', async () => {
    expect(await run([])).toMatchObject({ code: 2, stderr: expect.stringContaining('set DATABASE_URL') })
  })

  test('an izta instance brings its database, its schema and its jobs along', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'izta-doctor-test-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const instance = join(folder, 'izta.ts')
    const adapter = new URL('../../src/adapters/pg.ts', import.meta.url).href
    await writeFile(
      instance,
      `import { createIzta, defineJob } from '${entry}'
       import { pgDatabase } from '${adapter}'
       const job = defineJob({ id: 'job', timeoutSeconds: 30, run() {} })
       export const izta = createIzta({ database: pgDatabase('${url}'), schema: 'other', jobs: [job] })`,
    )
    const { code, stdout } = await run(['--jobs', instance])
    expect(stdout).toMatch(/✖ schema +Schema other is not migrated/)
    expect(stdout).toMatch(/✔ timeouts +1 job, the longest 30 s/)
    expect(code).toBe(1)
  })

  test('compares the jobs of a file with the functions of a stack', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'izta-doctor-test-'))
    onTestFinished(() => rm(folder, { recursive: true }))
    const jobs = join(folder, 'jobs.ts')
    await writeFile(
      jobs,
      `import { defineJob } from '${entry}'
       export const jobs = [
         defineJob({ id: 'long', timeoutSeconds: 120, run() {} }),
         defineJob({ id: 'longer', timeoutSeconds: 900, run() {} }),
         defineJob({ id: 'astray', queue: 'mail', run() {} }),
       ]`,
    )
    const answers: Record<string, unknown> = {
      '/2015-03-31/functions?MaxItems=50': {
        Functions: [
          {
            FunctionName: 'shop-prod-enqueue',
            Timeout: 30,
            Runtime: 'nodejs20.x',
            Environment: { Variables: { IZTA_ALARM_ROLE: '' } },
          },
          { FunctionName: 'shop-prod-website', Timeout: 30, Runtime: 'python3.13' },
          { FunctionName: 'other-runner', Timeout: 3 },
        ],
        NextMarker: 'next',
      },
      '/2015-03-31/functions?MaxItems=50&Marker=next': {
        Functions: [
          {
            FunctionName: 'shop-prod-runner',
            Timeout: 300,
            Runtime: 'nodejs24.x',
            Environment: { Variables: { IZTA_QUEUES: 'default' } },
          },
          {
            FunctionName: 'shop-prod-feeds',
            Timeout: 120,
            Environment: { Variables: { IZTA_QUEUES: 'feeds' } },
          },
        ],
      },
      '/2019-09-30/functions/shop-prod-enqueue/concurrency': {},
      '/2019-09-30/functions/shop-prod-runner/concurrency': {},
      '/2019-09-30/functions/shop-prod-feeds/concurrency': { ReservedConcurrentExecutions: 0 },
      '/2016-08-19/account-settings': {
        AccountLimit: { ConcurrentExecutions: 10, UnreservedConcurrentExecutions: 10 },
      },
    }
    const aws = createServer((request, response) => {
      const answer = answers[request.url ?? '']
      response.writeHead(answer === undefined ? 404 : 200).end(JSON.stringify(answer ?? { url: request.url }))
    })
    await new Promise<void>((ready) => aws.listen(0, '127.0.0.1', ready))
    onTestFinished(() => void aws.close())
    const environment = {
      DATABASE_URL: url,
      AWS_ENDPOINT_URL: `http://127.0.0.1:${(aws.address() as AddressInfo).port}`,
      AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
    }

    const withStack = await run(
      ['--jobs', jobs, '--stack', 'shop-prod', '--region', 'eu-central-1'],
      environment,
    )
    expect(withStack).toMatchObject({ code: 1, stderr: '' })
    expect(
      withStack.stdout.split('\n').filter((line) => /^. (timeouts|functions|runtime|connections)/.test(line)),
    ).toEqual([
      expect.stringMatching(
        /^✖ timeouts +Job "longer" .* shop-prod-runner has 300 s and refuses to start: raise/,
      ),
      expect.stringMatching(
        /^✖ timeouts +Job "astray" waits in queue "mail", which no function of shop-prod runs/,
      ),
      expect.stringMatching(/^✖ functions +shop-prod-feeds has a reserved concurrency of 0/),
      expect.stringMatching(/^! functions +The account runs 10 invocations at once/),
      expect.stringMatching(/^✖ runtime +shop-prod-enqueue has the runtime nodejs20\.x, which is too old/),
      expect.stringMatching(/^✔ connections +12 invocations at once × 5 of each pool = 60 at full load/),
    ])
    expect(withStack.stdout).not.toContain('\u001B')

    const alone = await run(['--jobs', jobs], environment)
    expect(alone.code).toBe(0)
    expect(alone.stdout).toMatch(
      /! timeouts +Job "longer" may run 900 s .* no Lambda function has more than 900 s/,
    )

    const elsewhere = await run(['--stack', 'shop-dev', '--region', 'eu-central-1'], environment)
    expect(elsewhere.stdout).toMatch(/✖ functions +No function shop-dev-… .* check the name of the stack/)

    const keyless = await run(['--stack', 'shop-dev', '--region', 'eu-central-1'], { DATABASE_URL: url })
    expect(keyless).toMatchObject({
      code: 1,
      stdout: expect.stringMatching(/✖ functions +No AWS credentials: set/),
    })
  })
})
