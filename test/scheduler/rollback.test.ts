// Which deployment's schedules are stored: the newest one's, until it has been silent for a while.
import { createIzta, defineJob, defineSchedule, type IztaOptions, type Schedule } from 'izta'
import { createTestClock } from 'izta/testing'
import { beforeEach, describe, expect, test } from 'vitest'
import { configOf } from '../../src/config.ts'
import { defaults } from '../../src/defaults.ts'
import { tick } from '../../src/scheduler/tick.ts'
import { nextAlarmStatement, readNextAlarm } from '../../src/store/due.ts'
import { onConnection, pidOf, untilBlockedBy } from '../store/statements.ts'
import { testDatabase } from '../support/database.ts'

const { database, pool, connect } = await testDatabase()
const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
const job = defineJob({ id: 'job', run: () => {} })
const silence = { seconds: defaults.schedule.silenceSeconds }
let logged: string[] = []
const note = (message: string) => void logged.push(message)
const log = { debug() {}, info() {}, warn: note, error: note }

const hourly = (name: string) => defineSchedule({ name, job, every: { hours: 1 } })
const deployment = (day: number | undefined, schedules: Schedule[], options: Partial<IztaOptions> = {}) => {
  const deployedAt = day === undefined ? undefined : new Date(Date.UTC(2029, 0, day))
  const izta = createIzta({ database, jobs: [job], schedules, deployedAt, clock, log, ...options })
  return Object.assign(izta, { tick: () => tick(configOf(izta)) })
}
const kept = hourly('kept')
const onlyInOld = hourly('only-in-old')
const onlyInNew = hourly('only-in-new')
async function stored(): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>('select name from izta.schedule order by name')
  return rows.map(({ name }) => name)
}
async function tasks(): Promise<string[]> {
  const { rows } = await pool.query<{ schedule: string }>('select schedule from izta.task order by schedule')
  return rows.map(({ schedule }) => schedule)
}

beforeEach(async () => {
  await pool.query('truncate izta.task, izta.history, izta.schedule, izta.app, izta.queue')
  logged = []
})

describe('after a rollback', () => {
  test('the schedules of the code that ticks come back once the newer deployment has been silent, and no sooner', async () => {
    const older = deployment(1, [kept, onlyInOld])
    const newer = deployment(2, [kept, onlyInNew])
    await older.tick()
    await newer.tick()
    expect(await stored()).toEqual(['kept', 'only-in-new'])
    for (let minute = 1; minute < defaults.schedule.silenceSeconds / 60; minute++) {
      await clock.advance({ minutes: 1 })
      await older.tick()
      expect(await stored()).toEqual(['kept', 'only-in-new'])
    }
    await clock.advance({ minutes: 1 })
    await older.tick()
    expect(await stored()).toEqual(['kept', 'only-in-old'])
    expect(await tasks()).toEqual(['kept', 'only-in-old'])
  })

  test('a deployment of the newer code takes its place at once, and an even older one does not', async () => {
    await deployment(3, [onlyInNew]).tick()
    await clock.advance(silence)
    await deployment(2, [kept]).tick()
    expect(await stored()).toEqual(['kept'])
    await deployment(1, [onlyInOld]).tick()
    expect(await stored()).toEqual(['kept'])
    await deployment(3, [onlyInNew]).tick()
    expect(await stored()).toEqual(['only-in-new'])
  })

  test('the older deployment says once which schedules it could neither store nor remove, and why', async () => {
    const older = deployment(1, [kept, onlyInOld])
    await older.tick()
    await deployment(2, [kept, onlyInNew]).tick()
    logged = []
    // A process of its own, as after a rollback.
    const again = deployment(1, [kept, onlyInOld])
    for (let minute = 0; minute < 5; minute++) await again.tick()
    expect(logged).toEqual([
      expect.stringMatching(/^Schedule "only-in-old" of the app "izta" was not stored: a newer deployment/),
      expect.stringMatching(/^Schedule "only-in-new" of the app "izta" was not removed: a newer deployment/),
    ])
    expect(await again.migrate()).toMatchObject({
      schedules: {
        stored: ['kept'],
        leftOut: [
          { name: 'only-in-old', reason: 'newer-deployment' },
          { name: 'only-in-new', reason: 'not-removed' },
        ],
      },
    })
  })

  test('in sleepy mode an alarm wakes the older deployment when the newer one may be gone', async () => {
    const next = async () => {
      const { rows } = await pool.query<Record<string, string>>(nextAlarmStatement.text)
      return readNextAlarm(rows).laterAt
    }
    await deployment(2, []).tick()
    const seenAt = clock.date.getTime()
    expect(await next()).toBeUndefined()
    await clock.advance({ minutes: 1 })
    await deployment(1, [kept]).tick()
    expect(await next()).toEqual(new Date(seenAt + silence.seconds * 1000))
    await clock.advance(silence)
    await deployment(1, []).tick()
    expect(await next()).toBeUndefined()
  })
})

describe('while both deployments live', () => {
  test('for hours, the older one changes nothing', async () => {
    const older = deployment(1, [kept, onlyInOld])
    const newer = deployment(2, [kept, onlyInNew])
    await newer.tick()
    for (let minute = 0; minute < 180; minute += 5) {
      await clock.advance({ minutes: 5 })
      await older.tick()
      expect(await stored()).toEqual(['kept', 'only-in-new'])
      await newer.tick()
    }
  })

  test('an older one that waited for the newer one to commit changes nothing', async () => {
    await deployment(1, [onlyInOld]).migrate()
    await clock.advance(silence)
    const syncing = await connect()
    await syncing.query('begin')
    await deployment(3, [onlyInNew], { database: onConnection(syncing) }).tick()
    const waiting = deployment(2, [kept]).tick()
    await untilBlockedBy(pool, await pidOf(syncing))
    await syncing.query('commit')
    await waiting
    expect(await stored()).toEqual(['only-in-new'])
  })

  test('one of unknown age is taken for the newest, and does not keep another alive', async () => {
    await deployment(2, [onlyInNew]).tick()
    await clock.advance(silence)
    await deployment(undefined, [kept]).tick()
    expect(await stored()).toEqual(['kept'])
    await deployment(1, [onlyInOld]).tick()
    expect(await stored()).toEqual(['only-in-old'])
  })
})
