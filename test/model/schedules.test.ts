// Random sequences of moves of schedules, compared after each with a model in memory; and the model notices each break.
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Database } from '../../src/db/database.ts'
import { testDatabase } from '../support/database.ts'
import { scheduleFollower, scheduleMove } from './schedule-moves.ts'
import { followAll, timeoutMs } from './sequences.ts'

const own = await testDatabase()
const follow = await scheduleFollower(own)

test(
  'whatever is asked of schedules, each slot has one task or none, as the model says',
  () => followAll(scheduleMove, { maxLength: 30, runs: 60 }, follow),
  timeoutMs,
)

/** Breaks of single statements, each of a kind that has occurred or could. */
const breaks: readonly { readonly what: string; readonly from: string; readonly to: string }[] = [
  {
    what: 'slots that were made ahead escape the policy for missed ones',
    from: 'where g.waiting_kept is not null),',
    to: 'where false and g.waiting_kept is not null),',
  },
  {
    what: 'no tick is late',
    from: `plan_at < izta.now() - $3::float8 * interval '1 second' as late`,
    to: `false and plan_at < izta.now() - $3::float8 * interval '1 second' as late`,
  },
  {
    what: 'tasks that waited before an outage count as missed',
    from: 't.slot > l.planned_at and t.slot <= g.planned_at',
    to: 't.slot <= g.planned_at',
  },
  {
    what: 'a newer deployment holds the schedules for ever',
    from: 'app.seen_at <= izta.now() -',
    to: `app.seen_at <= '-infinity'::timestamptz -`,
  },
  {
    what: 'an older deployment undoes a newer one that lives',
    from: 'app.deployed_at <= excluded.deployed_at',
    to: 'true',
  },
  {
    what: 'newer zone data moves nothing',
    from: '(zone_data < $4::text',
    to: '((false and zone_data < $4::text)',
  },
  {
    what: 'older zone data makes slots beside newer data',
    from: '(zone_data is null or zone_data <= $4::text',
    to: '(true or zone_data <= $4::text',
  },
  {
    what: 'tasks of moved slots stay',
    from: 'where g.replaced),',
    to: 'where false and g.replaced),',
  },
  {
    what: 'the cursor is advanced without a comparison',
    from: 'and g.was_made_until = s.made_until',
    to: '',
  },
  {
    what: 'a changed definition keeps the tasks of the old one',
    from: 'delete from izta.task t\n  where t.schedule in (select l.name from locked l) and t.slot is not null',
    to: 'delete from izta.task t\n  where false and t.slot is not null',
  },
]

describe('the model notices when', () => {
  const sequence = fc.array(scheduleMove, { minLength: 10, maxLength: 40, size: 'max' })
  test.each(breaks)(
    '$what',
    async ({ from, to }) => {
      let broken = 0
      const database: Database = {
        ...own.database,
        query(statement) {
          if (!statement.text.includes(from)) return own.database.query(statement)
          broken++
          return own.database.query({ ...statement, text: statement.text.replace(from, () => to) })
        },
      }
      const found = await fc.check(
        fc.asyncProperty(sequence, (moves) => follow(moves, database)),
        { numRuns: 300, endOnFailure: true },
      )
      expect(broken).toBeGreaterThan(0)
      expect(found.failed).toBe(true)
      // By what the database holds, not because the broken statement is refused.
      expect(found.errorInstance).toMatchObject({ name: 'AssertionError' })
    },
    timeoutMs,
  )
})
