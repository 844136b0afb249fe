// A clock for tests: izta's time in the database and in Node, moved together.
import type { Clock } from '../clock.ts'
import { bindSchema, type Database } from '../db/database.ts'
import { throughGate } from '../db/gated.ts'
import { defaults } from '../defaults.ts'
import { OptionError } from '../errors.ts'
import { flag } from '../store/encode.ts'

/** A span of time; the parts add up. */
export interface Span {
  days?: number | undefined
  hours?: number | undefined
  minutes?: number | undefined
  seconds?: number | undefined
  milliseconds?: number | undefined
}

/** Stands still until it is moved. Pass it to `createIzta({ clock })`. */
export interface TestClock extends Clock {
  /** The instant that the database and the instance agree on. */
  readonly date: Date
  /** Moves on; timers that become due fire in order, each at its own instant. */
  advance(span: Span): Promise<void>
  /** Moves on to an instant that is not earlier. */
  advanceTo(instant: Date): Promise<void>
}

export interface TestClockOptions {
  database: Database
  /** @default 'izta' */
  schema?: string | undefined
  /** Where the clock starts. @default 2030-01-01T00:00:00Z */
  at?: Date | undefined
  /**
   * Called with each instant that the clock is set to, the first one included: makes `new Date()` in handlers follow,
   * with the fake timers of the test runner. @default nothing: `Date` stays real
   */
  onMove?: ((date: Date) => unknown) | undefined
}

// Test databases only: from now on every due time, lease and slot of this database follows the row.
const replaceNow = `
do $clock$
begin
  create table if not exists izta.test_clock (at timestamptz not null);
  delete from izta.test_clock;
  insert into izta.test_clock values ('epoch');
  create or replace function izta.now() returns timestamptz language sql stable parallel safe
    as 'select at from izta.test_clock';
end
$clock$`
// A test's database may have tasks under its clock already; one that is used otherwise has them under its own.
const isUsed = `
select (exists (select from izta.task) or exists (select from izta.history))
  and not exists (
    select from pg_proc p where p.oid = 'izta.now()'::regprocedure and p.prosrc like '%test_clock%') as used`
const setNow = `update izta.test_clock set at = $1::timestamptz`

/**
 * Makes a clock that stands still, for izta: in the database, by replacing the function `izta.now()` for good (only in a
 * database made for the test), and in the instance that gets it. Due times, delays, retries, schedules, leases and
 * timeouts of handlers follow it. `new Date()` and `setTimeout` in handlers and the `now()` of your own SQL stay real;
 * `onMove` lets fake timers move `Date` along.
 *
 * @throws {OptionError} when the database has tasks already, from before any test clock.
 *
 * @example
 * ```ts
 * const clock = await createTestClock({ database, at: new Date('2030-01-01T00:00:00Z') })
 * const izta = createIzta({ database, jobs, clock })
 * await izta.enqueue(remind, { userId }, { delaySeconds: 3600 })
 * await clock.advance({ hours: 1 })
 * await drain(izta) // runs it
 * ```
 *
 * @example
 * ```ts
 * vi.useFakeTimers({ toFake: ['Date'] }) // of vitest
 * const clock = await createTestClock({ database, onMove: (date) => vi.setSystemTime(date) })
 * ```
 */
export async function createTestClock(options: TestClockOptions): Promise<TestClock> {
  const { schema = defaults.schema, at = new Date('2030-01-01T00:00:00Z'), onMove } = options
  const database = throughGate(options.database)
  const ask = (text: string, ...values: string[]) =>
    database.query({ lane: 'quick', text: bindSchema(text, schema), values })
  let nowMs = at.getTime()
  const timers = new Set<{ atMs: number; callback: () => void }>()

  async function write(instant: Date): Promise<void> {
    await ask(setNow, instant.toISOString())
    onMove?.(instant)
  }

  async function advanceTo(instant: Date): Promise<void> {
    const targetMs = instant.getTime()
    if (!(targetMs >= nowMs))
      throw new RangeError(`The clock stands at ${new Date(nowMs).toISOString()} and cannot go back.`)
    for (;;) {
      const next = [...timers].toSorted((a, b) => a.atMs - b.atMs).find((timer) => timer.atMs <= targetMs)
      if (next === undefined) break
      timers.delete(next)
      if (next.atMs > nowMs) {
        nowMs = next.atMs
        await write(new Date(nowMs))
      }
      next.callback()
      await new Promise((resolve) => setImmediate(resolve))
    }
    nowMs = targetMs
    await write(instant)
  }

  const [row] = await ask(isUsed)
  if (flag(row ?? {}, 'used')) {
    throw new OptionError(
      'database',
      `createTestClock: the schema "${schema}" of this database has tasks, which a clock that stands still would stop for ever: use a database made for the test.`,
    )
  }
  await ask(replaceNow)
  await write(at)
  return {
    now: () => nowMs,
    after(ms, callback) {
      const timer = { atMs: nowMs + Math.max(0, ms), callback }
      timers.add(timer)
      return () => timers.delete(timer)
    },
    get date() {
      return new Date(nowMs)
    },
    advanceTo,
    advance: ({ days = 0, hours = 0, minutes = 0, seconds = 0, milliseconds = 0 }) =>
      advanceTo(
        new Date(nowMs + (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + milliseconds),
      ),
  }
}
