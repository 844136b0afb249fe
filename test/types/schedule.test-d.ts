// What the types of defineSchedule take and refuse.
import { describe, expectTypeOf, test } from 'vitest'
import { z } from 'zod'
import { defineJob } from '../../src/job/job.ts'
import { defineSchedule, type Schedule } from '../../src/job/schedule.ts'

const report = defineJob({
  id: 'report',
  payload: z.object({ to: z.string(), copies: z.number().default(1) }),
})
const lenient = defineJob({ id: 'lenient', payload: z.object({ to: z.string() }).optional() })
const sweep = defineJob({ id: 'sweep' })

describe('a schedule', () => {
  test('takes the input of its job’s payload schema', () => {
    const schedule = defineSchedule({ name: 'a', job: report, payload: { to: 'x' }, cron: '@daily' })
    expectTypeOf(schedule.payload).toEqualTypeOf<{ to: string; copies?: number | undefined }>()
    expectTypeOf(schedule).toExtend<Schedule>()
    // @ts-expect-error -- `to` is a string
    defineSchedule({ name: 'a', job: report, payload: { to: 5 }, cron: '@daily' })
    // @ts-expect-error -- the payload is missing
    defineSchedule({ name: 'a', job: report, cron: '@daily' })
  })

  test('needs no payload where the schema allows undefined, and takes none where there is no schema', () => {
    const without = defineSchedule({ name: 'a', job: lenient, every: { hours: 1 } })
    expectTypeOf(without.payload).toEqualTypeOf<{ to: string } | undefined>()
    defineSchedule({ name: 'a', job: lenient, payload: { to: 'x' }, every: { hours: 1 } })
    expectTypeOf(defineSchedule({ name: 'a', job: sweep, every: { hours: 1 } }).payload).toBeUndefined()
    // @ts-expect-error -- the job takes no payload
    defineSchedule({ name: 'a', job: sweep, payload: 1, every: { hours: 1 } })
  })

  test('takes exactly one of cron and every, each with its own options', () => {
    expectTypeOf(
      defineSchedule({ name: 'a', job: sweep, cron: '@daily', timeZone: 'UTC' }),
    ).toExtend<Schedule>()
    // @ts-expect-error -- neither
    defineSchedule({ name: 'a', job: sweep })
    // @ts-expect-error -- both
    defineSchedule({ name: 'a', job: sweep, cron: '@daily', every: { hours: 1 } })
    // @ts-expect-error -- an interval counts real time
    defineSchedule({ name: 'a', job: sweep, every: { hours: 1 }, timeZone: 'UTC' })
    // @ts-expect-error -- an anchor belongs to an interval
    defineSchedule({ name: 'a', job: sweep, cron: { hour: 6 }, anchor: new Date(0) })
    // @ts-expect-error -- unknown option
    defineSchedule({ name: 'a', job: sweep, cron: { hour: 6 }, timezone: 'UTC' })
  })
})
